"""Which JPEG 2000 tiles the floor reads, against arithmetic by hand and against the pixels themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely
from osgeo import gdal

from benchmarks.floor_run import read_once, tiles_with_valid_pixels
from benchmarks.tiles import inside_cells, pixels_of, touched
from s2sr_core.cells.gridcells import Gridcell
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.jp2 import write_jp2

GRID = Grid.utm(-149.5, 69.0, (1500, 1400))


def test_the_last_tiles_are_cut() -> None:
    assert pixels_of((0, 0), (1500, 1400)) == (0, 0, 640, 640)
    assert pixels_of((2, 1), (1500, 1400)) == (640, 1280, 640, 220)
    assert pixels_of((2, 2), (1500, 1400)) == (1280, 1280, 120, 220)


def test_a_tile_counts_where_a_pixel_is_valid_and_inside() -> None:
    valid, inside = np.zeros((1500, 1400), bool), np.zeros((1500, 1400), bool)
    inside[:700] = True
    valid[639, 639] = valid[699, 1399] = valid[700, 0] = True
    assert tiles_with_valid_pixels(valid, inside) == [(0, 0, 640, 640), (1280, 640, 120, 640)]


def test_each_tile_is_read_once(tmp_path: Path) -> None:
    write_jp2(tmp_path / "B04.jp2", np.ones(GRID.shape, np.uint16), GRID, bits=15)
    assert read_once([(tmp_path / "B04.jp2", [(0, 0, 640, 640), (1280, 1280, 120, 220)])]) == 640 * 640 + 120 * 220
    with gdal.Open(str(tmp_path / "B04.jp2")) as dataset:
        assert dataset.GetRasterBand(1).GetBlockSize() == [640, 640]


def test_touched_tiles_hold_all_pixels_of_the_cells() -> None:
    west, south = GRID.centre
    cells = [
        Gridcell("a", shapely.box(west - 0.02, south, west, south + 0.01)),
        Gridcell("b", shapely.box(west + 0.3, south - 0.12, west + 0.31, south - 0.11)),
    ]
    inside = inside_cells(GRID, cells)
    lon, lat = GRID.centres()
    expected = [shapely.contains_xy(cell.polygon, lon, lat) for cell in cells]
    assert np.array_equal(inside, expected[0] | expected[1])
    assert 0 < inside.sum() < inside.size / 10
    tiles = touched(GRID, cells)
    rows, columns = np.nonzero(inside)
    assert tiles[rows // 640, columns // 640].all()
    assert not tiles.all()
