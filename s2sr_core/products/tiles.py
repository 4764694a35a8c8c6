"""Where an MGRS tile of Sentinel-2 lies, by its name.

A granule starts at the upper left corner of a 100 km square of MGRS (lettering: NGA.STND.0037, the scheme for WGS 84),
moved outwards to multiples of 60 m, and is 109.8 km wide and high.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from shapely import MultiPolygon, Polygon

from s2sr_core.geo import geometry

#: Width and height of a granule, and what its corners are multiples of, in metres.
GRANULE, _STEP = 109_800, 60
_SQUARE = 100_000
_LATITUDE_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
_ROWS = "ABCDEFGHJKLMNPQRSTUV"


@dataclass(frozen=True, slots=True)
class TileExtent:
    """The square that granules of a tile fill: EPSG code of its UTM zone, and its sides in metres."""

    epsg: int
    west: int
    south: int
    east: int
    north: int


def extent_of(tile: str) -> TileExtent:
    """The extent of ``tile`` (``05WPS``, a tile as :func:`s2sr_core.products.names.is_tile` knows it)."""
    zone, band = int(tile[:2]), _LATITUDE_BANDS.index(tile[2])
    west = (_COLUMNS[(zone - 1) % 3].find(tile[3]) + 1) * _SQUARE
    row = (_ROWS.index(tile[4]) - (5 if zone % 2 == 0 else 0)) % len(_ROWS)
    # The letters of rows repeat every 2000 km; a band of latitudes is 8° high, the last one 12°.
    is_north = band >= _LATITUDE_BANDS.index("N")
    middle = -80 + 8 * band + (6 if tile[2] == "X" else 4)
    about = middle * 111_000 + (0 if is_north else 10_000_000)
    cycle = len(_ROWS) * _SQUARE
    south = row * _SQUARE + round((about - (row + 0.5) * _SQUARE) / cycle) * cycle
    left, top = west // _STEP * _STEP, -(-(south + _SQUARE) // _STEP) * _STEP
    return TileExtent((32600 if is_north else 32700) + zone, left, top - GRANULE, left + GRANULE, top)


@functools.lru_cache(maxsize=8192)
def outline_of(tile: str) -> Polygon | MultiPolygon:
    """The outline of whole granules of ``tile`` (EPSG:4326)."""
    extent = extent_of(tile)
    return geometry.of_raster(f"EPSG:{extent.epsg}", (extent.west, GRANULE, 0.0, extent.north, 0.0, -GRANULE), (1, 1))
