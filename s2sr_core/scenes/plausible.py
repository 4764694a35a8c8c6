"""What the images of a product can be: as large as a granule, where the tile in its name lies, with DN of 15 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from shapely import MultiPolygon, Polygon

from s2sr_core.errors import ProductError, Step
from s2sr_core.geo import geometry
from s2sr_core.geo.codestream import JP2_SIGNATURE, is_whole
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.pixels.rules import DN_SATURATED, LARGEST_DN
from s2sr_core.products.bands import SCL
from s2sr_core.products.names import ProductName
from s2sr_core.products.tiles import TileExtent, extent_of, outline_of

#: Rows and columns of a granule at 20 m and at 10 m; nothing is larger.
_GRANULE, _LARGEST = 5490, 10_980
_PIXEL = 20.0
#: Metres by which the pixels of images that were cut out and resampled differ.
_PIXEL_TOLERANCE = 0.1
#: Metres by which the corner of a granule may differ from its tile's, whose corners are multiples of 60 m.
_TOLERANCE = 60.0
#: Rows of a read: the height of a tile of 20 m bands.
_ROWS = 640


def check_size(name: str, band: str, dataset: gdal.Dataset) -> None:
    """Look at the size that the header of an image declares, before anything is made for so many pixels.

    Raises
    ------
    ProductError
        If it is larger than any granule.
    """
    rows, columns = dataset.RasterYSize, dataset.RasterXSize
    if max(rows, columns) > _LARGEST:
        reason = f"it has {columns} x {rows} pixels; a granule has {_GRANULE} x {_GRANULE} at 20 m"
        raise ProductError(name, reason, step=Step.OPEN, band=band)


def check_complete(name: str, band: str, path: Path) -> None:
    """Look whether a JPEG 2000 file (ISO/IEC 15444-1) ends where its codestream does, from its beginning and its end.

    An interrupted copy may be shorter, or have the right size and zeros at its end. Tiles before that can be decoded,
    so that GDAL itself says nothing until it meets one of the others.

    Raises
    ------
    ProductError
        If the end of the codestream is missing.
    """
    with path.open("rb") as file:
        is_complete = file.read(len(JP2_SIGNATURE)) != JP2_SIGNATURE or is_whole(file, path.stat().st_size)
    if not is_complete:
        reason = f"{path.name} is incomplete: the end of its JPEG 2000 codestream is missing"
        raise ProductError(name, reason, step=Step.OPEN, band=band)


def check_place(name: ProductName, grid: RasterGrid, outline: Polygon | MultiPolygon) -> tuple[str, ...]:
    """Compare where images lie with where the tile in the product's name lies; gives notes on what is odd.

    Images in the UTM zone of the tile must be north-up, with pixels of 20 m. A whole granule must lie on its tile; a
    part of one, and images that were converted to another CRS, must share area with it.

    Parameters
    ----------
    grid, outline: of the images; the outline in EPSG:4326.

    Raises
    ------
    ProductError
        If they do not.
    """

    def fail(reason: str) -> ProductError:
        return ProductError(str(name), reason, step=Step.OPEN, band=SCL)

    tile = extent_of(name.tile)
    is_own_zone = _is_in_zone(grid, tile)
    if is_own_zone:
        left, width, row_shift, top, column_shift, height = grid.geotransform
        is_20_m = max(abs(width - _PIXEL), abs(height + _PIXEL)) <= _PIXEL_TOLERANCE
        if not is_20_m or row_shift or column_shift:
            raise fail(f"its pixels are not 20 m wide and high, north up (geotransform {grid.geotransform})")
        if grid.shape == (_GRANULE, _GRANULE) and max(abs(left - tile.west), abs(top - tile.north)) > _TOLERANCE:
            reason = f"its upper left corner is ({left:.0f}, {top:.0f}), that of tile T{name.tile} is "
            raise fail(f"{reason}({tile.west}, {tile.north}) in EPSG:{tile.epsg}: the image is of another place")
    if not outline.intersects(outline_of(name.tile)):
        raise fail(f"its images lie outside tile T{name.tile}: they are of another place")
    return () if is_own_zone else (f"its images are not in the CRS of tile T{name.tile}, EPSG:{tile.epsg}",)


def check_values(name: str, band: str, dataset: gdal.Dataset) -> None:
    """Look for DN that no product has, in images whose format can hold them; JPEG 2000 of 15 bits is not read.

    Raises
    ------
    ProductError
        If a DN has more than 15 bits and is not that of saturated pixels.
    """
    raster = dataset.GetRasterBand(1)
    if int(raster.GetMetadataItem("NBITS", "IMAGE_STRUCTURE") or 16) <= LARGEST_DN.bit_length():
        return
    for top in range(0, dataset.RasterYSize, _ROWS):
        dn = raster.ReadAsArray(0, top, dataset.RasterXSize, min(_ROWS, dataset.RasterYSize - top))
        beyond = dn[(dn > LARGEST_DN) & (dn != DN_SATURATED)]
        if beyond.size:
            reason = f"it holds DN of {np.min(beyond)} and more; they have 15 bits, up to {LARGEST_DN}"
            raise ProductError(name, reason, step=Step.OPEN, band=band)


def _is_in_zone(grid: RasterGrid, tile: TileExtent) -> bool:
    reference = geometry.spatial_reference(grid.crs)
    return bool(reference.IsSame(geometry.spatial_reference(f"EPSG:{tile.epsg}")))
