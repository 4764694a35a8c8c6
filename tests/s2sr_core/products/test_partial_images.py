from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal
from support.tiled import GRID, tiles_of, write_tiled

from s2sr_core.errors import ProductError
from s2sr_core.geo.codestream import Layout, LayoutError, layout_found, layout_of
from s2sr_core.geo.lattice import Window
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.jpeg2000 import openjpeg
from s2sr_core.pixels import vrt
from s2sr_core.products.partial_images import PartialImage, remove_tiles, tiles_path
from s2sr_core.products.safe import band_files, has_scl_alone, read_product


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiled(tmp_path_factory.mktemp("tiled"))


@pytest.fixture(scope="module")
def whole(product: Path) -> Path:
    (path,) = product.rglob("*_B04_20m.jp2")
    return path


def begin(whole: Path, image: Path, checksum: str = "md5:00") -> tuple[PartialImage, Layout]:
    content = whole.read_bytes()
    layout = layout_of(content[:8192], len(content))
    image.parent.mkdir(exist_ok=True)
    return PartialImage.begin(image, content[: layout.header], layout, b"\xff\xd9", checksum), layout


def add(partial: PartialImage, whole: Path, *tiles: int) -> PartialImage:
    parts = [part for part in partial.layout.parts if part.tile in tiles]
    start, stop = parts[0].start, parts[-1].stop
    return partial.add(parts, io.BytesIO(whole.read_bytes()[start:stop]), start)


def test_decoders_read_the_tiles_that_are_there_and_fail_at_the_others(whole: Path, tmp_path: Path) -> None:
    partial, layout = begin(whole, tmp_path / "image.jp2")
    partial = add(add(partial, whole, 3, 4), whole, 1)
    with gdal.Open(str(whole)) as dataset:
        expected = dataset.ReadAsArray()
    path = tiles_path(tmp_path / "image.jp2")
    assert path.stat().st_size == whole.stat().st_size
    assert path.stat().st_blocks * 512 < 0.8 * whole.stat().st_size, "holes take no room"
    for tile in layout.tiles:
        window = layout.window_of(tile)
        at = (window.x0, window.y0, window.width, window.height)
        if tile in (1, 3, 4):
            right = expected[window.y0 : window.y1, window.x0 : window.x1]
            assert np.array_equal(gdal.Open(str(path)).ReadAsArray(*at), right)
            inner = Window(window.x0 + 7, window.y0 + 5, window.x1 - 11, window.y1 - 3)
            assert np.array_equal(openjpeg.read_window(path, inner), expected[inner.y0 : inner.y1, inner.x0 : inner.x1])
        else:
            with pytest.raises(RuntimeError):
                gdal.Open(str(path)).ReadAsArray(*at)
            with pytest.raises(RuntimeError):
                openjpeg.read_window(path, window)
    grid = RasterGrid(GRID.crs, GRID.geotransform, GRID.shape)
    mosaic = vrt.partial(tmp_path / "tiles.vrt", image=path, windows=partial.windows, grid=grid)
    seen = np.zeros_like(expected)
    for window in partial.windows:
        seen[window.y0 : window.y1, window.x0 : window.x1] = expected[window.y0 : window.y1, window.x0 : window.x1]
    assert np.array_equal(gdal.Open(str(mosaic)).ReadAsArray(), seen)


def test_it_is_read_again_added_to_and_becomes_the_image(whole: Path, tmp_path: Path) -> None:
    image, size = tmp_path / "image.jp2", whole.stat().st_size
    partial, layout = begin(whole, image)
    add(partial, whole, 0)
    again = PartialImage.read(image, size, "md5:00")
    assert again is not None
    assert again.tiles == {0}
    assert again.lacks([Window(0, 0, 1, 1)]) == set()
    assert again.lacks([Window(600, 0, 700, 1)]) == {1}
    for missing in (PartialImage.read(image, size + 1, "md5:00"), PartialImage.read(image, size, "md5:01")):
        assert missing is None, "it would be of another image"
    again = add(again, whole, *range(1, 6))
    assert again.tiles == layout.tiles
    again.become_image()
    assert image.read_bytes() == whole.read_bytes()
    assert tiles_path(image).samefile(image), "another run may be reading it by that name"
    assert PartialImage.read(image, size, "md5:00") is None
    remove_tiles(image)
    assert tiles_path(image).exists()
    remove_tiles(image, also_in_use=True)
    assert list(tmp_path.iterdir()) == [image]


