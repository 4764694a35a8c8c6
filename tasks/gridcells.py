"""Selecting gridcells."""

from __future__ import annotations

from prefect import task

from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.files import written_atomically
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.run_context import RunContext
from tasks.settings import COMMON, INDEX_TIMEOUT


@task(name="select-gridcells", tags={"s2sr", "select"}, **COMMON, **INDEX_TIMEOUT)
def select_gridcells(context: RunContext) -> list[Gridcell]:
    """The cells that share area with the box, written to ``indices/selected_gridcells.csv``."""
    cells = choose_gridcells(context.parameters)
    with written_atomically(context.workspace.selected_gridcells) as path:
        write_gridcells(cells, path)
    return cells
