"""Selecting gridcells."""

from __future__ import annotations

from prefect import task

from s2sr_core.cells.gridcells import Gridcell, write_gridcells
from s2sr_core.files import written_beside
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.workspace import Workspace
from tasks.settings import COMMON, INDEX_TIMEOUT


@task(name="select-gridcells", tags={"s2sr", "select"}, **COMMON, **INDEX_TIMEOUT)
def select_gridcells(parameters: RunParameters) -> list[Gridcell]:
    """The cells that share area with the box, written to ``indices/selected_gridcells.csv``."""
    cells = choose_gridcells(parameters)
    with written_beside(Workspace(parameters.work_dir).selected_gridcells) as path:
        write_gridcells(cells, path)
    return cells
