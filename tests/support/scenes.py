"""Little scenes for tests, and the core's way from parameters to composites without Prefect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from osgeo import gdal
from support.independent import RawScene

from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import Outcome, composite_cell
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.products.names import ProductName
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.scene import Preparation
from s2sr_core.selection.judge import find_products
from s2sr_core.selection.line import Line, Result
from s2sr_core.selection.observations import observations_of, stand
from s2sr_core.sources import source_of
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.products import write_product

FIRST = datetime(2019, 7, 1, 21, 45, 29, tzinfo=UTC)


def product_name(number: int = 0, *, tile: str = "05WPS", baseline: str = "02.14", mission: str = "S2A") -> ProductName:
    """A name of its own for each ``number``: five days apart."""
    sensed = FIRST + timedelta(days=5 * number)
    return ProductName(mission, sensed, baseline, 72, tile, sensed + timedelta(hours=4))


def patchy_scl(rng: np.random.Generator, shape: tuple[int, int], patch: int = 8, masked: float = 0.4) -> np.ndarray:
    """Patches of all classes, about a share ``masked`` of them not clear."""
    coarse = tuple(-(-side // patch) for side in shape)
    clear = rng.choice([4, 5, 6], coarse)
    cloudy = rng.choice([0, 1, 2, 3, 7, 8, 9, 10, 11, 12], coarse)
    classes = np.where(rng.random(coarse) < masked, cloudy, clear)
    return np.kron(classes, np.ones((patch, patch)))[: shape[0], : shape[1]].astype(np.uint8)


def noisy_dn(rng: np.random.Generator, shape: tuple[int, int], offset: int = 0, nodata: float = 0.02) -> np.ndarray:
    """DN without any smoothness, as hard to resample as can be; some below the offset, some 0 (nodata)."""
    dn = rng.integers(1, 4000, shape).astype(np.uint16)
    if offset:
        dn[rng.random(shape) < 0.3] //= 4
    dn[rng.random(shape) < nodata] = 0
    return dn


def write_scene(
    folder: Path,
    name: ProductName,
    grid: Grid,
    rng: np.random.Generator,
    bands: Sequence[str] = ("B04",),
    **kwargs: Any,
) -> Mapping[str, RawScene]:
    """A product of noise on ``grid``; gives what was packed, by band."""
    offset = -1000 if name.baseline >= "04.00" else 0
    scl = patchy_scl(rng, grid.shape)
    arrays = {band: noisy_dn(rng, grid.shape, offset) for band in bands}
    write_product(folder, name, grid, arrays, scl, **kwargs)
    return {band: RawScene(dn, scl, grid.crs, grid.geotransform, offset) for band, dn in arrays.items()}


def break_tiles(image: Path, *tiles: int) -> None:
    """Put an unknown marker into ``tiles`` of a JPEG 2000 file, which cannot be decoded then; the others can.

    Its size and its end stay as they are. The marker SOT (12 bytes) begins a tile, and SOD its pixels.
    """
    content = bytearray(image.read_bytes())
    starts = [at for at in range(len(content) - 14) if content[at : at + 4] == b"\xff\x90\x00\x0a"]
    for tile in tiles:
        sod = starts[tile] + 12
        assert content[sod : sod + 2] == b"\xff\x93"
        content[sod : sod + 2] = b"\xff\x00"
    image.write_bytes(content)


def parameters_for(tmp_path: Path, source: Path | None, cells: Sequence[Gridcell], **changes: Any) -> RunParameters:
    """Parameters of a run over all of ``cells`` and 1970 … 2100; without ``source``, from CDSE."""
    csv = tmp_path / "cells.csv"
    write_gridcells(cells, csv)
    sides = [cell.bounds for cell in cells]
    box = (min(s[0] for s in sides), min(s[1] for s in sides), max(s[2] for s in sides), max(s[3] for s in sides))
    defaults: dict[str, Any] = {
        "bbox": box,
        "grid_csv": csv,
        "start": "1970-01-01",
        "end": "2100-01-01",
        "source": source,
        "work_dir": tmp_path / "run",
        "bands": ["B04"],
        "tap": True,
    }
    return RunParameters(**(defaults | changes))


def settled(parameters: RunParameters, context: RunContext | None = None) -> list[Line]:
    """Phase 1 of each observation in the archive."""
    context = context or RunContext(parameters, rank=1)
    cells = choose_gridcells(parameters)
    found = find_products(source_of(parameters), parameters, cells)
    lines = [Line(each, fetches=False) for each in observations_of(found, keep_duplicates=parameters.keep_duplicates)]
    for line in lines:
        line.prepared(stand(context, line.contenders(bands=True), cells))
    return lines


def judge(parameters: RunParameters, context: RunContext | None = None) -> list[Result]:
    """How each product in the archive was judged in the end, by name."""
    found = find_products(source_of(parameters), parameters, choose_gridcells(parameters))
    results = [result for line in settled(parameters, context) for result in line.results()]
    in_line = {(result.found.title, result.found.path) for result in results}
    results += [Result(each, each) for each in found if (each.title, each.path) not in in_line]
    return sorted(results, key=lambda result: (result.candidate.title, str(result.candidate.path)))


def prepare(parameters: RunParameters, context: RunContext | None = None) -> list[Preparation]:
    """Phase 1 of every product that counts, or fails."""
    return [result.preparation for result in judge(parameters, context) if result.preparation is not None]


def run(parameters: RunParameters, context: RunContext | None = None) -> dict[tuple[str, str], Outcome]:
    """Both phases, in this process; outcomes by cell and band. ``context`` is for rules that no parameter names."""
    context = context or RunContext(parameters, rank=1)
    preparations = prepare(parameters, context)
    errors = [error for preparation in preparations for error in preparation.errors]
    assert not errors, errors
    scenes = [preparation.scene for preparation in preparations if preparation.scene]
    outcomes: dict[tuple[str, str], Outcome] = {}
    for cell in choose_gridcells(parameters):
        for outcome in composite_cell(context, cell, parameters.bands, scenes):
            outcomes[outcome.cell_id, outcome.band] = outcome
    return outcomes


def pixels(path: Path | None) -> np.ndarray:
    """The pixels of a one-band raster."""
    assert path is not None
    return gdal.Open(str(path)).ReadAsArray()
