from __future__ import annotations

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.image import imread
from support.rasters import raster

from s2sr_core.geo.lattice import Lattice, Window
from s2sr_core.outputs.maps import MappedBlock, blocks_map, true_colour, valid_counts

#: 0.02°, so that a raster of some tens of pixels is a map of some kilometres.
LATTICE = Lattice(0.02, 0.02)


def opened(picture: bytes | None) -> np.ndarray:
    """Rows × columns × red, green, blue."""
    assert picture is not None
    pixels: np.ndarray = (imread(io.BytesIO(picture)) * 255).round().astype(int)
    return pixels[:, :, :3]


def places(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Rows and columns of the pixels of that colour, within what rounding may change."""
    return np.argwhere(np.abs(picture - np.array(colour)).max(axis=2) <= 1)


def test_counts_are_a_map_with_a_legend_of_its_colours(tmp_path: Path) -> None:
    values = np.full((20, 20), 65535, np.uint16)
    values[:, :10], values[:5, 10:], values[15:, 10:] = 4, 0, 2
    path = raster(tmp_path / "counts.tif", Window(0, -20, 20, 0), values, LATTICE)
    picture = opened(valid_counts([path], "counts"))
    colours = {
        value: tuple((np.array(mpl.colormaps["magma"](value / 4)[:3]) * 255).round().astype(int).tolist())
        for value in range(5)
    }
    on_map = {value: places(picture, colour) for value, colour in colours.items()}
    legend = min(columns[:, 1].min() for columns in (on_map[1], on_map[3]))  # in no pixel, so in the legend alone
    on_map = {value: found[found[:, 1] < legend] for value, found in on_map.items()}
    assert not len(on_map[1])
    assert not len(on_map[3])
    least, most, some = (on_map[value].mean(axis=0) for value in (0, 4, 2))
    assert most[1] < least[1] == pytest.approx(some[1], abs=3)  # 4 is on the left, the others on the right
    assert least[0] < some[0]  # 0 is to the north of 2
    assert len(on_map[4]) / len(on_map[2]) == pytest.approx(4, rel=0.1)
    assert valid_counts([], "nothing") is None


def test_no_label_of_a_narrow_map_is_cut(tmp_path: Path) -> None:
    window = Window(-299_400, 137_000, -299_000, 137_400)
    path = raster(tmp_path / "counts.tif", window, np.full((400, 400), 3, np.uint16), Lattice(0.0005, 0.0005))
    picture = opened(valid_counts([path], "narrow"))
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 255).all()


def test_true_colour_is_white_where_no_value_is(tmp_path: Path) -> None:
    rasters = {}
    for number, band in enumerate(("B02", "B03", "B04")):
        values = np.full((40, 40), -9999.0, np.float32)
        values[:, :10], values[:, 10:20] = 500.0, 1000.0 * (number + 1)
        rasters[band] = [raster(tmp_path / f"{band}.tif", Window(0, -40, 40, 0), values, LATTICE)]
    picture = opened(true_colour(rasters, "cells"))
    row = picture[picture.shape[0] // 2 + 17]  # off the graticule
    coloured = np.flatnonzero((row[:, 0] > row[:, 1] + 20) & (row[:, 1] > row[:, 2] + 20))  # B04 is red, B02 blue
    black = np.flatnonzero(row.max(axis=1) < 5)
    assert len(coloured) == pytest.approx(640 / 4, rel=0.1)
    assert coloured.min() > np.median(black)
    assert np.median(row[coloured.max() + 10 : coloured.max() + 100]) == 255  # but for the graticule
    assert true_colour({"B04": []}, "none") is None


def test_one_band_is_grey_and_a_band_that_lacks_cells_is_not_mixed_with_others(tmp_path: Path) -> None:
    window, values = Window(0, -40, 40, 0), np.arange(1600, dtype=np.float32).reshape(40, 40)
    path = raster(tmp_path / "one.tif", window, values, LATTICE)
    for rasters in ({"B8A": [path]}, {"B04": [path], "B03": [path], "B02": []}):
        picture = opened(true_colour(rasters, "cells"))
        middle = picture[100:-100, 150:-150]
        assert len(np.unique(middle)) > 50
        assert (np.ptp(middle, axis=2) <= 1).all()


@pytest.mark.parametrize("shown", ["counts", "blocks"])
def test_maps_on_both_sides_of_the_antimeridian_are_not_empty_in_between(tmp_path: Path, shown: str) -> None:
    if shown == "counts":
        values = np.full((10, 10), 1, np.uint16)
        west = raster(tmp_path / "west.tif", Window(-10, -10, 0, 0), values, Lattice(0.02, 0.02, x_anchor=180.0))
        east = raster(tmp_path / "east.tif", Window(0, -10, 10, 0), values, Lattice(0.02, 0.02, x_anchor=-180.0))
        picture, colour = opened(valid_counts([west, east], "counts")), (252, 253, 191)
    else:
        sides = [(179.8, 0.0, 180.0, 0.2), (-180.0, 0.0, -179.8, 0.2)]
        blocks = [MappedBlock(f"b{number}", "done", (bounds,)) for number, bounds in enumerate(sides)]
        picture, colour = opened(blocks_map(blocks, {"done": "#0a141e"}, "blocks")), (10, 20, 30)
    found = places(picture, colour)
    per_row, per_column = (np.bincount(found[:, axis]) for axis in (0, 1))
    height, width = (per_row > 200).sum(), (per_column > 100).sum()  # the legend is smaller
    assert width == pytest.approx(2 * height, rel=0.05)


def test_the_map_of_blocks_has_each_cell_in_its_place_and_the_colour_of_its_state() -> None:
    colours = {"waiting": "#0a141e", "done": "#c80000", "failed": "#0000fa"}
    blocks = [
        MappedBlock("a", "waiting", ((0.0, 0.0, 1.0, 1.0),)),
        MappedBlock("b", "done", ((1.0, 0.0, 2.0, 1.0), (2.0, 0.0, 3.0, 1.0))),
        MappedBlock("c", "failed", ((1.0, 1.0, 2.0, 2.0),)),
    ]
    picture = opened(blocks_map(blocks, colours, "blocks"))
    frame = picture[:-60]  # without the legend
    waiting, done, failed = (places(frame, rgb) for rgb in ((10, 20, 30), (200, 0, 0), (0, 0, 250)))
    assert len(done) / len(waiting) == pytest.approx(2, rel=0.1)
    assert len(failed) / len(waiting) == pytest.approx(1, rel=0.2)  # where the scale bar lies
    assert waiting[:, 1].max() <= done[:, 1].min()
    assert failed[:, 0].max() <= done[:, 0].min()
    assert done[:, 1].min() == pytest.approx(failed[:, 1].min(), abs=3)
    below = picture[-60:]  # the legend
    assert all(len(places(below, rgb)) > 20 for rgb in ((10, 20, 30), (200, 0, 0), (0, 0, 250)))


def test_a_map_in_a_polar_crs_has_square_pixels_and_a_graticule_around_the_pole(tmp_path: Path) -> None:
    """A square of 200 km around the pole, whose quarter is one colour; meridians meet in its middle."""
    values = np.full((40, 40), 65535, np.uint16)
    values[:20, :20] = 3
    lattice = Lattice(5000.0, 5000.0, crs="EPSG:3413")
    picture = opened(valid_counts([raster(tmp_path / "counts.tif", Window(-20, -20, 20, 20), values, lattice)], "pole"))
    found = places(picture[:, :-150], (252, 253, 191))
    height, width = np.ptp(found, axis=0)
    assert width == pytest.approx(height, rel=0.05)
    blank = picture[found[:, 0].min() : found[:, 0].max(), found[:, 1].max() + 10 :][:, :250]
    assert 0.001 < (blank.max(axis=2) < 230).mean() < 0.2  # lines of the graticule and their degrees
