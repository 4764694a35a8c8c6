"""The arithmetic of the warp and of the median, compiled.

What GDAL's warper does for one band with nodata and an error threshold of 0, where the lattice is not coarser than the
scene (``GDALWarpKernel``, four-sample bilinear): a pixel is valid where the source pixel that holds its centre is;
its value is the mean of the valid ones of the four around it, weighted, in double precision, in this order of
operations, and rounded half up. Results are equal to the last bit, so nothing here may be rearranged.

The first process that imports this compiles it and, where it can, keeps the result on disk for the others.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from s2sr_core.compiled import compiled
from s2sr_core.pixels.rules import COMPOSITE_NODATA, SCENE_NODATA

_NODATA = np.uint16(SCENE_NODATA)
_COMPOSITE_NODATA = np.float32(COMPOSITE_NODATA)
#: How far beyond a pixel's edge a centre may fall and still be in it (GDALWarpKernel's).
_EDGE = 1e-10
#: Pixels of a row whose values are sorted at once: 120 scenes of them stay in a core's cache.
_STRIP = 256

_SIGNATURE = (
    "boolean(uint16[::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], float64[:, :, ::1], float64[:, :, ::1], "
    "boolean, int64[:, ::1], float32[:, ::1], uint16[:, ::1])"
)


@compiled()
def _places(xs, ys, size, window, nearest, near, first, weights):  # type: ignore[no-untyped-def]
    """Where the values of a strip of pixels come from, the same for all scenes of a grid.

    Fills, for each coordinate: ``near``, the position in ``window`` of the source pixel that holds it, or −1 outside of
    the scene of ``size`` (rows, columns); ``first``, that of the upper left one of the four around it; and the weights
    of the four, one strip after the other. ``window`` is left, top, right, bottom; it reaches beyond the scene's edge
    where that is near. Returns whether it holds all these pixels.
    """
    rows, columns = size
    left, top, right, bottom = window
    width = right - left
    is_held = True
    for index in range(xs.size):
        x, y = xs[index], ys[index]
        inside = x >= 0.0 and y >= 0.0 and x + _EDGE <= columns and y + _EDGE <= rows
        column, row = left, top
        if inside:
            column, row = min(int(x + _EDGE), columns - 1), min(int(y + _EDGE), rows - 1)
        near[index] = (row - top) * width + column - left if inside else -1
        is_held &= left <= column < right and top <= row < bottom
    if nearest or not is_held:
        return is_held
    for index in range(xs.size):
        column, row, ratio_x, ratio_y = float(left), float(top), 0.0, 0.0
        if near[index] >= 0:
            x, y = xs[index], ys[index]
            column, row = np.floor(x - 0.5), np.floor(y - 0.5)
            ratio_x, ratio_y = 1.5 - (x - column), 1.5 - (y - row)
            if column == -1.0:
                column, ratio_x = 0.0, 1.0
            if row == -1.0:
                row, ratio_y = 0.0, 1.0
            is_held &= left <= column and column + 1 < right and top <= row and row + 1 < bottom
        first[index] = (int(row) - top) * width + int(column) - left
        weights[index] = ratio_x * ratio_y
        weights[_STRIP + index] = (1.0 - ratio_x) * ratio_y
        weights[2 * _STRIP + index] = ratio_x * (1.0 - ratio_y)
        weights[3 * _STRIP + index] = (1.0 - ratio_x) * (1.0 - ratio_y)
    return is_held


@compiled()
def _sample(pixels, start, width, nearest, near, first, weights, four, values, valid):  # type: ignore[no-untyped-def]
    """The values of a scene for a strip of pixels, from where :func:`_places` says; counts the valid ones.

    The window of the scene begins at ``start`` of ``pixels`` and has ``width`` columns. Fills ``values``, adds to
    ``valid``; ``four`` is scratch. Loops that look for pixels are apart from those that compute, so that these become
    vector instructions; an unsigned index is not tested for being negative.
    """
    is_empty = True
    for index in range(near.size):
        values[index] = pixels[np.uintp(start + near[index])] if near[index] >= 0 else _NODATA
        is_empty &= values[index] == _NODATA
    if is_empty:
        return
    if not nearest:
        for index in range(near.size):
            upper = np.uintp(start + first[index])
            lower = upper + np.uintp(width)
            four[index], four[_STRIP + index] = pixels[upper], pixels[upper + np.uintp(1)]
            four[2 * _STRIP + index], four[3 * _STRIP + index] = pixels[lower], pixels[lower + np.uintp(1)]
        _average(four, weights, values)
    for index in range(near.size):
        valid[index] += values[index] != _NODATA


@compiled()
def _average(four, weights, values):  # type: ignore[no-untyped-def]
    """The means of the valid ones of ``four`` instead of those of ``values`` that are valid."""
    for index in range(values.size):
        a, b, c, d = four[index], four[_STRIP + index], four[2 * _STRIP + index], four[3 * _STRIP + index]
        of_a = weights[index] if a != _NODATA else 0.0
        of_b = weights[_STRIP + index] if b != _NODATA else 0.0
        of_c = weights[2 * _STRIP + index] if c != _NODATA else 0.0
        of_d = weights[3 * _STRIP + index] if d != _NODATA else 0.0
        mean = (a * of_a + b * of_b + c * of_c + d * of_d) / (of_a + of_b + of_c + of_d)
        rounded = np.uint16(np.int32(mean + 0.5))
        values[index] = rounded if values[index] != _NODATA else _NODATA


@compiled(_SIGNATURE)
def composite(pixels, scenes, windows, sizes, xs, ys, nearest, network, medians, counts):  # type: ignore[no-untyped-def]
    """Median and count of the valid values of scenes, warped.

    Parameters
    ----------
    pixels:
        UInt16, nodata 65535: the window of each scene, row by row, one after the other.
    scenes:
        For each scene its grid and the position of its first pixel, scenes × 2, int64; in the order of grids.
    windows, sizes:
        For each grid the window that its scenes hold (left, top, right, bottom), and its rows and columns, int64.
    xs, ys:
        The coordinates on each grid, grids × rows × columns, float64.
    nearest: whether the nearest pixel is taken instead of four.
    network: pairs of positions that sort as many values as there are scenes, int64, pairs × 2.
    medians, counts: filled: Float32, nodata −9999; UInt16; rows × columns.

    Returns
    -------
    Whether ``windows`` hold all pixels that were needed; if not, the arrays are not valid.
    """
    rows, columns = medians.shape
    values = np.empty((max(scenes.shape[0], 1), _STRIP), np.uint16)
    valid = np.empty(_STRIP, np.uint16)
    near, first, weights = np.empty(_STRIP, np.int64), np.empty(_STRIP, np.int64), np.empty(4 * _STRIP, np.float64)
    four = np.empty(4 * _STRIP, np.uint16)
    for row in range(rows):
        for begin in range(0, columns, _STRIP):
            length = min(_STRIP, columns - begin)
            end = begin + length
            valid[:] = 0
            last = -1
            for scene in range(scenes.shape[0]):
                grid, start = scenes[scene, 0], scenes[scene, 1]
                width = windows[grid, 2] - windows[grid, 0]
                if grid != last:
                    x, y = xs[grid, row, begin:end], ys[grid, row, begin:end]
                    if not _places(x, y, sizes[grid], windows[grid], nearest, near, first, weights):
                        return False
                    last = grid
                _sample(
                    pixels,
                    start,
                    width,
                    nearest,
                    near[:length],
                    first,
                    weights,
                    four,
                    values[scene, :length],
                    valid,
                )
            for pair in range(network.shape[0]):
                low, high = values[network[pair, 0]], values[network[pair, 1]]
                for index in range(_STRIP):
                    a, b = low[index], high[index]
                    low[index], high[index] = min(a, b), max(a, b)
            for index in range(length):
                count = valid[index]
                counts[row, begin + index] = count
                if count == 0:
                    medians[row, begin + index] = _COMPOSITE_NODATA
                else:
                    # Nodata is above all values, so the valid ones come first.
                    lower, upper = values[(count - 1) // 2, index], values[count // 2, index]
                    medians[row, begin + index] = np.float32(0.5) * (np.float32(lower) + np.float32(upper))
    return True


@compiled()
def warp(pixels, scenes, windows, sizes, xs, ys, nearest, places, stack):  # type: ignore[no-untyped-def]
    """The values of scenes, warped: what :func:`composite` takes the median of.

    Parameters and the returned value are as there. Fills ``stack`` (rows × columns for each scene, UInt16, nodata
    65535): ``places`` (int64) says for each scene where in it.
    """
    rows, columns = stack.shape[1], stack.shape[2]
    valid = np.zeros(_STRIP, np.uint16)
    near, first, weights = np.empty(_STRIP, np.int64), np.empty(_STRIP, np.int64), np.empty(4 * _STRIP, np.float64)
    four = np.empty(4 * _STRIP, np.uint16)
    for row in range(rows):
        for begin in range(0, columns, _STRIP):
            length = min(_STRIP, columns - begin)
            end = begin + length
            last = -1
            for scene in range(scenes.shape[0]):
                grid, start = scenes[scene, 0], scenes[scene, 1]
                width = windows[grid, 2] - windows[grid, 0]
                if grid != last:
                    x, y = xs[grid, row, begin:end], ys[grid, row, begin:end]
                    if not _places(x, y, sizes[grid], windows[grid], nearest, near, first, weights):
                        return False
                    last = grid
                values = stack[places[scene], row, begin:end]
                _sample(pixels, start, width, nearest, near[:length], first, weights, four, values, valid)
    return True


def sort(values: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Scenes × rows × columns sorted along the first axis, as numpy does, in a tenth of its time."""
    result = values.copy()
    _sort(result.reshape(len(values), -1), network(len(values)))
    return result


@compiled("void(uint16[:, ::1], int64[:, ::1])")
def _sort(values, pairs):  # type: ignore[no-untyped-def]
    for begin in range(0, values.shape[1], _STRIP):
        end = min(begin + _STRIP, values.shape[1])
        for pair in range(pairs.shape[0]):
            low, high = values[pairs[pair, 0], begin:end], values[pairs[pair, 1], begin:end]
            for index in range(end - begin):
                a, b = low[index], high[index]
                low[index], high[index] = min(a, b), max(a, b)


@functools.cache
def network(size: int) -> npt.NDArray[np.int64]:
    """:func:`sorting_network`, made once."""
    return sorting_network(size)


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
