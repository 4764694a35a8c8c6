"""The rules of the pixels: constants, and plain functions over numpy arrays.

Arrays are rows, columns; a stack is scenes, rows, columns.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from s2sr_core.pixels.scl import SCL_CLASSES

UInt16Array = npt.NDArray[np.uint16]
BoolArray = npt.NDArray[np.bool_]

#: Nodata of harmonised scenes: above every DN, which end at 32767 (15 bits).
SCENE_NODATA = 65535
#: Nodata of composites.
COMPOSITE_NODATA = -9999.0
#: DN that mean "no data" and "saturated" (SPECIAL_VALUES of the product metadata).
_DN_NODATA, _DN_SATURATED = 0, 65535

#: By class, how far its mask is widened: in columns and rows of the scene's grid.
Dilation = Mapping[int, tuple[float, float]]


def scl_masked(
    scl: npt.NDArray[np.integer[Any]],
    classes: Collection[int],
    dilation: Dilation | None = None,
    inside: BoolArray | None = None,
) -> BoolArray:
    """Where the scene classification masks a pixel.

    Parameters
    ----------
    scl:
        Classes, rows × columns.
    classes:
        The masked ones; a value that is no class of :data:`SCL_CLASSES` is masked as well.
    dilation:
        Widen the mask of these classes: every pixel whose centre lies within an ellipse of these half-axes, in pixels,
        around the centre of a pixel of the class is masked too.
    inside:
        Where ``scl`` holds real pixels; what lies outside (a buffer beyond the granule's edge) is not widened.
    """
    clear = np.zeros(256, bool)
    clear[[value for value in SCL_CLASSES if value not in classes]] = True
    result: BoolArray = ~clear[np.clip(scl, 0, 255)]
    for value, (columns, rows) in (dilation or {}).items():
        seeds = scl == value
        if inside is not None:
            seeds &= inside
        if seeds.any():
            result |= _dilated(seeds, columns, rows)
    return result


def harmonised(dn: npt.NDArray[np.integer[Any]], masked_out: BoolArray, offset: int) -> UInt16Array:
    """Harmonised DN: nodata first, then ``max(DN + offset, 0)`` in more than 16 bits, so that nothing wraps.

    Returns UInt16 with :data:`SCENE_NODATA` where ``masked_out``, or DN is 0 (no data) or 65535 (saturated).
    """
    shifted: UInt16Array = np.clip(dn.astype(np.int32) + offset, 0, SCENE_NODATA - 1).astype(np.uint16)
    shifted[masked_out | (dn == _DN_NODATA) | (dn == _DN_SATURATED)] = SCENE_NODATA
    return shifted


def median_of_valid(stack: UInt16Array) -> npt.NDArray[np.float32]:
    """Median over the scenes (axis 0) of the values that are not :data:`SCENE_NODATA`.

    The median of an even number of values is the mean of the two in the middle: at most 65534 in steps of 0.5, which
    Float32 holds exactly. Returns :data:`COMPOSITE_NODATA` where no value is valid.
    """
    valid = stack != SCENE_NODATA
    covered = valid.any(axis=0)
    result = np.full(stack.shape[1:], COMPOSITE_NODATA, np.float32)
    if covered.any():
        values = np.where(valid[:, covered], stack[:, covered], np.nan).astype(np.float32)
        result[covered] = np.nanmedian(values, axis=0)
    return result


def count_of_valid(stack: UInt16Array) -> UInt16Array:
    """Number of values (axis 0) that are not :data:`SCENE_NODATA`."""
    counts: UInt16Array = np.count_nonzero(stack != SCENE_NODATA, axis=0).astype(np.uint16)
    return counts


def _dilated(seeds: BoolArray, columns: float, rows: float) -> BoolArray:
    """``seeds`` widened by an ellipse: row by row of the ellipse, a run of columns as a difference of running sums."""
    height, width = seeds.shape
    sums = np.zeros((height, width + 1), np.int32)
    np.cumsum(seeds, axis=1, out=sums[:, 1:])
    result = seeds.copy()
    column = np.arange(width)
    highest = min(int(rows), height - 1)
    for dy in range(-highest, highest + 1):
        reach = int(columns * np.sqrt(1.0 - (dy / rows) ** 2) + 1e-9) if rows > 0 else int(columns)
        run = sums[:, np.minimum(column + reach + 1, width)] > sums[:, np.maximum(column - reach, 0)]
        source = slice(max(-dy, 0), height - max(dy, 0))
        target = slice(max(dy, 0), height - max(-dy, 0))
        result[target] |= run[source]
    return result


def parse_classes(text: str) -> frozenset[int]:
    """``0 1 3`` as a set."""
    return frozenset(map(int, text.split()))


def parse_dilation(text: str) -> Dilation:
    """``9:5.0:5.0 3:2.5:2.5`` as class → (columns, rows)."""
    entries = (entry.split(":") for entry in text.split())
    return {int(value): (float(columns), float(rows)) for value, columns, rows in entries}


def format_dilation(dilation: Dilation) -> str:
    """The inverse of :func:`parse_dilation`."""
    return " ".join(f"{value}:{columns!r}:{rows!r}" for value, (columns, rows) in sorted(dilation.items()))
