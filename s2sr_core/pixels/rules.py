"""The rules of the pixels: constants, and plain functions over numpy arrays.

Arrays are rows × columns; a stack is scenes × rows × columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

UInt16Array = npt.NDArray[np.uint16]
BoolArray = npt.NDArray[np.bool_]

#: The largest DN of a pixel that is not saturated (15 bits).
LARGEST_DN = 32767
#: Nodata of harmonised scenes: above every DN.
SCENE_NODATA = 65535
#: Nodata of composites.
COMPOSITE_NODATA = -9999.0
#: DN that mean "no data" and "saturated" (SPECIAL_VALUES of the product metadata).
_DN_NODATA, DN_SATURATED = 0, 65535


def harmonised(dn: npt.NDArray[np.integer[Any]], masked_out: BoolArray, offset: int) -> UInt16Array:
    """Harmonised DN: nodata first, then ``max(DN + offset, 0)`` in more than 16 bits, so that nothing wraps.

    Returns UInt16 with :data:`SCENE_NODATA` where ``masked_out``, or DN is 0 (no data) or 65535 (saturated).
    """
    shifted: UInt16Array = np.clip(dn.astype(np.int32) + offset, 0, SCENE_NODATA - 1).astype(np.uint16)
    shifted[masked_out | (dn == _DN_NODATA) | (dn == DN_SATURATED)] = SCENE_NODATA
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