def test_places_that_are_found_later_leave_what_is_there(whole: Path, tmp_path: Path) -> None:
    """Who has opened the earlier file goes on reading it."""
    image, content, where = tmp_path / "image.jp2", whole.read_bytes(), tiles_of(whole.read_bytes())
    layout = layout_found(content[:8192], len(content), {1: where[1]})
    partial = add(PartialImage.begin(image, content[: layout.header], layout, b"\xff\xd9", "md5:00"), whole, 1)
    with gdal.Open(str(tiles_path(image))) as earlier:
        later = partial.relaid({tile: where[tile] for tile in (1, 3, 4)})
        assert later.tiles == {1}
        assert later == PartialImage.read(image, len(content), "md5:00")
        later = add(later, whole, 3, 4)
        expected = gdal.Open(str(whole)).ReadAsArray(700, 0, 50, 900)
        assert np.array_equal(earlier.ReadAsArray(700, 0, 50, 600), expected[:600])
        assert np.array_equal(gdal.Open(str(tiles_path(image))).ReadAsArray(700, 0, 50, 900), expected)
    for tile in (0, 2, 5):
        with pytest.raises(RuntimeError):
            openjpeg.read_window(tiles_path(image), later.layout.window_of(tile))
    assert later.changed() == []
    with pytest.raises(LayoutError):
        later.relaid({1: (where[1][0], 10)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.jp2.tiles", "image.jp2.tiles.json"]


def test_tiles_that_are_not_as_they_came_are_not_there(whole: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.jp2"
    partial, layout = begin(whole, image)
    partial = add(partial, whole, 0, 1)
    assert partial.verified() is partial
    start, size = tiles_of(whole.read_bytes())[1]
    with tiles_path(image).open("r+b") as file:
        file.seek(start + size - 1)
        file.write(b"\0" if whole.read_bytes()[start + size - 1] else b"\1")
    assert partial.changed() == [1]
    assert partial.verified().tiles == {0}
    again = PartialImage.read(image, layout.size, "md5:00")
    assert again is not None
    assert again.tiles == {0}


def test_bytes_of_something_else_are_refused_and_add_nothing(whole: Path, tmp_path: Path) -> None:
    partial, layout = begin(whole, tmp_path / "image.jp2")
    content = whole.read_bytes()
    for wrong in (content[layout.parts[1].start :], content[layout.parts[0].start :][:100], b"<html>" * 1000):
        with pytest.raises(LayoutError):
            partial.add(layout.parts[:1], io.BytesIO(wrong), layout.parts[0].start)
        with pytest.raises(RuntimeError):
            openjpeg.read_window(tiles_path(tmp_path / "image.jp2"), Window(0, 0, 50, 50))
    again = PartialImage.read(tmp_path / "image.jp2", layout.size, "md5:00")
    assert again is not None
    assert again.tiles == set()


@pytest.mark.parametrize(
    "change",
    [
        {"size": "many"},
        {"header": -1},
        {"header": 1 << 40},
        {"header": None},
        {"parts": []},
        {"parts": {"99": "0"}},
        {"parts": {"-1": "0"}},
        {"parts": {"x": "0"}},
        {"found": []},
        {"found": {"0": [1]}},
        {"found": {"0": [1, 2]}},
        {"found": {}, "parts": {"0": "00"}},
    ],
    ids=str,
)
def test_an_index_that_makes_no_sense_is_none(whole: Path, tmp_path: Path, change: dict[str, object]) -> None:
    image = tmp_path / "image.jp2"
    begin(whole, image)
    index = tmp_path / "image.jp2.tiles.json"
    index.write_text(json.dumps(json.loads(index.read_text(encoding="utf-8")) | change), encoding="utf-8")
    assert PartialImage.read(image, whole.stat().st_size, "md5:00") is None


def test_a_link_is_not_followed(whole: Path, tmp_path: Path) -> None:
    """Somebody else's would have another file written, or read as the image."""
    image, other = tmp_path / "image.jp2", tmp_path / "other"
    partial, _ = begin(whole, image)
    shutil.move(tiles_path(image), other)
    tiles_path(image).symlink_to(other)
    before = other.read_bytes()
    assert PartialImage.read(image, whole.stat().st_size, "md5:00") is None
    with pytest.raises(OSError, match="symbolic link"):
        add(partial, whole, 0)
    assert other.read_bytes() == before


def test_only_who_asks_for_tiles_gets_them(product: Path, whole: Path, tmp_path: Path) -> None:
    """To all others the image is missing: an archive must not take some tiles for the whole."""
    folder = shutil.copytree(product, tmp_path / product.name)
    there = read_product(folder)
    listed = band_files(there, ("B04",), there=False)["B04"]
    image = folder / whole.relative_to(product)
    image.unlink()
    assert has_scl_alone(there)
    partial, _ = begin(whole, image, listed.checksum)
    add(partial, whole, 0, 4)
    file = band_files(there, ("B04",), partial=True)["B04"]
    assert file == replace(
        listed, path=tiles_path(image), note="2 of 6 JPEG 2000 tiles of B04 are there", is_partial=True
    )
    with pytest.raises(ProductError, match=r"only some tiles of .* were downloaded; download it with --download whole"):
        _ = band_files(there, ("B04",))["B04"]
    assert not has_scl_alone(there)
