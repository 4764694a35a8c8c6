"""SCL on the grid of a scene's bands: each of its pixels is one of theirs, or several where they are finer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Window
from s2sr_core.jpeg2000.windows import window_reader

Classes = npt.NDArray[np.integer[Any]]


def read_classes(scl: gdal.Dataset, window: Window, factor: int) -> Classes:
    """The classes in ``window`` of the bands' grid, whose pixels are ``factor`` times finer than those of ``scl``.

    Each pixel has the class of the pixel of SCL that holds it; of ``window.shape``.
    """
    coarse = Window(window.x0 // factor, window.y0 // factor, -(-window.x1 // factor), -(-window.y1 // factor))
    classes = _read(scl, coarse)
    if factor == 1:
        return classes
    fine = classes.repeat(factor, axis=0).repeat(factor, axis=1)
    left, top = window.x0 - coarse.x0 * factor, window.y0 - coarse.y0 * factor
    return fine[top : top + window.height, left : left + window.width]


def _read(scl: gdal.Dataset, window: Window) -> Classes:
    if scl.GetDriver().ShortName != "JP2OpenJPEG":
        pixels: Classes = scl.ReadAsArray(window.x0, window.y0, window.width, window.height)
        return pixels
    _, rows = scl.GetRasterBand(1).GetBlockSize()
    classes = np.empty(window.shape, np.uint8)
    with window_reader(Path(scl.GetDescription())) as read:
        for top in range(window.y0 - window.y0 % rows, window.y1, rows):  # one row of tiles after the other, for memory
            part = window & Window(window.x0, top, window.x1, top + rows)
            _, y = part.offset_in(window)
            classes[y : y + part.height] = read(part, np.ones(part.shape, bool))
    return classes
