"""The user's own masks: a folder with a GeoTIFF for each product, of any classification of clouds.

A file belongs to the product whose name its own begins with. Its values are those of the parameter ``mask_clear`` where
pixels are clear; every other value, nodata, and what it does not cover are masked. It is foreign input: opened by the
GeoTIFF driver alone, and looked at before anybody relies on it. Its pixels are brought onto the grid of the scene's SCL
once, in phase 1, so that both engines read the same.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from s2sr_core.errors import ProductError, Step
from s2sr_core.files import written_atomically
from s2sr_core.geo import geometry
from s2sr_core.geo.gdal_runtime import gdal, gdal_array
from s2sr_core.geo.geometry import spatial_reference
from s2sr_core.geo.lattice import Window
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.scene import GivenMask

BoolArray = npt.NDArray[np.bool_]

_SUFFIXES = (".tif", ".tiff")
#: What follows the name of the product in that of its mask.
_SEPARATORS = (".", "_", "-")
#: Types that classes come in.
_TYPES = (gdal.GDT_Byte, gdal.GDT_Int8, gdal.GDT_Int16, gdal.GDT_UInt16)
#: Rows and columns: twice those of a granule at 10 m.
_LARGEST = 2 * 10_980
#: Where the mask says nothing, on its way to the scene's grid; no type of a mask holds it.
_UNKNOWN = -(2**31)


def of_scene(
    context: RunContext, product: str, grid: RasterGrid, outline: BaseGeometry, *, is_needed: bool
) -> GivenMask | None:
    """The mask of a product, on the grid of its SCL, whose outline (EPSG:4326) is ``outline``.

    If it is not needed (SCL masks all that counts), it may be missing, and its pixels are not read.

    Raises
    ------
    ProductError
        If there is no mask of the product, or several, or it cannot be one.
    """
    parameters = context.parameters
    if parameters.mask_dir is None:
        raise ValueError("the run is given no masks")
    try:
        file = _find(parameters.mask_dir, product)
        if file is None:
            if is_needed:
                raise _error(product, f"{parameters.mask_dir} holds no mask of it, such as {product}.tif")
            return None
        raster = context.workspace.given_mask(product) if is_needed else None
        if not stat.S_ISREG(file.stat().st_mode):
            raise _error(product, f"{file.name} is not a regular file")
        with file.open("rb") as stream:
            checksum = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
        if raster is not None:
            _write(raster, _masked(product, file, grid, outline, parameters.mask_clear), grid)
    except OSError as error:
        if error.filename is None or not Path(str(error.filename)).is_relative_to(parameters.mask_dir):
            raise
        raise _error(product, f"its mask cannot be read ({error.strerror})") from error
    return GivenMask(file, checksum, raster)


def read(raster: Path, window: Window) -> BoolArray:
    """Which pixels of ``window`` are masked by a raster that :func:`of_scene` wrote."""
    if not window:
        return np.zeros(window.shape, bool)
    with gdal.OpenEx(str(raster), gdal.OF_RASTER, allowed_drivers=["GTiff"]) as dataset:
        masked: BoolArray = dataset.ReadAsArray(window.x0, window.y0, window.width, window.height) != 0
    return masked


def _find(folder: Path, product: str) -> Path | None:
    names = _listing(folder, folder.stat().st_mtime_ns, len(product)).get(product, ())
    if len(names) > 1:
        raise _error(product, f"{folder} holds several masks of it: {', '.join(names)}")
    return folder / names[0] if names else None


@functools.lru_cache(maxsize=2)
def _listing(folder: Path, _mtime_ns: int, length: int) -> Mapping[str, tuple[str, ...]]:
    """Names of GeoTIFFs in a folder by their first ``length`` letters."""
    found: dict[str, tuple[str, ...]] = {}
    for name in sorted(path.name for path in folder.iterdir()):
        if name.lower().endswith(_SUFFIXES) and name[length : length + 1] in _SEPARATORS:
            found[name[:length]] = (*found.get(name[:length], ()), name)
    return found


def _masked(product: str, file: Path, grid: RasterGrid, outline: BaseGeometry, clear: list[int]) -> BoolArray:
    """Which pixels of ``grid`` are masked: rows × columns."""
    try:
        with gdal.OpenEx(str(file), gdal.OF_RASTER | gdal.OF_READONLY, allowed_drivers=["GTiff"]) as dataset:
            own = _checked(product, file, dataset, outline)
            if own.same_as(grid.refined(2)):  # no nearest pixel there: each pixel of the scene is four of the mask
                unknown = dataset.GetRasterBand(1).GetMaskBand().ReadAsArray() == 0
                fine = unknown | ~np.isin(dataset.ReadAsArray(), clear)
                quads: BoolArray = fine.reshape(grid.shape[0], 2, grid.shape[1], 2).any(axis=(1, 3))
                return quads
            return ~np.isin(_nearest(dataset, grid), clear)
    except (RuntimeError, ValueError, shapely.errors.ShapelyError) as error:
        reason = " ".join(str(error).split())
        raise _error(product, f"{file.name} is not a GeoTIFF that GDAL can read ({reason})") from error


def _nearest(dataset: gdal.Dataset, grid: RasterGrid) -> npt.NDArray[np.int32]:
    """The value of a mask at the centre of each pixel of ``grid``."""
    target = gdal.GetDriverByName("MEM").Create("", grid.shape[1], grid.shape[0], 1, gdal.GDT_Int32)
    target.SetSpatialRef(spatial_reference(grid.crs))
    target.SetGeoTransform(grid.geotransform)
    band = target.GetRasterBand(1)
    band.Fill(_UNKNOWN)
    band.SetNoDataValue(_UNKNOWN)
    gdal.Warp(target, dataset, resampleAlg="nearest", errorThreshold=0.0, overviewLevel="NONE")
    values: npt.NDArray[np.int32] = target.ReadAsArray()
    return values


def _checked(product: str, file: Path, dataset: gdal.Dataset, outline: BaseGeometry) -> RasterGrid:
    """The grid of a mask, which can be one."""
    rows, columns = dataset.RasterYSize, dataset.RasterXSize
    if max(rows, columns) > _LARGEST:
        raise _error(product, f"{file.name} has {columns} x {rows} pixels; {_LARGEST} x {_LARGEST} is the most")
    if dataset.RasterCount != 1 or dataset.GetRasterBand(1).DataType not in _TYPES:
        raise _error(product, f"{file.name} is not one band of whole numbers of 8 or 16 bits")
    reference, geotransform = dataset.GetSpatialRef(), dataset.GetGeoTransform(can_return_null=True)
    if reference is None or geotransform is None or not np.isfinite(geotransform).all():
        lacks = "coordinate system" if reference is None else "geotransform"
        raise _error(product, f"{file.name} has no {lacks}")
    grid = RasterGrid(reference.ExportToWkt(), geotransform, (rows, columns))
    if not geometry.of_raster(grid.crs, grid.geotransform, grid.shape).intersects(outline):
        raise _error(product, f"{file.name} lies outside the product's images: it is a mask of another place")
    return grid


def _write(target: Path, masked: BoolArray, grid: RasterGrid) -> None:
    source = gdal_array.OpenArray(masked.astype(np.uint8))
    source.SetSpatialRef(spatial_reference(grid.crs))
    source.SetGeoTransform(grid.geotransform)
    with written_atomically(target) as temporary:
        options = ["TILED=YES", "COMPRESS=DEFLATE", "ZLEVEL=1"]
        gdal.GetDriverByName("GTiff").CreateCopy(str(temporary), source, options=options).Close()
        with gdal.OpenEx(str(temporary), gdal.OF_RASTER, allowed_drivers=["GTiff"]) as written:
            if not np.array_equal(written.ReadAsArray(), masked):  # on a full disk blocks are just missing
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))


def _error(product: str, reason: str) -> ProductError:
    return ProductError(product, reason, step=Step.MASK)
