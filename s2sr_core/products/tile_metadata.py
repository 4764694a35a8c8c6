"""``MTD_TL.xml``: where the granule's images lie, for those that do not say it themselves."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import Element

from s2sr_core.errors import ProductError, Step
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.products import product_xml
from s2sr_core.products.bands import RESOLUTION
from s2sr_core.products.names import ProductName

TILE_METADATA = "MTD_TL.xml"
_UTM = re.compile(r"EPSG:32[67](?:0[1-9]|[1-5]\d|60)", re.ASCII)


def read_tile_grid(name: ProductName, image: Path, resolution: int = RESOLUTION) -> RasterGrid | None:
    """The grid of the images of ``resolution`` metres of the granule of ``image``; None without ``MTD_TL.xml``.

    ``image`` lies in ``IMG_DATA/R20m``, or the like, of the granule's folder. The CRS is ``EPSG:n`` of a UTM zone.

    Raises
    ------
    ProductError
        If the file is not XML, or does not give CRS, corner, pixel size and number of pixels.
    """
    path = image.parents[2] / TILE_METADATA
    if not path.exists():
        return None
    root = product_xml.parse(name, path)
    crs = next(iter(product_xml.texts(root, "HORIZONTAL_CS_CODE")), "").upper()
    corner = [_number(root, "Geoposition", tag, resolution) for tag in ("ULX", "ULY", "XDIM", "YDIM")]
    size = [_number(root, "Size", tag, resolution) for tag in ("NROWS", "NCOLS")]
    if not _UTM.fullmatch(crs) or None in corner or None in size:
        reason = f"{path.name} does not give the UTM zone, corner, pixel size and shape of the {resolution} m images"
        raise ProductError(str(name), reason, step=Step.METADATA)
    (ulx, uly, xdim, ydim), (rows, columns) = ([float(value or 0) for value in values] for values in (corner, size))
    return RasterGrid(crs, (ulx, xdim, 0.0, uly, 0.0, ydim), (int(rows), int(columns)))


def _number(root: Element, element: str, tag: str, resolution: int) -> float | None:
    """The number in ``tag`` of the element that is of ``resolution`` metres; None if there is none."""
    for found in root.iter():
        if found.tag.rpartition("}")[2] == element and found.get("resolution") == str(resolution):
            return product_xml.number(next(iter(product_xml.texts(found, tag)), None))
    return None
