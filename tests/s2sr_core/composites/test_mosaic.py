from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal
from support.rasters import NODATA, raster, read

from s2sr_core.composites.mosaic import mosaic
from s2sr_core.geo.lattice import Lattice, Window

LATTICE = Lattice(0.000179663056824, 0.0002)


def test_each_pixel_lies_where_its_column_and_row_say(tmp_path: Path) -> None:
    """Three windows far from 0/0, one overlapping another, painted into an array by hand."""
    rng, x, y = np.random.default_rng(0), -832_800, -343_000
    windows = [Window(x, y, x + 7, y + 5), Window(x + 7, y + 1, x + 10, y + 9), Window(x + 5, y - 3, x + 9, y + 3)]
    expected = np.full((12, 10), NODATA, np.float32)
    paths = []
    for number, window in enumerate(windows):
        values = rng.uniform(0, 4000, window.shape).astype(np.float32)
        values[rng.random(window.shape) < 0.3] = NODATA
        paths.append(raster(tmp_path / f"{number}" / "cell.tif", window, values, LATTICE))
        rows, columns = slice(window.y0 - y + 3, window.y1 - y + 3), slice(window.x0 - x, window.x1 - x)
        expected[rows, columns] = np.where(values == NODATA, expected[rows, columns], values)
    target = mosaic(tmp_path / "mosaics" / "all.vrt", paths, LATTICE)
    assert np.array_equal(read(target), expected)
    with gdal.Open(str(target)) as dataset:
        left, dx, _, top, _, dy = dataset.GetGeoTransform()
        assert (dx, -dy) == (LATTICE.dx, LATTICE.dy)
        assert left == pytest.approx(x * LATTICE.dx, abs=1e-12)
        assert top == pytest.approx((-y + 3) * LATTICE.dy, abs=1e-12)
        assert dataset.GetRasterBand(1).GetNoDataValue() == NODATA


def test_a_mosaic_of_mosaics_is_the_mosaic_and_moves_with_its_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    windows = [Window(4 * n, 0, 4 * n + 4, 6) for n in range(4)]
    cells = [
        raster(tmp_path / "a" / f"{n}.tif", window, rng.integers(0, 9, window.shape).astype(np.uint16), LATTICE)
        for n, window in enumerate(windows)
    ]
    halves = [mosaic(tmp_path / "a" / f"half{n}.vrt", cells[2 * n : 2 * n + 2], LATTICE) for n in range(2)]
    whole = mosaic(tmp_path / "a" / "whole.vrt", halves, LATTICE)
    pixels = read(whole)
    assert np.array_equal(pixels, np.concatenate([read(cell) for cell in cells], axis=1))
    assert pixels.dtype == np.uint16
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert np.array_equal(read(tmp_path / "b" / "whole.vrt"), pixels)


@pytest.mark.parametrize(
    "other",
    [
        Lattice(LATTICE.dx, LATTICE.dy, x_anchor=0.3 * LATTICE.dx),
        Lattice(LATTICE.dx * 1.01, LATTICE.dy),
        Lattice(LATTICE.dx, LATTICE.dy / 2, y_anchor=0.25 * LATTICE.dy),
        Lattice(LATTICE.dx, LATTICE.dy, crs="EPSG:3413"),
    ],
)
def test_a_raster_of_another_lattice_is_refused(tmp_path: Path, other: Lattice) -> None:
    path = raster(tmp_path / "cell.tif", Window(100, -50, 104, -46), np.zeros((4, 4), np.float32), other)
    with pytest.raises(ValueError, match="does not lie on the lattice"):
        mosaic(tmp_path / "mosaic.vrt", [path], LATTICE)
    assert not (tmp_path / "mosaic.vrt").exists()
