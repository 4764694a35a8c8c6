"""Phase 1: one product → its masked and warped VRTs.

The images are opened here for the first time, with the raster drivers of the formats that products come in and no
other: GDAL tells a format by its content, and a "JP2" that is really a VRT would read, or run, what its author likes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from s2sr_core import footprint, vrt
from s2sr_core.errors import ProductError
from s2sr_core.gdal_runtime import gdal, osr
from s2sr_core.gridcells import Gridcell, select_gridcells
from s2sr_core.lattice import Lattice, Window
from s2sr_core.occupancy import Near, Occupancy, pixels_near
from s2sr_core.parameters import RunParameters
from s2sr_core.pixel_functions import Dilation, scl_masked
from s2sr_core.safe import SCL, BandFile, Product, band_files
from s2sr_core.scene import Preparation, Scene, SceneBand, SceneGrid, WarpedPiece
from s2sr_core.workspace import Workspace

#: GDAL's drivers for what L2A images come as: JPEG 2000 (any of its codecs) and GeoTIFF.
IMAGE_DRIVERS = ("JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID", "JP2Grok", "JP2Lura", "GTiff")

#: Pixels added around a scene's outline on the lattice: the outline is drawn with straight lines between points.
_MARGIN = 8
_METRES_A_DEGREE = 111_320.0
#: Rows and columns of the tiles of 20 m bands.
_TILE = (640, 640)


def prepare_product(
    product: Product, cells: Sequence[Gridcell], parameters: RunParameters, workspace: Workspace, rank: int
) -> Preparation:
    """Open the images of ``product``, write its VRTs and say which of ``cells`` it touches.

    Faults of the product end up in the result, one error each; a band that fails leaves the others usable.
    """
    name, folder = str(product.name), workspace.vrts(rank)
    try:
        files = band_files(product, (SCL, *parameters.bands))
        scl = _found(files[SCL])
        grid = _open_grid(name, scl)
        outline = footprint.of_raster(grid.crs, grid.geotransform, grid.shape)
        touched = select_gridcells(cells, outline)
        targets = _targets(outline, touched, parameters)
        scale = scene_scale(grid, parameters.lattice)
        dilation = _dilation_in_pixels(grid, parameters.scl_dilation)
        near = pixels_near(tuple(touched), outline, grid.crs, grid.geotransform, grid.shape)
        clear, valid_share = _clear(name, scl, near, parameters.scl_mask, dilation)
        occupancy = None
        if parameters.engine == "fast":
            occupancy = workspace.occupancy(name)
            Occupancy.of(clear, near.window, _TILE).write(occupancy)
    except ProductError as error:
        return Preparation(name, None, (error,))
    except RuntimeError as error:  # what GDAL raises
        return Preparation(name, None, (ProductError(name, _one_line(error), step="open", band=SCL),))

    bands, errors = [], []
    for band in parameters.bands:
        try:
            file = _found(files[band])
            if _open_grid(name, file) != grid:
                raise ProductError(
                    name, "its grid (CRS, geotransform, size) is not that of SCL", step="open", band=band
                )
            offset = product.offset(band).dn
            masked = vrt.masked(
                folder / f"{name}_{band}_masked.vrt",
                band=file.path,
                scl=scl.path,
                shape=grid.shape,
                crs=grid.crs,
                geotransform=grid.geotransform,
                offset=offset,
                classes=parameters.scl_mask,
                dilation=dilation,
            )
            pieces = []
            for suffix, lattice, window in targets:
                target = folder / f"{name}_{band}{suffix}.vrt"
                vrt.warped(
                    target, source=masked, lattice=lattice, window=window, resampling=parameters.resampling, scale=scale
                )
                pieces.append(WarpedPiece(target, lattice, window))
            bands.append(SceneBand(file, offset, masked, tuple(pieces)))
        except ProductError as error:
            errors.append(error)
        except RuntimeError as error:
            errors.append(ProductError(name, _one_line(error), step="open", band=band))
    if not bands:
        return Preparation(name, None, tuple(errors))
    ids = tuple(cell.cell_id for cell in touched)
    scene = Scene(product, grid, outline, scale, occupancy, scl, valid_share, ids, tuple(bands))
    return Preparation(name, scene, tuple(errors))


def scene_scale(grid: SceneGrid, lattice: Lattice) -> tuple[float, float]:
    """Lattice pixels a scene pixel, along x and along y, at the scene's centre.

    Below 1 the lattice is coarser and GDAL's kernels widen by it (warp options XSCALE and YSCALE).
    """
    rows, columns = grid.shape
    inverse = gdal.InvGeoTransform(grid.geotransform)
    x, y = gdal.ApplyGeoTransform(grid.geotransform, columns / 2, rows / 2)
    longitude, latitude, _ = footprint.to_wgs84(grid.crs).TransformPoint(x, y)
    back = footprint.from_wgs84(grid.crs)

    def pixel(lon: float, lat: float) -> np.ndarray:
        projected = back.TransformPoint(lon, lat)
        return np.array(gdal.ApplyGeoTransform(inverse, projected[0], projected[1]))

    half_x, half_y = lattice.dx / 2, lattice.dy / 2
    step_x = pixel(longitude + half_x, latitude) - pixel(longitude - half_x, latitude)
    step_y = pixel(longitude, latitude + half_y) - pixel(longitude, latitude - half_y)
    return float(1 / np.hypot(*step_x)), float(1 / np.hypot(*step_y))


def _targets(
    outline: BaseGeometry, cells: Sequence[Gridcell], parameters: RunParameters
) -> list[tuple[str, Lattice, Window]]:
    """What to warp onto: name suffix, lattice and window.

    On a common lattice (``tap``) that is the whole scene, on each side of the antimeridian: the same window whatever
    cells were asked, so a pixel is computed from the same numbers in every run. Without it, each cell is a lattice of
    its own.
    """
    targets = []
    for part in _sides(outline):
        if parameters.tap:
            lattice = parameters.lattice
            suffix = (
                "_wgs84_west" if part.bounds[0] == -180.0 else "_wgs84_east" if part.bounds[2] == 180.0 else "_wgs84"
            )
            targets.append((suffix, lattice, _with_margin(lattice.covering(part.bounds), lattice)))
        else:
            for cell in cells:
                lattice = parameters.lattice_of(cell)
                window = lattice.owned(cell.bounds) & _with_margin(lattice.covering(part.bounds), lattice)
                if window:
                    targets.append((f"_wgs84_{cell.cell_id}", lattice, window))
    return targets


def _sides(outline: BaseGeometry) -> Iterator[BaseGeometry]:
    """``outline`` west and east of ±180 where it crosses it; else whole."""
    parts = shapely.get_parts(outline)
    if outline.bounds[2] - outline.bounds[0] <= 180.0:
        yield outline
        return
    for side in (shapely.box(-180, -90, 0, 90), shapely.box(0, -90, 180, 90)):
        yield shapely.union_all([part for part in parts if side.covers(part)])


def _with_margin(window: Window, lattice: Lattice) -> Window:
    world = lattice.covering((-180.0, -90.0, 180.0, 90.0))
    return world & Window(window.x0 - _MARGIN, window.y0 - _MARGIN, window.x1 + _MARGIN, window.y1 + _MARGIN)


def _found(file: BandFile | ProductError) -> BandFile:
    if isinstance(file, ProductError):
        raise file
    return file


def _open(name: str, file: BandFile) -> gdal.Dataset:
    """Open an image as what it must be: one band of unsigned integers with a CRS."""
    try:
        dataset = gdal.OpenEx(str(file.path), gdal.OF_RASTER | gdal.OF_READONLY, allowed_drivers=list(IMAGE_DRIVERS))
    except RuntimeError as error:
        reason = f"{file.path.name} is no JPEG 2000 or GeoTIFF image that GDAL can read ({_one_line(error)})"
        raise ProductError(name, reason, step="open", band=file.band) from error
    types = (gdal.GDT_Byte,) if file.band == SCL else (gdal.GDT_Byte, gdal.GDT_UInt16)
    if dataset.RasterCount != 1 or dataset.GetRasterBand(1).DataType not in types:
        raise ProductError(name, f"{file.path.name} is not one band of unsigned integers", step="open", band=file.band)
    if dataset.GetSpatialRef() is None:
        raise ProductError(name, f"{file.path.name} has no coordinate system", step="open", band=file.band)
    return dataset


def _open_grid(name: str, file: BandFile) -> SceneGrid:
    with _open(name, file) as dataset:
        return SceneGrid(
            dataset.GetSpatialRef().ExportToWkt(), dataset.GetGeoTransform(), (dataset.RasterYSize, dataset.RasterXSize)
        )


def _clear(
    name: str, scl: BandFile, near: Near, masked: Sequence[int], dilation: Dilation
) -> tuple[npt.NDArray[np.bool_], float]:
    """Which pixels of ``near.window`` are near the cells and not masked; and their share of those near, undilated."""
    window = near.window
    if not window:
        return near.pixels, 0.0
    with _open(name, scl) as dataset:
        reach = math.ceil(max((axis for axes in dilation.values() for axis in axes), default=0.0))
        buffered = Window(0, 0, dataset.RasterXSize, dataset.RasterYSize) & Window(
            window.x0 - reach, window.y0 - reach, window.x1 + reach, window.y1 + reach
        )
        classes = dataset.ReadAsArray(buffered.x0, buffered.y0, buffered.width, buffered.height)
    x, y = window.offset_in(buffered)
    inner = (slice(y, y + window.height), slice(x, x + window.width))
    clear = near.pixels & ~scl_masked(classes[inner], masked)
    share = np.count_nonzero(clear) / np.count_nonzero(near.pixels)
    if dilation:
        clear &= ~scl_masked(classes, masked, dilation)[inner]
    return clear, share


def _dilation_in_pixels(grid: SceneGrid, metres: dict[int, float]) -> Dilation:
    """Widths in metres as columns and rows of the scene's grid."""
    if not metres:
        return {}
    reference: osr.SpatialReference = footprint.spatial_reference(grid.crs)
    _, dx, rx, top, ry, dy = grid.geotransform
    width, height = np.hypot(dx, ry), np.hypot(rx, dy)
    if reference.IsGeographic():
        latitude = top + dy * grid.shape[0] / 2
        width, height = width * _METRES_A_DEGREE * np.cos(np.radians(latitude)), height * _METRES_A_DEGREE
    else:
        width, height = width * reference.GetLinearUnits(), height * reference.GetLinearUnits()
    return {value: (float(radius / width), float(radius / height)) for value, radius in metres.items()}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
