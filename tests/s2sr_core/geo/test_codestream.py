from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from osgeo import gdal
from support.tiled import GRID, tiles_of, write_tiled

from s2sr_core.geo import jp2_check
from s2sr_core.geo.codestream import HeaderTooShortError, LayoutError, TilePart, layout_found, layout_of, tiles_in
from s2sr_core.geo.lattice import Window


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    (path,) = write_tiled(tmp_path_factory.mktemp("tiled")).rglob("*_B04_20m.jp2")
    return path.read_bytes()


@pytest.fixture(scope="module")
def parts_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small image whose tiles have a part for each resolution, and whose boxes follow the codestream."""
    path = tmp_path_factory.mktemp("parts") / "parts.jp2"
    options = ["TLM=YES", "TILEPARTS=RESOLUTIONS", "PROGRESSION=RPCL", "RESOLUTIONS=3", "BLOCKXSIZE=64"]
    options += ["BLOCKYSIZE=64", "QUALITY=100", "REVERSIBLE=YES", "GEOBOXES_AFTER_JP2C=YES"]
    with gdal.config_option("GDAL_PAM_ENABLED", "NO"), gdal.Open(str(jp2_check.IMAGE)) as source:
        raster = gdal.GetDriverByName("MEM").CreateCopy("", source)
        raster.SetSpatialRef(GRID.spatial_reference)
        raster.SetGeoTransform(GRID.geotransform)
        gdal.GetDriverByName("JP2OpenJPEG").CreateCopy(str(path), raster, 0, options).Close()
    return path


def test_each_tile_is_where_its_marker_is(image: bytes) -> None:
    layout = layout_of(image[:8192], len(image))
    assert {part.tile: (part.start, part.size) for part in layout.parts} == tiles_of(image)
    for part in layout.parts:
        assert layout.sot_of(part) == image[part.start : part.start + 12]
        layout.check_start(part, image[part.start : part.start + 14])
    assert layout.trailer == len(image) - 2
    assert (layout.height, layout.width) == GRID.shape
    assert (layout.bytes_of({0, 5}), layout.bytes_of(())) == (layout.parts[0].size + layout.parts[5].size, 0)


def test_a_tile_has_the_pixels_that_gdal_says(image: bytes) -> None:
    layout = layout_of(image[:8192], len(image))
    assert layout.tiles == set(range(6))
    assert layout.window_of(4) == Window(640, 640, 1280, 900)
    assert layout.window_of(2) == Window(1280, 0, 1300, 640)
    assert layout.tiles_in([Window(639, 0, 640, 1)]) == {0}
    assert layout.tiles_in([Window(639, 639, 641, 641), Window(1299, 0, 1300, 1)]) == {0, 1, 3, 4, 2}
    assert layout.tiles_in([Window(5, 5, 5, 9), Window(2000, 0, 2001, 1)]) == set()
    assert layout.tiles_in([Window(-9, -9, 9000, 9000)]) == layout.tiles


def test_tiles_in_several_parts_and_boxes_after_the_codestream(parts_image: Path) -> None:
    content = parts_image.read_bytes()
    layout = layout_of(content[:4096], len(content))
    assert {tile: len(parts) for tile, parts in layout.parts_of.items()} == dict.fromkeys(range(6), 3)
    for part in layout.parts:
        assert content[part.start : part.start + 12] == layout.sot_of(part)
    assert content[layout.trailer : layout.trailer + 2] == b"\xff\xd9"
    assert b"asoc" in content[layout.trailer :]


def test_what_is_cut_off_says_how_much_is_needed(image: bytes) -> None:
    size, known = 0, 0
    for _ in range(100):
        try:
            layout = layout_of(image[:size], len(image))
            break
        except HeaderTooShortError as error:
            is_more, size, known = error.needed > size, error.needed, known + 1
        except LayoutError:
            is_more, size = size == 0, 12  # the first box
        assert is_more
    assert known > 3
    assert layout == layout_of(image, len(image))
    assert size <= layout.header + 14


def test_an_image_without_tlm_does_not_say_where_its_tiles_are() -> None:
    content = jp2_check.IMAGE.read_bytes()
    with pytest.raises(LayoutError, match="no TLM"):
        layout_of(content, len(content))


def test_tiles_that_were_found_are_at_their_places_and_the_others_between(image: bytes) -> None:
    where, header = tiles_of(image), layout_of(image[:8192], len(image)).header
    layout = layout_found(image[:8192], len(image), {tile: where[tile] for tile in (1, 4)})
    assert layout.found == {1, 4}
    assert [part.tile for part in layout.parts] == list(range(6))
    assert (layout.parts[1].start, layout.parts[1].size) == where[1]
    assert (layout.parts[4].start, layout.parts[4].size) == where[4]
    assert (layout.parts[0].start, layout.parts[5].stop) == (header, len(image) - 2)
    assert all(before.stop == after.start for before, after in itertools.pairwise(layout.parts))
    assert layout_found(image[:8192], len(image), where).parts == layout_of(image[:8192], len(image)).parts
    assert layout.share_of({0, 5}) == pytest.approx((640 * 640 + 20 * 260) / (1300 * 900))


@pytest.mark.parametrize(
    "found",
    [{6: (9000, 100)}, {-1: (9000, 100)}, {1: (9000, 13)}, {1: (100, 50)}, {0: (9000, 100)}, {5: (9000, 100)}],
    ids=str,
)
def test_places_that_cannot_be_are_refused(image: bytes, found: dict[int, tuple[int, int]]) -> None:
    with pytest.raises(LayoutError):
        layout_found(image[:8192], len(image), found)


def test_markers_are_seen_in_any_part_of_a_file(image: bytes) -> None:
    where, layout = tiles_of(image), layout_of(image[:8192], len(image))
    assert tiles_in(image, 0, layout) == where
    start = where[3][0]
    assert tiles_in(image[start - 5 : start + 12], start - 5, layout) == {3: where[3]}
    assert tiles_in(image[start + 1 : start + 5000], start + 1, layout) == {}
    assert tiles_in(image[start - 5 : start + 11], start - 5, layout) == {}, "the rest of it is needed"
    with pytest.raises(LayoutError):
        tiles_in(image[start : start + 12], len(image) - 100, layout)


def test_a_tile_that_is_not_where_the_header_says(image: bytes) -> None:
    layout = layout_of(image[:8192], len(image))
    first, second = layout.parts[:2]
    with pytest.raises(LayoutError, match="tile 0 does not begin at byte"):
        layout.check_start(first, image[second.start : second.start + 14])
    with pytest.raises(LayoutError):
        layout.check_start(first, b"")
    open_end = layout.sot_of(layout.parts[-1])[:6] + bytes(4) + b"\x00\x01"
    layout.check_start(layout.parts[-1], open_end)  # until the end of the codestream (A.4.2)
    with pytest.raises(LayoutError):
        layout.check_start(first, layout.sot_of(first)[:6] + bytes(4) + b"\x00\x01")


@pytest.mark.parametrize("less", [1, 1000])
def test_a_file_that_is_too_small_for_its_tiles_is_refused(image: bytes, less: int) -> None:
    for size in (less, len(image) - less):
        with pytest.raises(LayoutError):
            layout_of(image[:8192], size)


@given(data=st.data())
def test_hostile_headers_are_refused_or_describe_the_file(image: bytes, data: st.DataObject) -> None:
    """Whatever is in it: nothing else is raised, and the parts stay within the file and leave no gap."""
    end = layout_of(image, len(image)).header
    header = bytearray(image[: end + 14])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(header) - 4))
        header[at : at + data.draw(st.integers(1, 4))] = data.draw(st.binary(min_size=1, max_size=4))
    size = data.draw(st.sampled_from([len(image), len(header), 3 * len(image)]))
    try:
        layout = layout_of(bytes(header), size)
    except LayoutError:
        return
    assert layout.parts[0].start == layout.header
    assert all(before.stop == after.start for before, after in itertools.pairwise(layout.parts))
    assert layout.trailer <= size - 2
    assert all(isinstance(part, TilePart) and part.size >= 14 for part in layout.parts)
    assert layout.tiles == set(range(len(layout.tiles)))
