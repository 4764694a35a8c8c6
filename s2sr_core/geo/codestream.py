"""Where the tiles of a JPEG 2000 image lie in its file, without decoding any (ISO/IEC 15444-1, annexes A and I).

An image is boxes, then a codestream: a main header, the tile-parts (each begins with the marker SOT) and EOC. If the
main header has TLM marker segments, they say how long each tile-part is, so that its place is known before it is read.
Without them a tile is found by its marker SOT, which says how long it is: no such bytes can occur within its packets.
What is parsed here came from elsewhere: every length is compared with what there is.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

from s2sr_core.geo.lattice import Window

#: The first box of a JP2 file (I.5.1), and the last marker of a codestream (A.4.4).
JP2_SIGNATURE = bytes.fromhex("0000000c 6a502020 0d0a870a")
END_OF_CODESTREAM = b"\xff\xd9"
#: Bytes in which the boxes before the codestream mostly lie: real ones have three kilobytes.
_BEGINNING = 1 << 16
#: Bytes of the marker segment SOT, and of the least tile-part: SOT and the marker SOD (A.4.2 and A.4.3).
SOT_SIZE, _LEAST_PART = 12, 14
_SOC, _SIZ, _TLM, _SOT = 0xFF4F, 0xFF51, 0xFF55, 0xFF90
#: The first bytes of each SOT: the marker, and the length of its segment.
_SOT_BEGIN = bytes.fromhex("ff90 000a")
#: Tiles of an image, at most (A.4.2), and boxes and marker segments before the first tile, of which there are a dozen.
_MOST_TILES, _MOST_SEGMENTS = 65_535, 1000


class LayoutError(Exception):
    """The beginning of a file does not say where the tiles are; the message says why."""


class UnlistedError(LayoutError):
    """The main header has no TLM: the tiles have to be found."""


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
    found: the tiles whose place is known, if TLM does not tell all; the others share what lies between them, with
        places that mean nothing.
    """

    size: int
    header: int
    width: int
    height: int
    tile_width: int
    tile_height: int
    parts: tuple[TilePart, ...]
    found: frozenset[int] | None = None

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

    def share_of(self, tiles: Collection[int]) -> float:
        """The share of the pixels of the image that are in ``tiles``."""
        windows = map(self.window_of, tiles)
        return sum(window.width * window.height for window in windows) / (self.width * self.height)

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


def is_whole(file: BinaryIO, size: int) -> bool:
    """Whether a JP2 file of ``size`` bytes has all that its boxes announce, and the end of its codestream."""
    try:
        _, stop = _from_beginning(file, size, _codestream)
    except LayoutError:
        return False
    file.seek(stop - len(END_OF_CODESTREAM))
    return file.read(len(END_OF_CODESTREAM)) == END_OF_CODESTREAM


def layout_in(file: BinaryIO, size: int) -> tuple[MainHeader, Layout]:
    """The main header of a JP2 file of ``size`` bytes, and where its tiles are.

    Without TLM the first bytes of every part are read.

    Raises
    ------
    LayoutError
        If it is not a JP2 file, or its parts do not fill the codestream.
    """
    header = _from_beginning(file, size, main_header)
    parts = _listed(header) if header.lengths else tuple(_chained(file, header))
    return header, Layout(size, header.start, *header.geometry, parts)


def _chained(file: BinaryIO, header: MainHeader) -> Iterator[TilePart]:
    """The parts, each of which says where the next one begins."""
    at, end = header.start, header.stop - len(END_OF_CODESTREAM)
    while at < end:
        file.seek(at)
        marker, length, tile, size = struct.unpack(">HHHI", file.read(10).ljust(10, b"\0"))
        size = size or end - at
        if (marker, length) != (_SOT, 10) or tile >= header.tiles or not _LEAST_PART <= size <= end - at:
            raise LayoutError(f"no tile begins at byte {at}")
        yield TilePart(tile, at, size)
        at += size


def _from_beginning[T](file: BinaryIO, size: int, parse: Callable[[bytes, int], T]) -> T:
    needed = min(_BEGINNING, size)
    while needed <= size:
        file.seek(0)
        try:
            return parse(file.read(needed), size)
        except HeaderTooShortError as error:
            needed = error.needed
    raise LayoutError("its header is cut off")


def layout_of(beginning: bytes, size: int) -> Layout:
    """The layout of a JP2 file of ``size`` bytes with TLM, from its ``beginning``.

    Raises
    ------
    HeaderTooShortError
        If more of the file is needed.
    LayoutError
        If it is not a JP2 file, has no TLM, or its parts do not fill the codestream.
    """
    header = main_header(beginning, size)
    if not header.lengths:
        raise UnlistedError("its main header has no TLM, which says where tiles are")
    return Layout(size, header.start, *header.geometry, _listed(header))


