"""Tiles of images that do not list them: found by their markers, in few ranges."""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiled import GRID, small_tiles, tiles_of

from s2sr_core.geo.codestream import Layout, LayoutError, TilePart, layout_found
from s2sr_core.sources.cdse.ranges import Span
from s2sr_core.sources.cdse.tile_search import TileSearch


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("small") / "small.jp2"
    small_tiles(path, np.random.default_rng(0).integers(1, 4000, GRID.shape, dtype=np.uint16))
    return path.read_bytes()


class Searched:
    """A search in ``content``, and what it asked for."""

    def __init__(self, content: bytes, layout: Layout, tiles: Sequence[int], header: int = 0) -> None:
        self.spans: list[Span] = []
        self.scratch = io.BytesIO()

        def receive(span: Span, file: object) -> None:
            assert 0 <= span.start < span.stop <= len(content)
            self.spans.append(span)
            file.write(content[span.start : span.stop])  # type: ignore[attr-defined]

        self.search = TileSearch(layout, self.scratch, receive)
        if header:
            self.search.put(Span(0, header), io.BytesIO(content[:header]))
        self.search.find(tiles)

    @property
    def bytes(self) -> int:
        return sum(span.size for span in self.spans)


def test_tiles_are_found_where_they_are_in_few_ranges(image: bytes) -> None:
    """Three rows of two, in an image whose tiles differ by a factor of a thousand: the worst of all places."""
    where, layout = tiles_of(image), layout_found(image[:8192], len(image), {})
    assert max(size for _, size in where.values()) > 500 * min(size for _, size in where.values())
    worst = 0.0
    for row, column in itertools.product(range(5), range(10)):
        wanted = [11 * (row + down) + column + right for down in range(3) for right in range(2)]
        searched = Searched(image, layout, wanted, 4096)
        assert len(searched.spans) <= 12
        for tile in searched.search.came():
            start, size = where[tile]
            assert searched.search.found[tile] == where[tile]
            searched.scratch.seek(start)
            assert searched.scratch.read(size) == image[start : start + size]
        assert set(wanted) <= set(searched.search.came())
        worst = max(worst, searched.bytes / len(image))
    assert worst < 0.5


def test_what_was_found_before_is_not_looked_for_again(image: bytes) -> None:
    where = tiles_of(image)
    layout = layout_found(image[:8192], len(image), {tile: where[tile] for tile in (30, 31, 32)})
    assert layout.found == {30, 31, 32}
    assert [part.tile for part in layout.parts] == list(range(88))
    assert layout.parts[31].start == where[31][0]
    (span,) = Searched(image, layout, [31, 32]).spans
    assert (span.start, span.stop) == (where[31][0], where[33][0] + 12)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_sizes_and_any_tiles(data: st.DataObject) -> None:
    """In made-up files of 30 tiles of 14 bytes to a megabyte: either all that is wanted came, or it took too many."""
    kinds = st.sampled_from([14, 200, 5000, 40_000, 1_000_000])
    sizes = data.draw(st.lists(kinds, min_size=30, max_size=30))
    wanted = sorted(data.draw(st.sets(st.integers(0, 29), min_size=1, max_size=8)))
    content, where = bytearray(b"\0" * 100), {}
    for tile, size in enumerate(sizes):
        where[tile] = (len(content), size)
        content += struct.pack(">HHHIBB", 0xFF90, 10, tile, size, 0, 1) + b"\xff\x93" + bytes(size - 14)
    content += b"\xff\xd9"
    layout = _made_up(len(content), 30)
    try:
        searched = Searched(bytes(content), layout, wanted)
    except LayoutError as error:
        assert "are not found in 12 ranges" in str(error)  # noqa: PT017
        return
    assert searched.search.found.items() <= where.items()
    assert set(wanted) <= set(searched.search.came())


def _made_up(size: int, tiles: int) -> Layout:
    parts = [TilePart(tile, 100 + 14 * tile, 14) for tile in range(tiles - 1)]
    at = 100 + 14 * (tiles - 1)
    parts.append(TilePart(tiles - 1, at, size - 2 - at))
    return Layout(size, 100, 640 * 6, 640 * (tiles // 6), 640, 640, tuple(parts), frozenset())


def test_tiles_in_several_parts_or_out_of_order_are_refused(image: bytes) -> None:
    where, layout = tiles_of(image), layout_found(image[:8192], len(image), {})
    start = where[1][0]
    for at, value in ((start + 10, b"\1\2"), (start + 11, b"\2"), (start + 4, b"\0\7"), (start + 6, b"\0\0\0\0")):
        changed = image[:at] + value + image[at + len(value) :]
        with pytest.raises(LayoutError):
            Searched(changed, layout, [0, 1, 2, 3], 4096)


def test_a_file_without_any_tile_is_given_up(image: bytes) -> None:
    layout = layout_found(image[:8192], len(image), {})
    with pytest.raises(LayoutError, match="are not found in 12 ranges"):
        Searched(image[: layout.header] + bytes(len(image) - layout.header), layout, [40, 41])
