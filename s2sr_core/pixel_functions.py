"""What VRTs call: the only module whose functions a VRT may call, and nothing imports it but GDAL.

Each function unpacks GDAL's arguments and calls a rule of :mod:`s2sr_core.pixels` or an engine. Arrays are rows ×
columns. GDAL passes every argument of a ``PixelFunctionArguments`` element as bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from s2sr_core.geo.lattice import Window
from s2sr_core.pixels import masks
from s2sr_core.pixels.observations import Acquisitions
from s2sr_core.pixels.rules import harmonised
from s2sr_core.pixels.statistics import compute_all, statistic_of

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
    """Pixel function of the masked VRT: a band, SCL and perhaps a given mask are its sources.

    Its arguments are ``offset`` (DN to add), ``mask`` (the name of a mask) and that mask's own.
    """
    dn, scl, *given = in_ar
    top, left = yoff - buf_radius, xoff - buf_radius
    row, column = np.arange(top, top + scl.shape[0]), np.arange(left, left + scl.shape[1])
    inside = ((row >= 0) & (row < raster_ysize))[:, None] & ((column >= 0) & (column < raster_xsize))
    arguments = {key: _text(value) for key, value in kwargs.items()}
    masked_out = masks.from_arguments(arguments).masked(scl, inside)
    for other in given:
        masked_out |= other != 0
    out_ar[:] = harmonised(dn, masked_out, int(arguments["offset"]))


def statistic(
    in_ar: Sequence[npt.NDArray[Any]], out_ar: npt.NDArray[Any], *_window: object, **kwargs: Arguments
) -> None:
    """Pixel function of the VRT of a statistic, the median say. Sources: the bands of one stack VRT, or of several.

    Its arguments are ``statistic``, a name, ``min_count``, those of :class:`Acquisitions`, and ``place``: of which of
    several stacks the result is.
    """
    arguments = {key: _text(value) for key, value in kwargs.items()}
    acquisitions = Acquisitions.from_arguments(arguments)
    scenes = len(acquisitions.days)
    stacks = [np.stack(in_ar[first : first + scenes]) for first in range(0, len(in_ar), scenes)]
    statistic = statistic_of(arguments["statistic"]).requiring(int(arguments["min_count"]))
    out_ar[:] = compute_all([statistic], stacks, acquisitions)[int(arguments["place"])][0]


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

    Its arguments are ``layers``, a file that describes the scenes, ``statistic``, a name, and ``place``: of which of
    several stacks the result is.
    """
    from s2sr_core.engines import fast  # compiled code, which the reference engine does without

    values = fast.values_in(Path(_text(kwargs["layers"])), Window(xoff, yoff, xoff + xsize, yoff + ysize))
    out_ar[:] = values[int(_text(kwargs["place"])), _text(kwargs["statistic"])]


def _text(value: Arguments) -> str:
    return value.decode() if isinstance(value, bytes) else value
