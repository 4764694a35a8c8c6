"""``python -m benchmarks.ranges_run``: the bytes and requests of downloads in ranges, next to what must come.

Twelve full granules of baseline 05.12 at 69° N, under the clouds of :mod:`benchmarks.workload`, are downloaded from the
sandbox: SCL, then of three bands what counts for one cell and for twelve. To save the time of encoding, all bands of
all products are links to one image, of 9 bits per pixel as real ones; only its bytes count here. Nothing is composited.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks import clouds
from benchmarks.cases import GRID, SCENES, SIZES, WORK
from benchmarks.meter import report
from benchmarks.workload import MASKED, NOISE
from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.geo.codestream import Layout, layout_of
from s2sr_core.parameters import RunParameters
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.occupancy import Occupancy
from s2sr_core.scenes.prepare import classify_product
from s2sr_core.selection.candidates import selected_products
from s2sr_core.selection.judge import find_products
from s2sr_core.sources import source_of
from s2sr_sandbox.archive import acquisitions, summer_dates
from s2sr_sandbox.granule import Granule, scan_start
from s2sr_sandbox.grid import mgrs_tile
from s2sr_sandbox.jp2 import write_jp2
from s2sr_sandbox.manifest import manifest
from s2sr_sandbox.metadata import Metadata
from s2sr_sandbox.products import write_product
from s2sr_sandbox.server import Sandbox, SandboxSettings, running
from s2sr_sandbox.swath import WHOLE, footprint

_FOLDER = WORK / "ranges"
_BANDS = SIZES["full"].bands
#: Increase it when the products change: they are then made again.
_VERSION = 1
_CASES = {"one_cell": SIZES["full"].case("a").cells, "twelve_cells": SIZES["full"].case("b").cells}


def make() -> None:
    """Make the products, unless they are there."""
    mark = _FOLDER / "ranges.json"
    if mark.exists() and json.loads(mark.read_text(encoding="utf-8")) == {"version": _VERSION}:
        return
    shutil.rmtree(_FOLDER, ignore_errors=True)
    _FOLDER.mkdir(parents=True)
    row, column = np.arange(GRID.shape[0])[:, None], np.arange(GRID.shape[1])
    slope = 1500 + 400 * np.sin(row / 90) * np.cos(column / 130)
    noisy = slope + NOISE * np.random.default_rng(0).standard_normal(GRID.shape, dtype=np.float32)
    image = _FOLDER / "band.jp2"
    write_jp2(image, np.clip(np.rint(noisy), 1, 9000).astype(np.uint16), GRID, bits=15, lists_tiles=True)
    for number in range(SCENES):
        print(f"  {_product(number, image)}", flush=True)
    mark.write_text(json.dumps({"version": _VERSION}), encoding="utf-8")


def _product(number: int, image: Path) -> str:
    lon, lat = GRID.centre
    name = acquisitions(lon, mgrs_tile(lon, lat, zone=5), [summer_dates(SCENES)[number]])[0].name
    name = replace(name, baseline="05.12")
    field = clouds.field(number + 1, GRID.shape)
    scl = np.where(field > clouds.exceeded_by(field, MASKED[number]), 9, 4).astype(np.uint8)
    product = write_product(_FOLDER / "products", name, GRID, {}, scl)
    counts = tuple(np.bincount(scl.ravel(), minlength=256).tolist())
    granule = Granule(name, GRID, _BANDS, scan_start(name, WHOLE.along[0]), footprint(GRID, WHOLE), counts)
    for band in _BANDS:
        os.link(image, product / granule.image(band))
    (product / "manifest.safe").write_bytes(manifest(product, granule, Metadata().checksum_of(name)))
    return str(name)


def measure(cells: Sequence[Gridcell], sandbox: Sandbox) -> dict[str, float]:
    """Download what counts for ``cells``.

    Returns bytes of bands over those of the tile-parts that count, and over those of whole images of the products whose
    bands are needed; and the most and the mean number of requests for a band.
    """
    layout = _layout()
    with TemporaryDirectory(dir=WORK) as folder:
        parameters = _parameters(Path(folder), cells)
        context, source = RunContext(parameters), source_of(parameters)
        products = selected_products(find_products(source, parameters, cells))
        source.begin(products)
        counting = images = 0
        for product in products:
            source.fetch(product, ())
            scene = classify_product(context, source.open(product), cells).scene
            if scene is None or scene.occupancy is None or scene.is_not_needed:
                continue
            parts = Occupancy.read_parts(scene.occupancy)
            source.fetch(product, parameters.bands, parts)
            counting += len(_BANDS) * layout.bytes_of(layout.tiles_in(parts))
            images += len(_BANDS)
    asked = [request for request in sandbox.byte_requests() if "_SCL_" not in request.path and ".jp2" in request.path]
    sandbox.clear_requests()
    received, requests = sum(request.bytes for request in asked), Counter(request.path for request in asked)
    return {
        "bytes_vs_counting": received / counting,
        "bytes_vs_whole": received / (images * layout.size),
        "most_requests_a_band": max(requests.values()),
        "requests_a_band": len(asked) / images,
        "megabytes": received / 1e6,
    }


def _layout() -> Layout:
    content = (_FOLDER / "band.jp2").read_bytes()
    return layout_of(content, len(content))


def _parameters(folder: Path, cells: Sequence[Gridcell]) -> RunParameters:
    write_gridcells(cells, folder / "cells.csv")
    bounds = np.array([cell.bounds for cell in cells])
    return RunParameters(
        bbox=(*bounds[:, :2].min(axis=0).tolist(), *bounds[:, 2:].max(axis=0).tolist()),
        grid_csv=folder / "cells.csv",
        start="2015-01-01",
        end="2100-01-01",
        work_dir=folder / "run",
        bands=list(_BANDS),
        tap=True,
    )


def main() -> int:
    """Measure; the last line of the output is one JSON object, smaller is better."""
    argparse.ArgumentParser(prog="python -m benchmarks.ranges_run", description=main.__doc__).parse_args()
    make()
    figures: dict[str, float] = {}
    with running(_FOLDER / "products", SandboxSettings(ranges=True)) as sandbox:
        os.environ |= sandbox.environment()
        for name, cells in _CASES.items():
            figures |= {f"{name}_{figure}": value for figure, value in measure(cells, sandbox).items()}
    for label, figure in figures.items():
        print(f"{label:36}{figure:8.3f}")
    report({label: float(f"{figure:.4g}") for label, figure in figures.items()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
