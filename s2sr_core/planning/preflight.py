"""What can be checked before any work starts."""

from __future__ import annotations

from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.sources.cdse import client
from s2sr_core.sources.cdse.query import read_manifest
from s2sr_core.sources.cdse.settings import Credentials
from s2sr_core.workspace import Workspace


def check(parameters: RunParameters) -> None:
    """Look at the gridcells, at the manifest where one is needed, and at the account where bytes are.

    Raises
    ------
    InputError
        For the first thing that is wrong.
    """
    choose_gridcells(parameters)
    if parameters.source is not None or parameters.stage == "composite":
        return
    client.endpoints()
    if parameters.stage == "download":
        read_manifest(Workspace(parameters.work_dir).query_manifest)
    if parameters.stage != "query":
        Credentials.from_environment()
