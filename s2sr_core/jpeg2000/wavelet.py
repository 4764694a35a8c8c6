"""The reversible 5/3 wavelet transform, backwards (ISO/IEC 15444-1, annex F.3).

Columns and rows are counted as the standard does, from the image's corner at each resolution: coefficients of even ones
are of the lower resolution, those of odd ones are details.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from s2sr_core.compiled import compiled
from s2sr_core.geo.lattice import Window
from s2sr_core.jpeg2000.tile_layout import Band, TileLayout

Int32Array = npt.NDArray[np.int32]
UInt16Array = npt.NDArray[np.uint16]


class Step(NamedTuple):
    """One resolution on the way to a window of a tile.

    Attributes
    ----------
    wanted: its pixels that are to be right.
    region: those that are computed, because the ones at their sides take part; none of the lowest.
    """

    wanted: Window
    region: Window


def steps_to(layout: TileLayout, window: Window) -> list[Step]:
    """What of each resolution, lowest first, takes part in the pixels of ``window``."""
    steps = []
    for pixels in reversed(layout.resolutions[1:]):
        x0, y0, x1, y1 = (2 * (edge // 2) for edge in (window.x0, window.y0, window.x1, window.y1))
        region = pixels & Window(x0 - 1, y0 - 1, x1 + 2, y1 + 2)
        steps.append(Step(window, region))
        window = part_in(region)
    return [Step(window, window), *reversed(steps)]


def part_in(region: Window, right: int = 0, lower: int = 0) -> Window:
    """The coefficients of a band (LL: of the lower resolution) that lie in a region of a resolution."""
    x0, x1 = ((edge + 1 - right) // 2 for edge in (region.x0, region.x1))
    y0, y1 = ((edge + 1 - lower) // 2 for edge in (region.y0, region.y1))
    return Window(x0, y0, x1, y1)


def pixels_of(layout: TileLayout, coefficients: Int32Array, steps: Sequence[Step], precision: int) -> UInt16Array:
    """The pixels of the window, rows × columns, of ``precision`` bits.

    They are right as far as all code blocks that reach them are decoded.
    """

    def taken(band: Band, part: Window) -> Int32Array:
        inner = part.seen_from(band.window)
        return coefficients[band.place : band.stop].reshape(band.window.shape)[inner.y0 : inner.y1, inner.x0 : inner.x1]

    ((lowest,), *details) = layout.bands
    pixels = taken(lowest, steps[0].wanted)
    for step, bands in zip(steps[1:], details, strict=True):
        region = step.region
        mixed = np.empty(region.shape, np.int32)
        mixed[region.y0 % 2 :: 2, region.x0 % 2 :: 2] = pixels
        for band in bands:
            part = part_in(region, band.right, band.lower)
            mixed[(region.y0 + band.lower) % 2 :: 2, (region.x0 + band.right) % 2 :: 2] = taken(band, part)
        _reconstruct(mixed, region.x0 % 2, region.y0 % 2)
        inner = step.wanted.seen_from(region)
        pixels = mixed[inner.y0 : inner.y1, inner.x0 : inner.x1]
    shifted: UInt16Array = _shifted(pixels, 1 << (precision - 1))
    return shifted


@compiled()
def _shifted(values, level):  # type: ignore[no-untyped-def]
    """Unsigned pixels (UInt16) of values around 0 (Int32), of which 2 × ``level`` are possible (annex G.1)."""
    pixels = np.empty(values.shape, np.uint16)
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            pixels[y, x] = min(max(values[y, x] + level, 0), 2 * level - 1)
    return pixels


@compiled()
def _reconstruct(mixed, first_column, first_row):  # type: ignore[no-untyped-def]
    """Rows, then columns, in place (2D_SR, figure F.6); beyond its edges ``mixed`` goes on as its mirror image.

    Parameters
    ----------
    mixed: Int32, rows × columns.
    first_column, first_row: 1 if the first one is an odd one, else 0.
    """
    rows, columns = mixed.shape
    if columns > 1:
        for y in range(rows):
            for x in range(first_column, columns, 2):
                left, right = mixed[y, abs(x - 1)], mixed[y, x + 1 if x + 1 < columns else x - 1]
                mixed[y, x] -= (left + right + 2) >> 2
            for x in range(1 - first_column, columns, 2):
                left, right = mixed[y, abs(x - 1)], mixed[y, x + 1 if x + 1 < columns else x - 1]
                mixed[y, x] += (left + right) >> 1
    elif first_column:
        mixed[:, 0] >>= 1
    if rows > 1:
        for y in range(first_row, rows, 2):
            above, below = mixed[abs(y - 1)], mixed[y + 1 if y + 1 < rows else y - 1]
            for x in range(columns):
                mixed[y, x] -= (above[x] + below[x] + 2) >> 2
        for y in range(1 - first_row, rows, 2):
            above, below = mixed[abs(y - 1)], mixed[y + 1 if y + 1 < rows else y - 1]
            for x in range(columns):
                mixed[y, x] += (above[x] + below[x]) >> 1
    elif first_row:
        mixed[0] >>= 1
