"""Exact coordinates: where on a scene's images the centre of each pixel of the lattice is.

They are computed by GDAL's own transformer from the numbers a warped VRT holds, so they are those of the warp with an
error threshold of 0, to the last bit; and they are the same for all bands and dates of a tile.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass

import cachetools
import numpy as np
import numpy.typing as npt
from osgeo import gdal_array

from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.geometry import spatial_reference
from s2sr_core.geo.lattice import Geotransform, Lattice, Window
from s2sr_core.geo.raster_grid import RasterGrid

FloatArray = npt.NDArray[np.float64]
#: Bytes of coordinates kept for the next band of a cell: 16 per pixel, 31 MB for a cell of 0.25° and a tile.
_KEPT = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class Warp:
    """From a lattice to a scene's grid: what a warped VRT of ``piece`` holds."""

    grid: RasterGrid
    lattice: Lattice
    piece: Window


def _bytes(coordinates: tuple[FloatArray, FloatArray]) -> int:
    return sum(array.nbytes for array in coordinates)


@cachetools.cached(cachetools.LRUCache(_KEPT, getsizeof=_bytes), lock=threading.Lock())
def source_coordinates(warp: Warp, window: Window) -> tuple[FloatArray, FloatArray]:
    """Where on a warp's grid the centres of a window's pixels are; the last results are kept.

    Columns and rows (float64, of the window's shape, in pixels from the grid's upper left corner); not finite where
    there is none.
    """
    left, top = window.offset_in(warp.piece)
    # As GDAL's warper names centres: the pixel's number, plus a half, plus the chunk's offset.
    x = np.broadcast_to(np.arange(window.width) + 0.5 + left, window.shape)
    y = np.broadcast_to((np.arange(window.height) + 0.5 + top)[:, None], window.shape)
    return _transformed(warp, x, y)


@functools.lru_cache(maxsize=1024)
def extent(warp: Warp, window: Window, margin: int) -> Window:
    """A window of the scene's grid that holds ``margin`` pixels around all that ``window`` touches.

    It may reach beyond the scene's edges by as much.
    """
    edge = np.linspace(0.0, 1.0, 33)
    left, top = window.offset_in(warp.piece)
    x = left + window.width * np.concatenate([edge, edge, np.zeros(33), np.ones(33)])
    y = top + window.height * np.concatenate([np.zeros(33), np.ones(33), edge, edge])
    x, y = _transformed(warp, x, y)
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.all():
        x, y = x[finite], y[finite]
    if x.size == 0:
        return Window(0, 0, 0, 0)
    rows, columns = warp.grid.shape
    low_x, high_x, low_y, high_y = (np.clip(value, -1e6, 1e6) for value in (x.min(), x.max(), y.min(), y.max()))
    around = Window(int(low_x) - margin, int(low_y) - margin, int(high_x) + margin + 1, int(high_y) + margin + 1)
    return around & Window(-margin, -margin, columns + margin, rows + margin)


def _transformed(warp: Warp, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    arrays = [np.atleast_2d(np.array(values, float, order="C")) for values in (x, y)]
    arrays.append(np.zeros_like(arrays[0]))
    bands = [gdal_array.OpenArray(array) for array in arrays]
    _transformer(warp).TransformGeolocations(*(dataset.GetRasterBand(1) for dataset in bands))
    for dataset in bands:
        dataset.FlushCache()
    return arrays[0], arrays[1]


@functools.lru_cache(maxsize=64)
def _transformer(warp: Warp) -> gdal.Transformer:
    """From pixels of the piece, as its source because GDAL transforms arrays that way, to pixels of the scene."""
    source = _blank(warp.lattice.crs, warp.lattice.geotransform(warp.piece), warp.piece.shape)
    target = _blank(warp.grid.crs, warp.grid.geotransform, warp.grid.shape)
    return gdal.Transformer(source, target, [])


def _blank(crs: str, geotransform: Geotransform, shape: tuple[int, int]) -> gdal.Dataset:
    dataset = gdal.GetDriverByName("MEM").Create("", shape[1], shape[0], 0)
    dataset.SetSpatialRef(spatial_reference(crs))
    dataset.SetGeoTransform(geotransform)
    return dataset
