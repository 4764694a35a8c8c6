"""Where the tiles of a JPEG 2000 image lie in its file, without decoding any (ISO/IEC 15444-1, annexes A and I).

An image is boxes, then a codestream: a main header, the tile-parts (each begins with the marker SOT) and EOC. If the
main header has TLM marker segments, they say how long each tile-part is, so that its place is known before it is read.
What is parsed here came from elsewhere: every length is compared with what there is.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from s2sr_core.geo.lattice import Window

#: The first box of a JP2 file (I.5.1), and the last marker of a codestream (A.4.4).
JP2_SIGNATURE = bytes.fromhex("0000000c 6a502020 0d0a870a")
END_OF_CODESTREAM = b"\xff\xd9"
#: Bytes of the marker segment SOT, and of the least tile-part: SOT and the marker SOD (A.4.2 and A.4.3).
SOT_SIZE, _LEAST_PART = 12, 14
_SOC, _SIZ, _TLM, _SOT = 0xFF4F, 0xFF51, 0xFF55, 0xFF90
#: Tiles of an image, at most (A.4.2), and boxes and marker segments before the first tile, of which there are a dozen.
_MOST_TILES, _MOST_SEGMENTS = 65_535, 1000


class LayoutError(Exception):
    """The beginning of a file does not say where the tiles are; the message says why."""


class HeaderTooShortError(LayoutError):
    """The beginning of a file was cut off too soon.

    Attributes
    ----------
    needed: bytes from the start of the file that are needed to read on, at least.
    """

    def __init__(self, needed: int) -> None:
        super().__init__(f"its header has {needed} bytes or more")
        self.needed = needed


@dataclass(frozen=True, slots=True)
class TilePart:
    """A tile, or a part of one, in a file.

    Attributes
    ----------
    tile: its number, counted row by row from 0.
    start: its first byte in the file.
    size: in bytes.
    """

    tile: int
    start: int
    size: int

    @property
    def stop(self) -> int:
        """The first byte after it."""
        return self.start + self.size


@dataclass(frozen=True)
class Layout:
    """Where everything is in a file.

    Attributes
    ----------
    size: bytes of the file.
    header: bytes before the first tile-part.
    width, height: of the image, pixels.
    tile_width, tile_height: of its tiles, pixels; those at the right and lower edge may be smaller.
    parts: all tile-parts, in their order in the file, which leave no gap.
    """

    size: int
    header: int
    width: int
    height: int
    tile_width: int
    tile_height: int
    parts: tuple[TilePart, ...]

    @property
    def columns(self) -> int:
        """Tiles of a row."""
        return -(-self.width // self.tile_width)

    @property
    def tiles(self) -> frozenset[int]:
        """The numbers of all tiles."""
        return frozenset(self.parts_of)

    @cached_property
    def parts_of(self) -> dict[int, tuple[TilePart, ...]]:
        """The parts of each tile, in order."""
        found: dict[int, list[TilePart]] = {}
        for part in self.parts:
            found.setdefault(part.tile, []).append(part)
        return {tile: tuple(parts) for tile, parts in found.items()}

    @property
    def trailer(self) -> int:
        """Where the tile-parts end: there is EOC, and perhaps boxes after it."""
        return self.parts[-1].stop

    def window_of(self, tile: int) -> Window:
        """The pixels of a tile."""
        row, column = divmod(tile, self.columns)
        x, y = column * self.tile_width, row * self.tile_height
        return Window(x, y, min(x + self.tile_width, self.width), min(y + self.tile_height, self.height))

    def tiles_in(self, windows: Iterable[Window]) -> frozenset[int]:
        """The tiles that hold a pixel of ``windows``."""
        image = Window(0, 0, self.width, self.height)
        found: set[int] = set()
        for window in (each & image for each in windows):
            if window:
                columns = range(window.x0 // self.tile_width, (window.x1 - 1) // self.tile_width + 1)
                rows = range(window.y0 // self.tile_height, (window.y1 - 1) // self.tile_height + 1)
                found.update(row * self.columns + column for row in rows for column in columns)
        return frozenset(found)

    def bytes_of(self, tiles: Collection[int]) -> int:
        """Bytes of all parts of ``tiles``."""
        return sum(part.size for part in self.parts if part.tile in tiles)

    def sot_of(self, part: TilePart) -> bytes:
        """The marker segment SOT with which a part begins."""
        parts = self.parts_of[part.tile]
        return struct.pack(">HHHIBB", _SOT, 10, part.tile, part.size, parts.index(part), len(parts))

    def check_start(self, part: TilePart, beginning: bytes) -> None:
        """Compare the first bytes of a part with what the main header says of it.

        Raises
        ------
        LayoutError
            If they are those of something else.
        """
        marker, length, tile, size = struct.unpack_from(">HHHI", beginning.ljust(SOT_SIZE, b"\0"))
        is_last = part.stop == self.trailer
        if (marker, length, tile) != (_SOT, 10, part.tile) or not (size == part.size or (size == 0 and is_last)):
            raise LayoutError(f"tile {part.tile} does not begin at byte {part.start}, where its header says it does")


def layout_of(beginning: bytes, size: int) -> Layout:
    """The layout of a JP2 file of ``size`` bytes with TLM, from its ``beginning``.

    Raises
    ------
    HeaderTooShortError
        If more of the file is needed.
    LayoutError
        If it is not a JP2 file, has no TLM, or its parts do not fill the codestream.
    """
    start, stop = _codestream(beginning, size)
    if _unpack(">H", beginning, start) != (_SOC,):
        raise LayoutError("its codestream does not begin with SOC")
    at, geometry, lengths = start + 2, None, {}
    for _ in range(_MOST_SEGMENTS):
        (marker,) = _unpack(">H", beginning, at)
        if marker == _SOT:
            break
        (length,) = _unpack(">H", beginning, at + 2)
        if marker < 0xFF00 or length < 2:
            raise LayoutError(f"its main header has no marker segment at byte {at}")
        if len(beginning) < at + 2 + length:
            raise HeaderTooShortError(at + 2 + length)
        segment = beginning[at + 4 : at + 2 + length]
        if marker == _SIZ:
            geometry = _geometry(segment)
        elif marker == _TLM:
            if len(segment) < 2 or segment[0] in lengths:
                raise LayoutError("its TLM marker segments are malformed")
            lengths[segment[0]] = list(_lengths(segment))
        at += 2 + length
    else:
        raise LayoutError("its main header has no end")
    if geometry is None:
        raise LayoutError("its main header has no SIZ")
    if not lengths:
        raise LayoutError("its main header has no TLM, which says where tiles are")
    width, height, tile_width, tile_height = geometry
    count = -(-width // tile_width) * -(-height // tile_height)
    listed = [entry for number in sorted(lengths) for entry in lengths[number]]
    return Layout(size, at, width, height, tile_width, tile_height, _placed(listed, count, at, stop))


def _codestream(beginning: bytes, size: int) -> tuple[int, int]:
    """First byte of the codestream, and the first one after it."""
    if not beginning.startswith(JP2_SIGNATURE):
        raise LayoutError("it is not a JP2 file")
    at = len(JP2_SIGNATURE)
    for _ in range(_MOST_SEGMENTS):
        length, kind = _unpack(">I4s", beginning, at)
        header = 8
        if length == 1:
            (length,), header = _unpack(">Q", beginning, at + 8), 16
        stop = size if length == 0 else at + length
        if stop < at + header or stop > size:
            raise LayoutError(f"it has a box at byte {at} that does not fit into the file")
        if kind == b"jp2c":
            return at + header, stop
        at = stop
    raise LayoutError("it has more boxes than any image")


def _unpack(form: str, data: bytes, at: int) -> tuple[Any, ...]:
    needed = at + struct.calcsize(form)
    if len(data) < needed:
        raise HeaderTooShortError(needed)
    return struct.unpack_from(form, data, at)


def _geometry(segment: bytes) -> tuple[int, int, int, int]:
    """Width and height of the image and of its tiles, from the marker segment SIZ (A.5.1)."""
    if len(segment) < 36:
        raise LayoutError("its marker segment SIZ is too short")
    _, width, height, x, y, tile_width, tile_height, tile_x, tile_y, _ = struct.unpack_from(">H8IH", segment)
    if (x, y, tile_x, tile_y) != (0, 0, 0, 0) or not min(width, height, tile_width, tile_height):
        raise LayoutError("its image or its tiles do not begin at pixel 0")
    if -(-width // tile_width) * -(-height // tile_height) > _MOST_TILES:
        raise LayoutError("it has more tiles than can be numbered")
    return width, height, tile_width, tile_height


def _lengths(segment: bytes) -> Iterator[tuple[int | None, int]]:
    """Tile number (None: the next one) and bytes of each part that a marker segment TLM lists (A.7.1)."""
    number = {0: "", 1: "B", 2: "H"}.get(segment[1] >> 4 & 3)
    if number is None:
        raise LayoutError("its TLM marker segments are malformed")
    form = struct.Struct(f">{number}{'I' if segment[1] >> 6 & 1 else 'H'}")
    if (len(segment) - 2) % form.size:
        raise LayoutError("its TLM marker segments are malformed")
    for entry in form.iter_unpack(segment[2:]):
        yield (entry[0] if number else None), entry[-1]


def _placed(listed: list[tuple[int | None, int]], tiles: int, start: int, stop: int) -> tuple[TilePart, ...]:
    """The parts one after the other from ``start`` on, which end with EOC at ``stop``."""
    parts, at = [], start
    for place, (number, size) in enumerate(listed):
        tile = place if number is None else number
        if tile >= tiles or size < _LEAST_PART:
            raise LayoutError(f"its TLM marker segments list a part of tile {tile} with {size} bytes")
        parts.append(TilePart(tile, at, size))
        at += size
    counts = Counter(part.tile for part in parts)
    if len(counts) != tiles or max(counts.values()) > 255 or at + len(END_OF_CODESTREAM) != stop:
        raise LayoutError("its TLM marker segments do not describe the whole codestream")
    return tuple(parts)
