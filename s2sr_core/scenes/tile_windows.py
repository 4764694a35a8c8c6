"""Which windows of JPEG 2000 tiles to decode, so that they hold all that counts and cost little."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from s2sr_core.geo.lattice import Window

BoolArray = npt.NDArray[np.bool_]

#: Side of the squares in which parts are drawn.
_SQUARE = 32
#: Where parts may be cut: a code block of the finest details covers 128 pixels of the image.
_CUT = 128 // _SQUARE
#: Side of code blocks, and wavelet levels, of Sentinel-2's 20 m bands. For other images the choice is only less good.
_CODE_BLOCK, _LEVELS = 64, 4
#: What a window costs besides its code blocks, in decoded coefficients: 3 ms, at 5.5 million per second.
_OVERHEAD = 16_000


def tile_windows(counts: BoolArray, window: Window, tile: tuple[int, int]) -> Iterator[Window]:
    """Windows that hold every true pixel of ``counts``, which are those of ``window``, at little cost of decoding.

    They are disjoint, and none reaches across two tiles (``tile`` is rows and columns of one).
    """
    rows, columns = tile
    for y in range(window.y0 - window.y0 % rows, window.y1, rows):
        for x in range(window.x0 - window.x0 % columns, window.x1, columns):
            shared = window & Window(x, y, x + columns, y + rows)
            inner = np.zeros(tile, bool)
            left, top = shared.offset_in(Window(x, y, 0, 0))
            x0, y0 = shared.offset_in(window)
            inner[top : top + shared.height, left : left + shared.width] = counts[
                y0 : y0 + shared.height, x0 : x0 + shared.width
            ]
            squares = inner.reshape(rows // _SQUARE, _SQUARE, columns // _SQUARE, _SQUARE).any(axis=(1, 3))
            for part in _cheapest(squares, Window(0, 0, columns // _SQUARE, rows // _SQUARE), rows):
                yield shared & Window(
                    x + part.x0 * _SQUARE, y + part.y0 * _SQUARE, x + part.x1 * _SQUARE, y + part.y1 * _SQUARE
                )


def _cheapest(squares: BoolArray, within: Window, side: int) -> list[Window]:
    """The squares in ``within`` as one window or, if that costs less, as the windows of its halves, and so on."""
    whole = trimmed(_inside(squares, within), within)
    if not whole:
        return []
    best, halves = _cost(whole, side), None
    for cut in range(_CUT, max(whole.x1, whole.y1), _CUT):
        across = (Window(whole.x0, whole.y0, cut, whole.y1), Window(cut, whole.y0, whole.x1, whole.y1))
        down = (Window(whole.x0, whole.y0, whole.x1, cut), Window(whole.x0, cut, whole.x1, whole.y1))
        for pair in (across, down):
            if pair[0] and pair[1]:
                cost = sum(_cost(trimmed(_inside(squares, half), half), side) for half in pair)
                if cost < best:
                    best, halves = cost, pair
    if halves is None:
        return [whole]
    return [part for half in halves for part in _cheapest(squares, half, side)]


def trimmed(values: BoolArray, within: Window) -> Window:
    """The smallest window that holds the true ones of ``values``, which are those of ``within``; empty if none is."""
    rows, columns = np.flatnonzero(values.any(axis=1)), np.flatnonzero(values.any(axis=0))
    if len(rows) == 0:
        return Window(within.x0, within.y0, within.x0, within.y0)
    x, y = within.x0, within.y0
    return Window(x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1)


def _inside(values: BoolArray, window: Window) -> BoolArray:
    return values[window.y0 : window.y1, window.x0 : window.x1]


def _cost(window: Window, side: int) -> int:
    """Coefficients that decoding a window of squares of a tile takes: whole code blocks, of every level."""
    if not window:
        return 0
    total = _OVERHEAD
    for level in range(1, _LEVELS + 1):
        # Reconstructing a pixel takes up to two coefficients more on each side.
        area = 1
        for low, high in ((window.x0, window.x1), (window.y0, window.y1)):
            first = max((low * _SQUARE >> level) - 2, 0) // _CODE_BLOCK
            last = -(-((high * _SQUARE >> level) + 2) // _CODE_BLOCK)
            area *= min(last * _CODE_BLOCK, side >> level) - first * _CODE_BLOCK
        total += 3 * area if level < _LEVELS else 4 * area
    return total
