"""SCL on the grid of a scene's bands: each of its pixels is one of theirs, or several where they are finer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Window


def read_classes(scl: gdal.Dataset, window: Window, factor: int) -> npt.NDArray[np.integer[Any]]:
    """The classes in ``window`` of the bands' grid, whose pixels are ``factor`` times finer than those of ``scl``.

    Each pixel has the class of the pixel of SCL that holds it; of ``window.shape``.
    """
    coarse = Window(window.x0 // factor, window.y0 // factor, -(-window.x1 // factor), -(-window.y1 // factor))
    classes: npt.NDArray[np.integer[Any]] = scl.ReadAsArray(coarse.x0, coarse.y0, coarse.width, coarse.height)
    if factor == 1:
        return classes
    fine = classes.repeat(factor, axis=0).repeat(factor, axis=1)
    left, top = window.x0 - coarse.x0 * factor, window.y0 - coarse.y0 * factor
    return fine[top : top + window.height, left : left + window.width]