def layout_found(beginning: bytes, size: int, found: Mapping[int, tuple[int, int]]) -> Layout:
    """The layout of a JP2 file whose tiles are one part each, in order; ``found`` are first byte and bytes of some.

    Raises
    ------
    HeaderTooShortError
        If more of the file is needed.
    LayoutError
        If it is not a JP2 file, or the tiles do not fit into it.
    """
    header = main_header(beginning, size)
    parts, unknown, at = [], [], header.start
    for tile in range(header.tiles + 1):
        if tile not in found and tile < header.tiles:
            unknown.append(tile)
            continue
        start, length = found.get(tile, (header.stop - len(END_OF_CODESTREAM), 0))
        parts += _between(unknown, at, start)
        if tile < header.tiles:
            if length < _LEAST_PART:
                raise LayoutError(f"tile {tile} has {length} bytes")
            parts.append(TilePart(tile, start, length))
        at, unknown = start + length, []
    if not found.keys() <= set(range(header.tiles)):
        raise LayoutError("it has tiles that cannot be")
    return Layout(size, header.start, *header.geometry, tuple(parts), frozenset(found))


def _between(tiles: list[int], start: int, stop: int) -> list[TilePart]:
    """Places for tiles that lie somewhere from ``start`` to ``stop``: the last one takes what is left."""
    sizes = [_LEAST_PART] * (len(tiles) - 1) + [stop - start - _LEAST_PART * (len(tiles) - 1)] if tiles else []
    if start + sum(sizes) != stop or any(size < _LEAST_PART for size in sizes):
        raise LayoutError("its tiles do not follow one another")
    return [
        TilePart(tile, start + _LEAST_PART * number, size)
        for number, (tile, size) in enumerate(zip(tiles, sizes, strict=True))
    ]


@dataclass(frozen=True, slots=True)
class MainHeader:
    """What the main header says.

    Attributes
    ----------
    start, stop: where the tile-parts start, and where the codestream stops.
    geometry: width and height of the image and of its tiles, pixels.
    lengths: tile number (None: the next one) and bytes of each part, for each marker segment TLM.
    segments: the first marker segment of each kind, without marker and length.
    """

    start: int
    stop: int
    geometry: tuple[int, int, int, int]
    lengths: Mapping[int, list[tuple[int | None, int]]]
    segments: Mapping[int, bytes]

    @property
    def tiles(self) -> int:
        width, height, tile_width, tile_height = self.geometry
        return -(-width // tile_width) * -(-height // tile_height)


def main_header(beginning: bytes, size: int) -> MainHeader:
    """The main header of a JP2 file of ``size`` bytes, from its ``beginning``.

    Raises
    ------
    HeaderTooShortError
        If more of the file is needed.
    LayoutError
        If it is not a JP2 file.
    """
    start, stop = _codestream(beginning, size)
    if _unpack(">H", beginning, start) != (_SOC,):
        raise LayoutError("its codestream does not begin with SOC")
    at, geometry = start + 2, None
    lengths: dict[int, list[tuple[int | None, int]]] = {}
    segments: dict[int, bytes] = {}
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
        segments.setdefault(marker, segment)
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
    return MainHeader(at, stop, geometry, lengths, segments)


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


def _listed(header: MainHeader) -> tuple[TilePart, ...]:
    """The parts that TLM lists, one after the other from the header on, which end with EOC."""
    listed = [entry for number in sorted(header.lengths) for entry in header.lengths[number]]
    parts, at = [], header.start
    for place, (number, size) in enumerate(listed):
        tile = place if number is None else number
        if tile >= header.tiles or size < _LEAST_PART:
            raise LayoutError(f"its TLM marker segments list a part of tile {tile} with {size} bytes")
        parts.append(TilePart(tile, at, size))
        at += size
    counts = Counter(part.tile for part in parts)
    if len(counts) != header.tiles or max(counts.values()) > 255 or at + len(END_OF_CODESTREAM) != header.stop:
        raise LayoutError("its TLM marker segments do not describe the whole codestream")
    return tuple(parts)


def tiles_in(data: bytes, first: int, layout: Layout) -> dict[int, tuple[int, int]]:
    """First byte and bytes of the tiles whose marker SOT is in ``data``, which begins with byte ``first`` of the file.

    Raises
    ------
    LayoutError
        If tiles have several parts, or do not fit into the file.
    """
    found, at = {}, data.find(_SOT_BEGIN)
    while 0 <= at <= len(data) - SOT_SIZE:
        tile, size, number, parts = struct.unpack_from(">HIBB", data, at + len(_SOT_BEGIN))
        start = first + at
        size = size or layout.trailer - start
        if number != 0 or parts > 1:
            raise LayoutError("its tiles have several parts")
        if tile not in layout.parts_of or size < _LEAST_PART or start + size > layout.trailer or tile in found:
            raise LayoutError("its tiles do not follow one another")
        found[tile] = (start, size)
        at = data.find(_SOT_BEGIN, at + len(_SOT_BEGIN))
    return found
