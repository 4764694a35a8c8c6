"""The arithmetic of the warp and of the median, compiled.

What GDAL's warper does for one band with nodata and an error threshold of 0, where the lattice is not coarser than the
scene (``GDALWarpKernel``, four-sample bilinear): a pixel is valid where the source pixel that holds its centre is;
its value is the mean of the valid ones of the four around it, weighted, in double precision, in this order of
operations, and rounded half up. Results are equal to the last bit, so nothing here may be rearranged.

The first process that imports this compiles it and keeps the result on disk for the others.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from s2sr_core.pixel_functions import COMPOSITE_NODATA, SCENE_NODATA

_NODATA = np.uint16(SCENE_NODATA)
_COMPOSITE_NODATA = np.float32(COMPOSITE_NODATA)
#: How far beyond a pixel's edge a centre may fall and still be in it (GDALWarpKernel's).
_EDGE = 1e-10
#: Pixels of a row whose values are sorted at once: 120 scenes of them stay in a core's cache.
_STRIP = 256

_OPTIONS: Any = {"cache": True, "nogil": True, "error_model": "numpy"}
_SIGNATURE = (
    "void(uint16[::1], int64[::1], int64[:, ::1], int64[::1], int64[:, ::1], float64[:, :, ::1], float64[:, :, ::1], "
    "boolean, int64[:, ::1], float32[:, ::1], uint16[:, ::1])"
)


@numba.njit(**_OPTIONS)
def _sample(pixels, start, window, size, x, y, nearest):  # type: ignore[no-untyped-def]
    """The value at column ``x``, row ``y`` of a scene of ``size`` (rows, columns), of which ``window`` is there."""
    left, top, right, bottom = window
    if not (x >= 0.0 and y >= 0.0 and x + _EDGE <= size[1] and y + _EDGE <= size[0]):
        return _NODATA
    width = right - left
    column, row = min(int(x + _EDGE), size[1] - 1), min(int(y + _EDGE), size[0] - 1)
    if column < left or column >= right or row < top or row >= bottom:
        return _NODATA
    value = pixels[start + (row - top) * width + column - left]
    if nearest or value == _NODATA:
        return value
    column, row = math.floor(x - 0.5), math.floor(y - 0.5)
    ratio_x, ratio_y = 1.5 - (x - column), 1.5 - (y - row)
    if column == -1:
        column, ratio_x = 0, 1.0
    if row == -1:
        row, ratio_y = 0, 1.0
    total, weights = 0.0, 0.0
    first = start + (row - top) * width + column - left
    has_left, has_right = column >= left, column + 1 < right
    if row >= top:
        if has_left and pixels[first] != _NODATA:
            weight = ratio_x * ratio_y
            weights += weight
            total += pixels[first] * weight
        if has_right and pixels[first + 1] != _NODATA:
            weight = (1.0 - ratio_x) * ratio_y
            weights += weight
            total += pixels[first + 1] * weight
    if row + 1 < bottom:
        first += width
        if has_left and pixels[first] != _NODATA:
            weight = ratio_x * (1.0 - ratio_y)
            weights += weight
            total += pixels[first] * weight
        if has_right and pixels[first + 1] != _NODATA:
            weight = (1.0 - ratio_x) * (1.0 - ratio_y)
            weights += weight
            total += pixels[first + 1] * weight
    if weights != 1.0:
        total /= weights
    return np.uint16(total + 0.5)


@numba.njit(_SIGNATURE, **_OPTIONS)
def composite(pixels, starts, windows, grids, sizes, xs, ys, nearest, network, medians, counts):  # type: ignore[no-untyped-def]
    """Median and count of the valid values of scenes, warped.

    Parameters
    ----------
    pixels, starts, windows:
        UInt16, nodata 65535: the windows of all scenes behind one another, row by row; where each starts; what each is
        (left, top, right, bottom on the scene's grid), int64, scenes × 4.
    grids, sizes, xs, ys:
        The grid of each scene; rows and columns of each grid, grids × 2; the coordinates on each grid, grids × rows ×
        columns, float64.
    nearest: whether the nearest pixel is taken instead of four.
    network: pairs of positions that sort as many values as there are scenes, int64, pairs × 2.
    medians, counts: filled: Float32, nodata −9999; UInt16; rows × columns.
    """
    scenes = starts.size
    rows, columns = medians.shape
    values = np.empty((scenes, _STRIP), np.uint16)
    valid = np.empty(_STRIP, np.uint16)
    for row in range(rows):
        for begin in range(0, columns, _STRIP):
            width = min(_STRIP, columns - begin)
            valid[:] = 0
            for scene in range(scenes):
                grid = grids[scene]
                size = (sizes[grid, 0], sizes[grid, 1])
                window = (windows[scene, 0], windows[scene, 1], windows[scene, 2], windows[scene, 3])
                for column in range(width):
                    x, y = xs[grid, row, begin + column], ys[grid, row, begin + column]
                    value = _sample(pixels, starts[scene], window, size, x, y, nearest)
                    values[scene, column] = value
                    valid[column] += value != _NODATA
            for pair in range(network.shape[0]):
                low, high = values[network[pair, 0]], values[network[pair, 1]]
                for column in range(_STRIP):
                    a, b = low[column], high[column]
                    low[column], high[column] = min(a, b), max(a, b)
            for column in range(width):
                count = valid[column]
                counts[row, begin + column] = count
                if count == 0:
                    medians[row, begin + column] = _COMPOSITE_NODATA
                else:
                    # Nodata is above all values, so the valid ones come first.
                    a, b = values[(count - 1) // 2, column], values[count // 2, column]
                    medians[row, begin + column] = np.float32(0.5) * (np.float32(a) + np.float32(b))


def sorting_network(size: int) -> npt.NDArray[np.int64]:
    """Batcher's odd-even merge sort: pairs (low, high) that, compared and swapped in this order, sort ``size`` values.

    That of the next power of two, without the pairs that reach beyond ``size``: values there would be the largest and
    never move.
    """
    pairs: list[tuple[int, int]] = []
    p = 1
    while p < size:
        k = p
        while k >= 1:
            for j in range(k % p, size - k, 2 * k):
                lows = range(j, min(j + k, size - k))
                pairs.extend((i, i + k) for i in lows if i // (2 * p) == (i + k) // (2 * p))
            k //= 2
        p *= 2
    return np.array(pairs, np.int64).reshape(-1, 2)
