"""A work folder as a large run leaves it: thousands of composites of many scenes, and nothing to do for the next run.

No pixel is computed: the products are one small one of the sandbox on many days, and a composite is an empty file. All
that a run decides by is as a run writes it: metadata, records, tables, and the fingerprint.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import shapely

from benchmarks.workload import link_as
from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import Outcome
from s2sr_core.composites.records import inputs_of, key_of
from s2sr_core.files import write_record
from s2sr_core.outputs import indices
from s2sr_core.outputs.summary import Summary
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.planning.unchanged import fingerprint_of_run
from s2sr_core.products.names import ProductName
from s2sr_core.run_context import RunContext
from s2sr_core.selection.judge import find_products
from s2sr_core.selection.line import Result
from s2sr_core.sources import source_of
from s2sr_sandbox.archive import make_archive
from s2sr_sandbox.grid import Grid

_BANDS = ("B04", "B11")
#: Columns of cells, and the side of each, degrees: all lie in the images of the product.
_COLUMNS, _SIDE = 100, 0.0005
_WEST, _SOUTH = -149.61, 68.62


def make(folder: Path, composites: int, scenes: int) -> list[str]:
    """Make archive, cells and work folder in ``folder``; returns the options of a run that has nothing to do."""
    _make_products(folder / "archive", scenes)
    count = composites // len(_BANDS)
    cells = [Gridcell(f"c{number:05}", _square(*divmod(number, _COLUMNS))) for number in range(count)]
    write_gridcells(cells, folder / "cells.csv")
    parameters = RunParameters(
        bbox=(_WEST, _SOUTH, _WEST + _COLUMNS * _SIDE, _SOUTH + (count // _COLUMNS + 1) * _SIDE),
        grid_csv=folder / "cells.csv",
        source=folder / "archive",
        start="2015-01-01",
        end="2100-01-01",
        bands=_BANDS,
        tap=True,
        work_dir=folder / "work",
    )
    _leave(RunContext(parameters))
    box = map(str, parameters.bbox)
    return ["--bbox", *box, "--grid-csv", "cells.csv", "--source", "archive", "--start", "2015-01-01",
            "--end", "2100-01-01", "--bands", *_BANDS, "--tap", "--work-dir", "work"]  # fmt: skip


def _square(row: int, column: int) -> shapely.Polygon:
    west, south = _WEST + column * _SIDE, _SOUTH + row * _SIDE
    return shapely.box(west, south, west + _SIDE, south + _SIDE)


def _make_products(archive: Path, count: int) -> None:
    """One product, and the same images on ``count - 1`` later days."""
    made = make_archive(archive, Grid.utm(-149.6, 68.63, 200, zone=5), dates=[date(2019, 6, 26)], bands=_BANDS)
    (first,) = made
    name = ProductName.parse(first.name)
    for later in (timedelta(days=number) for number in range(1, count)):
        other = replace(name, sensing_time=name.sensing_time + later, discriminator=name.discriminator + later)
        link_as(first, archive / other.folder)


def _leave(context: RunContext) -> None:
    """Write what a run writes when it has made all composites."""
    parameters, workspace = context.parameters, context.workspace
    source, (period,) = source_of(parameters), parameters.periods
    with workspace.opened():
        cells, outcomes = choose_gridcells(parameters), []
        for cell in cells:
            workspace.cell_folder(cell.cell_id).mkdir()
            for band in parameters.bands:
                path = workspace.composite(cell.cell_id, band)
                path.touch()
                inputs = inputs_of(context, cell, band, {band: []}, period)
                write_record(workspace.record(cell.cell_id, band), {"key": key_of(inputs), "inputs": inputs})
                outcomes.append(Outcome(cell.cell_id, band, "written", path, scenes=1, owned=1, valid=1))
        found = find_products(source, parameters, cells)
        results = [Result(candidate, candidate) for candidate in found]
        indices.write_scene_index(workspace.scene_index, results, parameters.bands)
        summary = Summary.of(len(cells), found, (), outcomes)
        after = fingerprint_of_run(context, cells, found, b"", summary)
        indices.write_manifests(context, outcomes, summary, after)
        write_record(workspace.flow_run, {"ended": "2026-01-01T00:00:00+00:00"})
