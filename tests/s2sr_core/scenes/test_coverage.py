"""What products show of a tile, compared on one grid and on several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.scenes import parameters_for, prepare, product_name

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.geo import geometry
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.products.tiles import extent_of, outline_of
from s2sr_core.scenes.coverage import Coverage, hold, leave_no_gap
from s2sr_core.scenes.scene import Scene
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.jp2 import write_jp2
from s2sr_sandbox.products import write_product

SIDE = 60
GRID = RasterGrid("EPSG:32605", (600_000.0, 20.0, 0.0, 7_620_000.0, 0.0, -20.0), (SIDE, SIDE))


def shown(rows: slice, columns: slice = slice(None), grid: RasterGrid = GRID) -> Coverage:
    data = np.zeros(grid.shape, bool)
    data[rows, columns] = True
    return Coverage(grid, data)


def test_data_are_covered_by_data_within_twelve_pixels() -> None:
    whole, most, less = shown(slice(None)), shown(slice(12, None)), shown(slice(13, None))
    assert whole.is_within([most])
    assert not whole.is_within([less])
    assert less.is_within([whole])
    assert whole.is_within([less, shown(slice(0, 10))])
    assert not whole.is_within([])
    assert shown(slice(0, 0)).is_within([])


def test_holes_no_wider_than_the_tolerance_are_no_gaps() -> None:
    whole = shown(slice(None))
    assert leave_no_gap([whole])
    assert not leave_no_gap([])
    for width, is_whole in ((24, True), (26, False)):
        data = np.ones(GRID.shape, bool)
        data[20 : 20 + width, 20 : 20 + width] = False
        assert leave_no_gap([Coverage(GRID, data)]) == is_whole


def test_images_on_other_grids_are_compared_where_they_lie() -> None:
    """The southern half, as a raster of its own at 10 m, and in degrees."""
    x, y = 600_000.0, 7_620_000.0 - 30 * 20.0
    south = RasterGrid("EPSG:32605", (x, 10.0, 0.0, y, 0.0, -10.0), (60, 120))
    assert shown(slice(None), grid=south).is_within([shown(slice(30, None))])
    assert not shown(slice(None)).is_within([shown(slice(None), grid=south)])
    assert shown(slice(30, None)).is_within([shown(slice(None), grid=south)])
    assert not shown(slice(None), grid=south).is_within([shown(slice(0, 17))])
    assert not leave_no_gap([shown(slice(0, 4)), shown(slice(None), grid=south)])
    assert leave_no_gap([shown(slice(0, 30)), shown(slice(None), grid=south)])

    west, bottom, east, top = geometry.of_raster("EPSG:32605", GRID.geotransform, GRID.shape).bounds
    degrees = RasterGrid("EPSG:4326", (west, (east - west) / 50, 0.0, top, 0.0, (bottom - top) / 40), (40, 50))
    assert shown(slice(None)).is_within([shown(slice(None), grid=degrees)])
    assert not shown(slice(None)).is_within([shown(slice(20, None), grid=degrees)])
    assert shown(slice(40, None)).is_within([shown(slice(20, None), grid=degrees)])


@pytest.mark.parametrize("tile", ["05WPS", "60WWT", "01WCP", "37MEU"])
def test_outlines_are_held_to_within_500_m(tile: str) -> None:
    """A whole tile, also across the antimeridian; and one of which a strip in the south is missing."""
    extent = extent_of(tile)
    grid = RasterGrid(f"EPSG:{extent.epsg}", (extent.west, 80.0, 0.0, extent.north, 0.0, -80.0), (1373, 1373))
    assert hold(outline_of(tile), [shown(slice(None), grid=grid)])
    assert hold(outline_of(tile), [shown(slice(0, 1368), grid=grid)])
    assert not hold(outline_of(tile), [shown(slice(0, 1340), grid=grid)])
    half = replace(grid, shape=(680, 1373))
    assert not hold(outline_of(tile), [shown(slice(None), grid=half)])
    assert not hold(outline_of(tile), [])
    elsewhere = outline_of("31UFU")
    assert not hold(elsewhere, [shown(slice(None), grid=grid)])


def test_a_whole_granule_is_read_at_every_fourth_pixel(tmp_path: Path) -> None:
    """Classes as they change from pixel to pixel, and a swath's edge: no more than a few cells along it differ."""
    extent = extent_of("05WPS")
    grid = RasterGrid(f"EPSG:{extent.epsg}", (extent.west, 20.0, 0.0, extent.north, 0.0, -20.0), (5490, 5490))
    classes = np.random.default_rng(0).integers(1, 12, (5490, 5490), np.uint8)
    row, column = np.indices(grid.shape, sparse=True)
    classes[column + row // 3 < 2500] = 0
    write_jp2(tmp_path / "scl.jp2", classes, Grid(grid.crs, grid.geotransform, grid.shape), bits=8)
    small = Grid.utm(-149.6, 68.63, SIDE, zone=5)
    arrays = {"B04": np.ones((SIDE, SIDE), np.uint16)}
    write_product(tmp_path / "archive", product_name(), small, arrays, np.full((SIDE, SIDE), 4, np.uint8))
    cell = Gridcell("c", outline_of("05WPS").centroid.buffer(0.1))
    [preparation] = prepare(parameters_for(tmp_path, tmp_path / "archive", [cell]))
    assert isinstance(preparation.scene, Scene)
    scl = replace(preparation.scene.scl, path=tmp_path / "scl.jp2")
    found = Coverage.of(replace(preparation.scene, grid=grid, scl=scl))
    assert found.grid.shape == (1373, 1373)
    assert found.grid.geotransform[0] == extent.west
    assert found.grid.geotransform[1] == pytest.approx(20 * 5490 / 1373)
    at = np.minimum(np.arange(1373) * 4 + 2, 5489)
    expected = Coverage(found.grid, classes[np.ix_(at, at)] != 0)
    assert found.is_within([expected])
    assert expected.is_within([found])
    assert (found.data != expected.data).mean() < 0.01
