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
