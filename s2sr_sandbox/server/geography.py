"""``geography'SRID=4326;…'``: the areas of catalogue queries."""

from __future__ import annotations

import re

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from s2sr_sandbox.server.odata_tokens import FilterError

# MULTIPOLYGON "is currently not supported": https://documentation.dataspace.copernicus.eu/APIs/OData.html.
_TYPES = ("Point", "Polygon")
_TEXT = re.compile(r"SRID=(?P<srid>\d{1,9});(?P<wkt>.*)", re.DOTALL | re.IGNORECASE)


def area_of(text: str, *, multipolygons: bool = False) -> BaseGeometry:
    """The geometry of ``SRID=4326;`` and WKT, longitude before latitude, prepared for many comparisons.

    Edges are straight in longitude and latitude here, great circles at CDSE.

    Raises
    ------
    FilterError
        If it is not a geometry, or not on the globe.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise FilterError("a geography is written SRID=4326; and WKT")
    if int(match["srid"]) != 4326:
        raise FilterError(f"SRID {match['srid']} is not supported, 4326 is")
    try:
        with np.errstate(all="ignore"):  # a number too large for a float is infinite, and not on the globe
            area = shapely.from_wkt(match["wkt"])
    except (shapely.errors.ShapelyError, ValueError) as error:
        raise FilterError(f"the geography is not WKT: {error}") from error
    types = (*_TYPES, "MultiPolygon") if multipolygons else _TYPES
    if area is None or area.geom_type not in types or area.is_empty:
        raise FilterError(f"a geography is one of {', '.join(types)} and not empty")
    west, south, east, north = area.bounds
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise FilterError("the geography lies outside of longitude -180 … 180, latitude -90 … 90")
    if not area.is_valid:
        area = shapely.make_valid(area)
    shapely.prepare(area)
    return area
