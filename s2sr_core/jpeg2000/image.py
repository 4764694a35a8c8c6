"""Windows of an image by the decoder of this package, which is made for images like Sentinel-2's."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from s2sr_core.geo.codestream import SOT_SIZE, LayoutError, TilePart, layout_in
from s2sr_core.geo.lattice import Window
from s2sr_core.jpeg2000.code_blocks import decode_blocks
from s2sr_core.jpeg2000.coding import Coding, UncommonError, coding_of
from s2sr_core.jpeg2000.packets import read_packets
from s2sr_core.jpeg2000.tile_layout import TileLayout, blocks_reaching, tile_layout
from s2sr_core.jpeg2000.wavelet import pixels_of, steps_to

BoolArray = npt.NDArray[np.bool_]
UInt8Array = npt.NDArray[np.uint8]
UInt16Array = npt.NDArray[np.uint16]

_SOD = 0xFF93
_PLT = 0xFF58
#: What a header of a tile-part may have that says nothing about coefficients: PLT and COM.
_HARMLESS = frozenset({_PLT, 0xFF64})


class Image:
    """A JP2 file that is open. The tile that was read last is kept, with what of it has been decoded."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the headers.

        Raises
        ------
        RuntimeError
            If it is damaged, or coded in another way than Sentinel-2's images (:class:`UncommonError`).
        """
        self._file = file
        try:
            header, self._layout = layout_in(file, os.fstat(file.fileno()).st_size)
        except LayoutError as error:
            raise RuntimeError(str(error)) from error
        file.seek(0)
        if b"pclr" in file.read(header.start):
            raise UncommonError("its pixels are numbers of colours in a palette")
        self.coding = coding_of(header.segments)
        self._tile: tuple[int, _Tile] | None = None

    def read_window(self, window: Window, counts: BoolArray | None = None) -> UInt16Array:
        """The pixels of ``window`` (columns and rows of the image, within it), rows × columns.

        Those that are not true in ``counts`` (rows × columns; all by default) can be anything.

        Raises
        ------
        RuntimeError
            If the file is damaged, as far as that shows.
        """
        pixels = np.empty(window.shape, np.uint16)
        for number in sorted(self._layout.tiles_in([window])):
            whole = self._layout.window_of(number)
            inner = (window & whole).seen_from(window)
            shown = slice(inner.y0, inner.y1), slice(inner.x0, inner.x1)
            tile = self._tile_of(number, whole)
            pixels[shown] = tile.read(window & whole, None if counts is None else counts[shown])
        return pixels

    def _tile_of(self, number: int, window: Window) -> _Tile:
        if self._tile is None or self._tile[0] != number:
            self._tile = None
            parts = self._layout.parts_of.get(number, ())
            packets = b"".join(self._packets(part, index) for index, part in enumerate(parts))
            self._tile = number, _Tile.of(self.coding, window, np.frombuffer(packets, np.uint8))
        return self._tile[1]

    def _packets(self, part: TilePart, index: int) -> bytes:
        """The bytes of a part of a tile after its header."""
        self._file.seek(part.start)
        content, at = self._file.read(part.size), SOT_SIZE
        try:
            self._layout.check_start(part, content[:SOT_SIZE])
        except LayoutError as error:
            raise RuntimeError(str(error)) from error
        if len(content) < part.size or content[10] != index:
            raise RuntimeError(f"tile {part.tile} lacks a part")
        while True:
            marker, length = struct.unpack_from(">HH", content.ljust(at + 4, b"\0"), at)
            if marker == _SOD:
                return content[at + 2 :]
            at += 2 + length
            is_cut_off = marker == _PLT and content[at - 1 : at] >= b"\x80"  # within a number of seven bits a byte
            if marker not in _HARMLESS or length < 2 or is_cut_off:
                raise UncommonError(f"the header of tile {part.tile} has a marker {marker:04X} that is not understood")


@contextmanager
def opened(path: Path) -> Iterator[Image]:
    """Open an image.

    Raises
    ------
    RuntimeError
        As :class:`Image`.
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        yield Image(file)


@dataclass(frozen=True, slots=True, eq=False)
class _Tile:
    """A tile, with the coefficients that have been decoded."""

    coding: Coding
    layout: TileLayout
    data: UInt8Array
    coded: npt.NDArray[np.int64]
    chunks: npt.NDArray[np.int64]
    coefficients: npt.NDArray[np.int32]
    is_decoded: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, coding: Coding, window: Window, data: UInt8Array) -> _Tile:
        layout = tile_layout(coding, window)
        count = len(layout.blocks)
        coded, chunks = read_packets(
            data, layout.order, layout.packets, layout.groups, count, layout.nodes, coding.has_eph
        )
        if len(coded) != count:
            raise RuntimeError("the packets of a tile cannot be read")
        return cls(coding, layout, data, coded, chunks, np.zeros(layout.size, np.int32), np.zeros(count, bool))

    def read(self, window: Window, counts: BoolArray | None) -> UInt16Array:
        """Pixels of a window within the tile."""
        if counts is None:
            counts = np.ones(window.shape, bool)
        wanted = blocks_reaching(self.layout.reach, self.is_decoded, window.x0, window.y0, counts)
        decode_blocks(self.data, self.layout.blocks, self.coded, self.chunks, wanted, self.coefficients)
        self.is_decoded[wanted] = True
        return pixels_of(self.layout, self.coefficients, steps_to(self.layout, window), self.coding.precision)
