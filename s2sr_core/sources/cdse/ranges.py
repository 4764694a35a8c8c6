"""Which ranges of an image to ask for, so that its wanted tiles come in few requests, and whether to ask at all."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from s2sr_core.geo.codestream import Layout, TilePart
from s2sr_core.geo.lattice import Window
from s2sr_core.products.bands import TILE_SIDE
from s2sr_core.products.tiles import GRANULE
from s2sr_core.sources.cdse.http import CdseError

#: Bytes of the first range: the header of an image of 20 m has some three kilobytes.
HEADER = 1 << 14
#: Bytes between two ranges that come along rather than being left out by another request, and requests for one image.
_GAP, _MOST_RANGES = 1 << 16, 12
#: Bytes below which an image is not worth two requests.
_SMALL = 8 * HEADER


class RangesRefusedError(CdseError):
    """A host gave something else than the range of bytes that was asked for."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a file, ``start`` … ``stop`` − 1, and the tile-parts among them."""

    start: int
    stop: int
    parts: tuple[TilePart, ...] = ()

    @property
    def size(self) -> int:
        return self.stop - self.start


class RangeSupport:
    """Whether the host gives ranges, which is tried once in a run.

    Attributes
    ----------
    works: None until it is known.
    """

    def __init__(self) -> None:
        self._first = threading.Lock()
        self.works: bool | None = None

    def forget(self) -> None:
        """A run begins."""
        self.works = None

    def ask[R](self, request: Callable[[], R]) -> R:
        """The result of ``request`` for a range; while it is not known whether that works, one thread asks.

        Raises
        ------
        RangesRefusedError
            If ``request`` raises it, or another one did.
        """
        if self.works is None:
            with self._first:
                if self.works is None:
                    try:
                        result = request()
                    except RangesRefusedError:
                        self.works = False
                        raise
                    self.works = True
                    return result
        if not self.works:
            raise RangesRefusedError("the host gives whole files alone")
        return request()


def may_save(size: int, windows: Sequence[Window], resolution: int, most: float) -> bool:
    """Whether an image of ``size`` bytes is large, and at most the share ``most`` of its tiles has a pixel that counts.

    That is a guess, before anything of the image is asked for: that it is a granule with ESA's tiles.
    """
    side = TILE_SIDE[resolution]
    tiles = Layout(0, 0, GRANULE // resolution, GRANULE // resolution, side, side, ()).tiles_in(windows)
    return size >= _SMALL and len(tiles) <= most * math.ceil(GRANULE / resolution / side) ** 2


def spans_of(layout: Layout, tiles: Collection[int]) -> list[Span]:
    """The ranges that hold all parts of ``tiles``, which are at most twelve.

    Parts that touch, or nearly do, share one; what lies between them comes along, and is kept.
    """
    spans: list[Span] = []
    for part in (part for part in layout.parts if part.tile in tiles):
        if spans and part.start - spans[-1].stop <= _GAP:
            spans[-1] = Span(spans[-1].start, part.stop)
        else:
            spans.append(Span(part.start, part.stop))
    while len(spans) > _MOST_RANGES:
        gaps = [after.start - before.stop for before, after in pairwise(spans)]
        place = gaps.index(min(gaps))
        spans[place : place + 2] = [Span(spans[place].start, spans[place + 1].stop)]
    return [Span(span.start, span.stop, _within(layout, span)) for span in spans]


def _within(layout: Layout, span: Span) -> tuple[TilePart, ...]:
    return tuple(part for part in layout.parts if span.start <= part.start and part.stop <= span.stop)
