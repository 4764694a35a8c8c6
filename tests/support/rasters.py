"""Little rasters on a lattice."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from s2sr_core.geo.gdal_runtime import gdal, osr
from s2sr_core.geo.lattice import Lattice, Window

NODATA = -9999.0


def raster(path: Path, window: Window, values: np.ndarray, lattice: Lattice) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind, nodata = (gdal.GDT_Float32, NODATA) if values.dtype == np.float32 else (gdal.GDT_UInt16, 65535)
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), window.width, window.height, 1, kind)
    reference = osr.SpatialReference()
    reference.SetFromUserInput(lattice.crs)
    dataset.SetProjection(reference.ExportToWkt())
    dataset.SetGeoTransform(lattice.geotransform(window))
    dataset.GetRasterBand(1).SetNoDataValue(nodata)
    dataset.GetRasterBand(1).WriteArray(values)
    dataset.Close()
    return path


def read(path: Path) -> np.ndarray:
    with gdal.Open(str(path)) as dataset:
        pixels: np.ndarray = dataset.ReadAsArray()
        return pixels


#: Degrees of a pixel that :func:`write_raster` writes.
SIZE = 0.25


def write_raster(
    path: Path, column: int, row: int, values: list[list[float]], nodata: float, size: float = SIZE
) -> None:
    """A raster whose first pixel is ``column``, ``row`` of the lattice from 0° E, 90° N; UInt16 for counts."""
    pixels = np.array(values, np.float32 if nodata == NODATA else np.uint16)
    rows, columns = pixels.shape
    shift = column - int(column)  # of a lattice that is anchored elsewhere
    window = Window(int(column), row, int(column) + columns, row + rows)
    raster(path, window, pixels, Lattice(size, size, x_anchor=shift * size, y_anchor=90.0))
