"""What counts of a scene, and the windows that hold it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from s2sr_core import footprint
from s2sr_core.gridcells import Gridcell
from s2sr_core.lattice import Window
from s2sr_core.occupancy import Near, Occupancy, pixels_near
from s2sr_core.sandbox.grid import Grid

TILE = (640, 640)


def painted(parts: tuple[Window, ...], shape: tuple[int, int]) -> np.ndarray:
    """How many of ``parts`` hold each pixel."""
    found = np.zeros(shape, int)
    for part in parts:
        found[part.y0 : part.y1, part.x0 : part.x1] += 1
    return found


@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1), patch=st.sampled_from([1, 9, 64, 300]))
def test_parts_hold_all_that_counts_once_and_none_crosses_a_tile(seed: int, share: float, patch: int) -> None:
    rng, within = np.random.default_rng(seed), Window(500, 130, 1850, 1400)
    coarse = rng.random((within.height // patch + 1, within.width // patch + 1)) < share**3
    counts = np.kron(coarse, np.ones((patch, patch), bool))[: within.height, : within.width]
    found = Occupancy.of(counts, within, TILE)
    whole = np.zeros((1400, 1850), bool)
    whole[within.y0 :, within.x0 :] = counts
    times = painted(found.parts, whole.shape)
    assert times.max(initial=0) <= 1
    assert (times[whole] == 1).all()
    for part in found.parts:
        assert part
        assert part & found.window == part
        assert part.x0 // 640 == (part.x1 - 1) // 640
        assert part.y0 // 640 == (part.y1 - 1) // 640
    assert np.array_equal(found.counts, whole[found.window.y0 : found.window.y1, found.window.x0 : found.window.x1])


def test_two_far_corners_of_a_tile_are_two_parts_and_a_full_tile_is_one() -> None:
    counts = np.zeros(TILE, bool)
    counts[:20, :20] = counts[-20:, -20:] = True
    assert Occupancy.of(counts, Window(0, 0, 640, 640), TILE).parts == (
        Window(0, 0, 32, 32),
        Window(608, 608, 640, 640),
    )
    assert Occupancy.of(counts | True, Window(0, 0, 640, 640), TILE).parts == (Window(0, 0, 640, 640),)


def test_nothing_is_no_part(tmp_path: Path) -> None:
    found = Occupancy.of(np.zeros((50, 70), bool), Window(10, 20, 80, 70), TILE)
    assert not found.window
    assert found.parts == ()
    found.write(tmp_path / "o.npz")
    assert Occupancy.read(tmp_path / "o.npz").parts == ()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    counts = np.random.default_rng(1).random((77, 91)) < 0.1
    written = Occupancy.of(counts, Window(600, 610, 691, 687), TILE)
    written.write(tmp_path / "o.npz")
    found = Occupancy.read(tmp_path / "o.npz")
    assert found.window == written.window
    assert found.parts == written.parts == Occupancy.read_parts(tmp_path / "o.npz")
    assert np.array_equal(found.counts, written.counts)


def near_of(grid: Grid, *polygons: shapely.Polygon) -> Near:
    cells = tuple(Gridcell(str(number), polygon) for number, polygon in enumerate(polygons))
    outline = footprint.of_raster(grid.crs, grid.geotransform, grid.shape)
    return pixels_near(cells, outline, grid.crs, grid.geotransform, grid.shape)


@pytest.mark.parametrize(
    ("lon", "lat", "zone"), [(-149.6, 68.6, 5), (179.99, 69.0, 60), (-179.99, 69.0, 1), (20, 83, 34)]
)
def test_pixels_near_are_those_in_the_cells_and_a_few_around(lon: float, lat: float, zone: int) -> None:
    """Which pixel centres lie in the polygon is told by PROJ and shapely, pixel by pixel."""
    grid = Grid.utm(lon, lat, (300, 280), zone=zone)
    half = 0.03 / np.cos(np.radians(lat))
    boxes = [
        shapely.box(max(lon - half, -180), lat - 0.011, lon, lat + 0.013),
        shapely.box(lon, lat, min(lon + half, 180), lat + 0.02),
    ]
    boxes = [box for box in boxes if box.area]
    near = near_of(grid, *boxes)
    found = np.zeros(grid.shape, bool)
    found[near.window.y0 : near.window.y1, near.window.x0 : near.window.x1] = near.pixels
    gt, (rows, columns) = grid.geotransform, grid.shape
    x, y = np.meshgrid(gt[0] + 20 * (np.arange(columns) + 0.5), gt[3] - 20 * (np.arange(rows) + 0.5))
    longitude, latitude = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(x, y)
    longitude = lon + (longitude - lon + 180) % 360 - 180  # no step at ±180
    inside = shapely.contains_xy(shapely.union_all(boxes), longitude, latitude)
    assert 0.01 < inside.mean() < 0.9
    # Bilinear takes a pixel on each side of one that holds a centre; two are asked here.
    for dy in (-2, 0, 2):
        for dx in (-2, 0, 2):
            moved = np.roll(inside, (dy, dx), (0, 1))[2:-2, 2:-2]
            assert found[2:-2, 2:-2][moved].all()
    far = shapely.union_all(boxes).buffer(12 * 20 / 111_000 / np.cos(np.radians(lat)))
    assert not found[~shapely.contains_xy(far, longitude, latitude)].any()


def test_a_cell_elsewhere_is_near_nothing() -> None:
    assert not near_of(Grid.utm(-149.6, 68.6, 200), shapely.box(-140, 60, -139, 61)).window
    assert not near_of(Grid.utm(-149.6, 68.6, 200)).window
