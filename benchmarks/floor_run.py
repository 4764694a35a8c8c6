"""``python -m benchmarks.floor_run --case b``: the least that any reader through GDAL must decode, metered.

For each band, one read of every JPEG 2000 tile that holds a valid pixel inside the selected cells; and one read of the
whole SCL. Which tiles these are is determined before the clock starts. Nothing is computed from them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import clouds, tiles
from benchmarks.cases import GRID, SIZES, Case
from benchmarks.meter import metered, report
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.parameters import RunParameters
from s2sr_core.products.bands import SCL
from s2sr_core.products.safe import band_files, read_product

type Rectangle = tuple[int, int, int, int]


def tiles_with_valid_pixels(valid: np.ndarray, inside: np.ndarray) -> list[Rectangle]:
    """Column, row, width and height of the tiles in which a pixel is both valid and inside."""
    needed = ~clouds.blocks_without(valid & inside, tiles.TILE)
    return [tiles.pixels_of((row, column), valid.shape) for row, column in np.argwhere(needed).tolist()]


def read_once(work: Sequence[tuple[Path, Sequence[Rectangle]]]) -> int:
    """Read the rectangles of each file; returns the number of pixels decoded."""
    pixels = 0
    for path, rectangles in work:
        with gdal.Open(str(path)) as dataset:
            for rectangle in rectangles:
                pixels += dataset.ReadAsArray(*rectangle).size
    return pixels


def work_of(case: Case) -> list[tuple[Path, list[Rectangle]]]:
    """Every file of ``case`` with the rectangles to read."""
    masked = RunParameters.model_fields["scl_mask"].default
    inside = tiles.inside_cells(GRID, case.cells)
    whole = tiles_with_valid_pixels(np.ones(GRID.shape, bool), np.ones(GRID.shape, bool))
    work = []
    for path in sorted(case.source.glob("*.SAFE")):
        files = band_files(read_product(path), (SCL, *case.bands))
        paths = {key: file.path for key, file in files.found.items()}
        valid = ~np.isin(gdal.Open(str(paths[SCL])).ReadAsArray(), masked)
        needed = tiles_with_valid_pixels(valid, inside)
        work += [(paths[SCL], whole), *((paths[band], needed) for band in case.bands)]
    return work


def main() -> int:
    """Read the floor of one case once."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.floor_run", description="The least that any reader through GDAL must decode."
    )
    parser.add_argument("--size", choices=SIZES, default="quick", help="size of the workload; default: %(default)s")
    parser.add_argument(
        "--case",
        choices=("a", "b", "c"),
        required=True,
        help="a: one cell; b: adjacent cells; c: many scenes on one cell",
    )
    given = parser.parse_args()
    work = work_of(SIZES[given.size].case(given.case))
    with metered() as used:
        pixels = read_once(work)
    bands = [rectangles for path, rectangles in work if "_SCL_" not in path.name]
    report({**used, "decoded": pixels, "tiles": sum(map(len, bands))})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
