"""What can be checked before any work starts."""

from __future__ import annotations

import logging
from typing import Any

from s2sr_core.geo.jp2_check import image_drivers
from s2sr_core.machine import check_machine
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import choose_gridcells, outside_area_of_use
from s2sr_core.selection.query_manifest import read_query_manifest
from s2sr_core.sources.source import Source
from s2sr_core.workspace import Workspace

logger = logging.getLogger(__name__)


def check_inputs(parameters: RunParameters, source: Source[Any]) -> None:
    """Look at the machine, at the gridcells, at the manifest if the run needs one, and at what ``source`` needs.

    Raises
    ------
    InputError
        For the first thing that is wrong.
    InstallationError
        If PROJ has no database, or images of products cannot be read right.
    """
    check_machine()
    if parameters.stage != "query":
        image_drivers()
    cells = choose_gridcells(parameters)
    if outside := outside_area_of_use(parameters.crs, cells):
        logger.warning("%s: distances and areas there are distorted", outside)
    if parameters.stage == "download":
        read_query_manifest(Workspace(parameters.work_dir).query_manifest)
    source.check(parameters.stage)
