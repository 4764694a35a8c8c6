from __future__ import annotations

from pathlib import Path

import numpy as np
from osgeo import gdal
from support.rasters import raster

from s2sr_core.geo.lattice import Lattice, Window
from s2sr_core.outputs import overview

#: Square pixels on the ground at the equator, so that pictures are not stretched.
LATTICE = Lattice(0.0002, 0.0002)


def opened(picture: bytes, path: Path) -> np.ndarray:
    path.write_bytes(picture)
    with gdal.Open(str(path)) as dataset:
        pixels: np.ndarray = dataset.ReadAsArray()
        return pixels


def test_counts_become_a_map_from_black_to_light_yellow(tmp_path: Path) -> None:
    left = raster(tmp_path / "l.tif", Window(0, -2, 2, 0), np.array([[0, 6], [3, 65535]], np.uint16), LATTICE)
    right = raster(tmp_path / "r.tif", Window(2, -2, 4, 0), np.array([[6, 6], [0, 0]], np.uint16), LATTICE)
    made = overview.valid_counts([left, right])
    assert made is not None
    picture, most = made
    assert most == 6
    red, green, blue, alpha = opened(picture, tmp_path / "map.png")
    assert alpha.tolist() == [[255] * 4, [255, 0, 255, 255]]
    assert (red[0, 0], green[0, 0], blue[0, 0]) == (0, 0, 4)
    assert (red[0, 1], green[0, 1], blue[0, 1]) == (252, 253, 191)
    assert 114 < red[1, 0] < 241  # half-way between violet and orange
    assert overview.valid_counts([]) is None


def test_true_colour_is_white_where_no_value_is(tmp_path: Path) -> None:
    window, shape = Window(0, -40, 40, 0), (40, 40)
    rasters = {}
    for number, band in enumerate(("B02", "B03", "B04")):
        values = np.full(shape, 1000.0 * (number + 1), np.float32)
        values[:, 20:] = -9999.0
        rasters[band] = [raster(tmp_path / f"{band}.tif", window, values, LATTICE)]
    picture = overview.true_colour(rasters)
    assert picture is not None
    red, green, blue = opened(picture, tmp_path / "picture.jpg").astype(int)
    assert min(channel[:, 30:].min() for channel in (red, green, blue)) > 245
    assert red[20, 5] > green[20, 5] + 30 > blue[20, 5] + 60  # B04 is red, B02 blue
    assert overview.true_colour({"B04": []}) is None


def test_the_map_of_states_has_each_box_in_its_place_and_colour() -> None:
    boxes = [
        ((0.0, 0.0, 1.0, 1.0), (10, 20, 30)),
        ((1.0, 0.0, 2.0, 1.0), (200, 0, 0)),
        ((1.0, 1.0, 2.0, 2.0), (0, 0, 250)),
    ]
    picture = overview.states_map(boxes)
    gdal.FileFromMemBuffer("/vsimem/map.png", picture)
    with gdal.Open("/vsimem/map.png") as dataset:
        layers = dataset.ReadAsArray()
    gdal.Unlink("/vsimem/map.png")
    rows, columns = layers.shape[1:]
    assert max(rows, columns) == 640
    assert layers[:, 3 * rows // 4, columns // 4].tolist() == [10, 20, 30, 255]
    assert layers[:, 3 * rows // 4, 3 * columns // 4].tolist() == [200, 0, 0, 255]
    assert layers[:, rows // 4, 3 * columns // 4].tolist() == [0, 0, 250, 255]
    assert layers[3, rows // 4, columns // 4] == 0
