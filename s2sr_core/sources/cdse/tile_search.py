"""The tiles of an image whose header does not list them: their markers are looked for in ranges of its bytes.

Where a tile begins is guessed from the places that are known, of which there are more with each range. A range is wide
enough to hold the wanted tiles and little else. Each tile says how long it is.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import BinaryIO

from s2sr_core.geo.codestream import SOT_SIZE, Layout, LayoutError, tiles_in
from s2sr_core.sources.cdse.ranges import Span

#: Ranges that are asked for at most.
_MOST_RANGES = 12
#: How far off a guess may be, in mean tiles: this much, times the root of the number of tiles to a place that is known.
_BACK, _FORTH = 0.4, 0.3


@dataclass
class TileSearch:
    """A search in one image.

    Parameters
    ----------
    layout: what is known of the places of tiles.
    scratch: an empty file for the bytes that come, each at its place in the image.
    receive: writes a span of the image to a file.

    Attributes
    ----------
    found: first byte and bytes of each tile that is known.
    """

    layout: Layout
    scratch: BinaryIO
    receive: Callable[[Span, BinaryIO], None]
    found: dict[int, tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        known = self.layout.found or frozenset()
        self.found = {part.tile: (part.start, part.size) for part in self.layout.parts if part.tile in known}
        self._come: list[Span] = []
        self._ranges = 0

    def find(self, tiles: Collection[int]) -> None:
        """Have all bytes of ``tiles`` come.

        Raises
        ------
        LayoutError
            If that takes too many ranges, or the tiles are not one part each, in order.
        """
        for first, last in _runs(tiles):
            while (span := self._wanted(first, last)) is not None:
                self._ask(span)

    def find_all(self) -> None:
        """Have all come that has not come of all tiles.

        Raises
        ------
        LayoutError
            As :meth:`find`.
        """
        for gap in list(self._gaps(self.layout.header, self.layout.trailer)):
            self._ask(gap)

    def came(self) -> list[int]:
        """The tiles of which all bytes came."""
        return [
            tile for tile, (start, size) in sorted(self.found.items()) if self._missing(start, start + size) is None
        ]

    # --------------------------------------------------------------------------------------------- what to ask for next

    def _wanted(self, first: int, last: int) -> Span | None:
        """The next range for the tiles ``first`` … ``last``; None if all of them came."""
        start = self._place(first)
        if start is None:
            return self._around(first, last)
        at = start
        for tile in range(first, last + 1):
            if tile not in self.found:
                # What is missing begins with the marker of this tile, which says more.
                guess = self._guess(last + 1) + _FORTH * self._mean * math.sqrt(last + 1 - tile)
                stop = min(max(int(guess), at + SOT_SIZE), self._bounds(last)[1])
                if (span := self._missing(at, stop)) is None:
                    raise LayoutError(f"its tile {tile} is not where it should be")
                return span
            at += self.found[tile][1]
        span = self._missing(start, min(at + SOT_SIZE, self.layout.trailer))
        if span is None and last + 1 in self.layout.parts_of and last + 1 not in self.found:
            raise LayoutError(f"no tile follows its tile {last}")  # whose marker would vouch for the length
        return span

    def _around(self, first: int, last: int) -> Span:
        """A range in which the tile ``first`` may begin: in what has not come of the bytes where it can be."""
        low, high = self._bounds(first)
        known = [tile for tile in (-1, *self.found, len(self.layout.parts)) if tile != first]
        distance = min(abs(tile - first) for tile in known)
        guess = self._guess(first)
        gaps = list(self._gaps(low, high))
        if not gaps:
            raise LayoutError(f"its tile {first} is not where it should be")
        gap = min(gaps, key=lambda each: max(each.start - guess, guess - each.stop, 0))
        back = _BACK * self._mean * math.sqrt(distance)
        length = back + (self._guess(last + 1) - guess) + _FORTH * self._mean * math.sqrt(distance)
        start = max(gap.start, min(int(guess - back), gap.stop - int(self._mean)))
        return Span(start, min(gap.stop, max(int(start + length), start + SOT_SIZE)))

    def _place(self, tile: int) -> int | None:
        """Where a tile begins, if that is known."""
        if tile in self.found:
            return self.found[tile][0]
        if tile == 0:
            return self.layout.header
        if tile - 1 in self.found:
            return sum(self.found[tile - 1])
        return self.layout.trailer if tile == len(self.layout.parts) else None

    def _bounds(self, tile: int) -> tuple[int, int]:
        """The least and the greatest byte with which a tile that is not found, or what follows it, can begin."""
        before, after = self._neighbours(tile)
        return before[1], after[1]

    def _neighbours(self, tile: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The last place at or before a tile that is known, and the first one after it: tile and first byte."""
        before, after = (0, self.layout.header), (len(self.layout.parts), self.layout.trailer)
        for number, (start, size) in self.found.items():
            if number < tile and number + 1 > before[0]:
                before = number + 1, start + size
            if tile < number < after[0]:
                after = number, start
        return before, after

    def _guess(self, tile: int) -> float:
        """Where a tile may begin: between the places that are known, as its pixels are."""
        if (place := self._place(tile)) is not None:
            return place
        (low, start), (high, stop) = self._neighbours(tile)
        return start + (stop - start) * self._pixels(low, tile) / self._pixels(low, high)

    def _pixels(self, first: int, stop: int) -> int:
        return sum(window.width * window.height for window in map(self.layout.window_of, range(first, stop)))

    @property
    def _mean(self) -> float:
        """Bytes of a tile."""
        return (self.layout.trailer - self.layout.header) / len(self.layout.parts)

    # --------------------------------------------------------------------------------------------------- what has come

    def _ask(self, span: Span) -> None:
        if self._ranges == _MOST_RANGES:
            raise LayoutError(f"its tiles are not found in {_MOST_RANGES} ranges")
        self._ranges += 1
        with TemporaryFile() as received:
            self.receive(span, received)
            self.put(span, received)

    def put(self, span: Span, received: BinaryIO) -> None:
        """Take note of bytes that came."""
        received.seek(0)
        self.scratch.seek(span.start)
        shutil.copyfileobj(received, self.scratch)
        spans = sorted([*self._come, span], key=lambda each: each.start)
        self._come = spans[:1]
        for each in spans[1:]:
            last = self._come[-1]
            if each.start <= last.stop:
                self._come[-1] = Span(last.start, max(last.stop, each.stop))
            else:
                self._come.append(each)
        around = next(each for each in self._come if each.start <= span.start and span.stop <= each.stop)
        # A marker may begin in what came before, or end in it.
        start, stop = max(around.start, span.start - SOT_SIZE), min(around.stop, span.stop + SOT_SIZE)
        self.scratch.seek(start)
        self._note(tiles_in(self.scratch.read(stop - start), start, self.layout))

    def _note(self, seen: dict[int, tuple[int, int]]) -> None:
        self.found |= seen
        at, before = self.layout.header, -1
        for tile, (start, size) in sorted(self.found.items()):
            if start < at or (tile == before + 1 and start != at):
                raise LayoutError("its tiles do not follow one another")
            at, before = start + size, tile

    def _gaps(self, start: int, stop: int) -> Iterator[Span]:
        """What has not come of ``start`` … ``stop``."""
        for span in self._come:
            if span.stop > start and span.start < stop:
                if span.start > start:
                    yield Span(start, span.start)
                start = max(start, span.stop)
        if start < stop:
            yield Span(start, stop)

    def _missing(self, start: int, stop: int) -> Span | None:
        """From the first to the last byte of ``start`` … ``stop`` that has not come; None if all have."""
        gaps = list(self._gaps(start, stop))
        return Span(gaps[0].start, gaps[-1].stop) if gaps else None


def _runs(tiles: Collection[int]) -> list[tuple[int, int]]:
    """Tiles that follow one another, or nearly do, as first and last."""
    runs: list[tuple[int, int]] = []
    for tile in sorted(tiles):
        if runs and tile <= runs[-1][1] + 2:
            runs[-1] = runs[-1][0], tile
        else:
            runs.append((tile, tile))
    return runs
