"""What VRTs call: the only module whose functions a VRT may call, and nothing imports it but GDAL.

Each function unpacks GDAL's arguments and calls a rule of :mod:`s2sr_core.pixels.rules` or an engine. Arrays are rows,
columns. GDAL passes every argument of a ``PixelFunctionArguments`` element as bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from s2sr_core.pixels.rules import (
    count_of_valid,
    harmonised,
    median_of_valid,
    parse_classes,
    parse_dilation,
    scl_masked,
)

Arguments = bytes | str


def masked(
    in_ar: Sequence[npt.NDArray[Any]],
    out_ar: npt.NDArray[Any],
    xoff: int,
    yoff: int,
    xsize: int,
    ysize: int,
    raster_xsize: int,
    raster_ysize: int,
    buf_radius: int,
    gt: Sequence[float],
    **kwargs: Arguments,
) -> None:
    """Pixel function of the masked VRT: a band and SCL are its sources.

    Its arguments are ``offset``, ``classes`` (``0 1 3``) and ``dilation`` (``9:5:5 3:2:2``: class, columns, rows).
    """
    dn, scl = in_ar
    top, left = yoff - buf_radius, xoff - buf_radius
    row, column = np.arange(top, top + scl.shape[0]), np.arange(left, left + scl.shape[1])
    inside = ((row >= 0) & (row < raster_ysize))[:, None] & ((column >= 0) & (column < raster_xsize))
    mask = scl_masked(scl, parse_classes(_text(kwargs["classes"])), parse_dilation(_text(kwargs["dilation"])), inside)
    out_ar[:] = harmonised(dn, mask, int(_text(kwargs["offset"])))


def median(in_ar: Sequence[npt.NDArray[Any]], out_ar: npt.NDArray[Any], *_window: object, **_kwargs: Arguments) -> None:
    """Pixel function of the median VRT. Sources: the bands of the stack VRT."""
    out_ar[:] = median_of_valid(np.stack(in_ar))


def count(in_ar: Sequence[npt.NDArray[Any]], out_ar: npt.NDArray[Any], *_window: object, **_kwargs: Arguments) -> None:
    """Pixel function of the count VRT. Sources: the bands of the stack VRT."""
    out_ar[:] = count_of_valid(np.stack(in_ar))


def composite(
    in_ar: Sequence[npt.NDArray[Any]],
    out_ar: npt.NDArray[Any],
    xoff: int,
    yoff: int,
    xsize: int,
    ysize: int,
    *_raster: object,
    **kwargs: Arguments,
) -> None:
    """Pixel function of the fast engine's VRT, which has no sources.

    Its arguments are ``layers``, a file that describes the scenes, and ``value``: ``median`` or ``count``.
    """
    from s2sr_core.engines import fast

    computed = fast.computed_window(Path(_text(kwargs["layers"])), xoff, yoff, xsize, ysize)
    out_ar[:] = computed.median if _text(kwargs["value"]) == "median" else computed.count


def _text(value: Arguments) -> str:
    return value.decode() if isinstance(value, bytes) else value
