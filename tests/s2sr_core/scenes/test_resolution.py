"""Bands of 10 m with SCL of 20 m: which files are used, and pixels against numpy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from osgeo import gdal, gdal_array
from support import independent
from support.scenes import noisy_dn, parameters_for, patchy_scl, pixels, product_name, run

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.geo.lattice import Window
from s2sr_core.products.manifest import role_of
from s2sr_core.products.safe import band_files, has_scl_alone, lacking, read_product
from s2sr_core.products.tile_metadata import read_tile_grid
from s2sr_core.scenes.classes import read_classes
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.products import write_product

GRID = Grid.utm(-149.6, 68.63, (90, 110), zone=5)
CELL = Gridcell("c", shapely.box(-149.7, 68.6, -149.5, 68.66))


def write_fine(folder: Path, number: int, rng: np.random.Generator) -> independent.RawScene:
    """A product with B04 at 20 m and B08 at 10 m; gives B08, with SCL as large, each pixel four times."""
    scl, fine = patchy_scl(rng, GRID.shape, patch=5), GRID.refined(2)
    b08 = noisy_dn(rng, fine.shape)
    b08[-1, 0] = b08[0, -1] = 77
    write_product(
        folder, product_name(number), GRID, {"B04": noisy_dn(rng, GRID.shape)}, scl, arrays_10m={"B08": b08, "B04": b08}
    )
    return independent.RawScene(b08, np.kron(scl, np.ones((2, 2), int)), fine.crs, fine.geotransform, 0)


def dilated(scene: independent.RawScene, value: int, metres: float) -> independent.RawScene:
    """Its class ``value`` on every pixel whose centre is within ``metres`` of one of that class."""
    rows, columns = np.nonzero(scene.scl == value)
    row, column = np.indices(scene.scl.shape)
    near = np.zeros(scene.scl.shape, bool)
    for r, c in zip(rows, columns, strict=True):
        near |= np.hypot(row - r, column - c) * 10 <= metres
    return replace(scene, scl=np.where(near, value, scene.scl))


def test_a_product_of_10_m_composites_to_its_own_pixels(tmp_path: Path) -> None:
    """On the pixels of the scene nothing is resampled: the median of one scene is that scene, masked and harmonised."""
    scene = dilated(write_fine(tmp_path / "archive", 0, np.random.default_rng(2)), 9, 35.0)
    expected = scene.dn.astype(float)
    expected[(scene.dn == 0) | ~np.isin(scene.scl, independent.CLEAR)] = -9999
    for engine in ("fast", "reference"):
        changes = {"crs": "EPSG:32605", "resolution": 10, "bands": ["B08"], "scl_dilation": {9: 35}, "engine": engine}
        run(parameters_for(tmp_path, tmp_path / "archive", [CELL], work_dir=tmp_path / engine, **changes))
        with gdal.Open(str(Workspace(tmp_path / engine).composite("c", "B08"))) as raster:
            x0, dx, _, y0, _, dy = raster.GetGeoTransform()
            found = raster.ReadAsArray()
        left, top = (scene.geotransform[0] - x0) / dx, (scene.geotransform[3] - y0) / dy
        assert (dx, dy, left % 1, top % 1) == (10.0, -10.0, 0.0, 0.0)
        inner = found[int(top) : int(top) + 180, int(left) : int(left) + 220]
        assert np.array_equal(inner, expected)


def test_both_engines_agree_on_three_scenes_in_degrees(tmp_path: Path) -> None:
    rng, rasters = np.random.default_rng(5), []
    scenes = [write_fine(tmp_path / "archive", number, rng) for number in range(3)]
    cell = Gridcell("c", shapely.box(-149.61, 68.628, -149.59, 68.634))
    for engine in ("fast", "reference"):
        changes = {"resolution": 10, "bands": ["B08", "B04"], "engine": engine, "work_dir": tmp_path / engine}
        parameters = parameters_for(tmp_path, tmp_path / "archive", [cell], **changes)
        assert parameters.pixel_size == (0.000089831528412, 0.000089831528412)
        run(parameters)
        rasters.append(pixels(Workspace(tmp_path / engine).composite("c", "B08")))
    assert np.array_equal(*rasters)
    assert np.array_equal(rasters[0], pixels(Workspace(tmp_path / "fast").composite("c", "B04")))  # of 10 m as well
    window = parameters.lattice.owned(cell.bounds)
    corners = (window.x0, window.y0, window.x1, window.y1)
    expected, _ = independent.composite(cell.polygon, scenes, corners, parameters.pixel_size)
    assert (rasters[0] != expected).mean() < 1e-3


def test_files_of_each_resolution_are_found_and_missed_by_themselves(tmp_path: Path) -> None:
    write_fine(tmp_path, 0, np.random.default_rng(0))
    product = read_product(next(tmp_path.iterdir()))
    coarse, fine = band_files(product, ("SCL", "B04")), band_files(product, ("SCL", "B04", "B08"), 10)
    assert coarse["B04"].path.parent.name == "R20m"
    assert {band: fine[band].path.parent.name for band in ("SCL", "B04", "B08")} == {
        "SCL": "R20m", "B04": "R10m", "B08": "R10m"
    }  # fmt: skip
    assert [fine[band].resolution for band in ("SCL", "B04")] == [20, 10]
    grid = read_tile_grid(product.name, fine["B08"].path, 10)
    assert grid is not None
    assert (grid.geotransform, grid.shape) == (GRID.refined(2).geotransform, (180, 220))
    assert not has_scl_alone(product, 10)
    for band in ("B04", "B08"):
        fine[band].path.unlink()
    assert lacking(product, ("B04", "B08"), 10) == ["B04", "B08"]
    assert lacking(product, ("B04",)) == []
    assert has_scl_alone(product, 10)
    assert not has_scl_alone(product)


@pytest.mark.parametrize(
    ("name", "role"),
    [("B04_20m", "B04"), ("B08_10m", "B08_10m"), ("B05_10m", None), ("SCL_20m", "SCL"), ("TCI_10m", None)],
)
def test_roles(name: str, role: str | None) -> None:
    assert role_of(f"GRANULE/g/IMG_DATA/R10m/T05WPM_20190701T214529_{name}.jp2") == role


@pytest.mark.parametrize("window", [(0, 0, 8, 6), (1, 1, 2, 2), (3, 2, 8, 5), (2, 1, 5, 6)])
def test_each_pixel_has_the_class_of_the_pixel_of_scl_that_holds_it(window: tuple[int, int, int, int]) -> None:
    classes = np.arange(12, dtype=np.uint8).reshape(3, 4)
    x0, y0, x1, y1 = window
    found = read_classes(gdal_array.OpenArray(classes), Window(*window), 2)
    assert np.array_equal(found, np.kron(classes, np.ones((2, 2), int))[y0:y1, x0:x1])
