from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from support.scenes import parameters_for, product_name, run

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.outputs.quicklook import draw_cell, draw_date_and_composite, stretched, write_png
from s2sr_core.products.safe import read_product
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.products import write_product


def test_a_png_is_stretched_by_its_valid_pixels_and_transparent_elsewhere(tmp_path: Path) -> None:
    pixels = np.arange(300, dtype=np.float32).reshape(3, 10, 10)
    valid = np.ones((10, 10), bool)
    pixels[:, 0, :5], valid[0, :5] = -9999, False
    write_png(stretched(pixels, valid), tmp_path / "q.png")
    image = gdal.Open(str(tmp_path / "q.png")).ReadAsArray()
    assert image.shape == (4, 10, 10)
    assert np.array_equal(image[3], np.where(valid, 255, 0))
    assert (image[0][valid].min(), image[2].max()) == (0, 255)
    assert (np.diff(image[:3, 5, 5].astype(int)) > 0).all()


def test_a_picture_without_any_valid_pixel_is_transparent(tmp_path: Path) -> None:
    write_png(stretched(np.full((1, 4, 4), -9999.0), np.zeros((4, 4), bool)), tmp_path / "q.png")
    assert (gdal.Open(str(tmp_path / "q.png")).ReadAsArray()[-1] == 0).all()


def test_a_cell_is_drawn_in_true_colour_with_square_pixels_on_the_ground(tmp_path: Path) -> None:
    """Red ground: B04 bright, B03 and B02 dark. At 68.63° N a square of the ground is 2.74 times as wide in degrees."""
    grid = Grid.utm(-149.6, 68.63, 100, zone=5)
    scl = np.full(grid.shape, 5, np.uint8)
    arrays = {band: np.full(grid.shape, dn, np.uint16) for band, dn in (("B02", 300), ("B03", 400), ("B04", 3000))}
    arrays["B04"][:50] = 2000
    write_product(tmp_path / "archive", product_name(), grid, arrays, scl)
    cell = Gridcell("c", shapely.box(-149.6137, 68.625, -149.5863, 68.635))
    parameters = parameters_for(tmp_path, tmp_path / "archive", [cell], bands=["B02", "B03", "B04"])
    run(parameters)
    path = draw_cell(Workspace(parameters.work_dir), "c", parameters.bands)
    assert path == tmp_path / "run/composites/c/cell_c_quicklook.png"
    image = gdal.Open(str(path)).ReadAsArray().astype(int)
    assert (image[0] > image[1] + 100).all()
    assert abs(image.shape[2] / image.shape[1] - 1) < 0.05
    with gdal.Open(str(Workspace(parameters.work_dir).composite("c", "B04"))) as composite:
        left, dx, _, top, _, dy = composite.GetGeoTransform()
        whole = (left, top, left + dx * composite.RasterXSize, top + dy * composite.RasterYSize)
    # Other programs look for sidecar files.
    with gdal.config_options({"GDAL_PAM_ENABLED": "YES", "GDAL_DISABLE_READDIR_ON_OPEN": "FALSE"}):
        picture = gdal.Open(str(path))
        left, dx, _, top, _, dy = picture.GetGeoTransform()
        assert picture.GetSpatialRef().GetAuthorityCode(None) == "4326"
    assert (left, top, left + dx * picture.RasterXSize, top + dy * picture.RasterYSize) == pytest.approx(whole)


def test_a_cell_without_composites_has_no_picture(tmp_path: Path) -> None:
    assert draw_cell(Workspace(tmp_path), "c", ["B02"]) is None


def test_one_date_is_drawn_next_to_the_composite(tmp_path: Path) -> None:
    """The date has a bright cloud in its northern half, which the composite leaves transparent."""
    grid = Grid.utm(-149.6, 68.63, 100, zone=5)
    scl = np.full(grid.shape, 5, np.uint8)
    scl[:50] = 9
    slope = np.add.outer(np.zeros(grid.shape[0]), np.arange(grid.shape[1]))
    ground = {band: 1300 + first + 5 * slope for band, first in (("B02", 0), ("B03", 90), ("B04", 50))}
    arrays = {band: np.where(scl == 9, 9000, dn).astype(np.uint16) for band, dn in ground.items()}
    product = write_product(tmp_path / "archive", product_name(baseline="05.09"), grid, arrays, scl)
    cell = Gridcell("c", shapely.box(-149.6137, 68.625, -149.5863, 68.635))
    parameters = parameters_for(tmp_path, tmp_path / "archive", [cell], bands=["B02", "B03", "B04"])
    run(parameters)
    draw_date_and_composite(Workspace(parameters.work_dir), "c", read_product(product), tmp_path / "both.png")
    image = gdal.Open(str(tmp_path / "both.png")).ReadAsArray()
    side = (image.shape[2] - 8) // 2
    date, composite = image[:, :, :side], image[:, :, -side:]
    assert (date[3] == 255).all()
    assert date[0, :15].mean() > 240
    assert (composite[3, :15] == 0).all()
    assert (composite[3, -15:] == 255).all()
    # One stretch, without the baseline's offset: the same ground has the same colour on both sides.
    assert np.median(np.abs(date[:3, -15:].astype(int) - composite[:3, -15:])) <= 2
    assert composite[:3, -15:].min() < 20 < 235 < composite[:3, -15:].max()
