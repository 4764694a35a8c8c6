"""Whose pixel is it?

A pixel belongs to a cell when its centre lies in the cell's polygon; on an edge that two polygons share, west and
south edges are in, east and north edges out, so that each centre is in exactly one cell of a grid. GDAL's polygon
fill does not promise this: it gives a centre on a horizontal edge to both neighbours. Polygons are in longitude and
latitude; on a lattice in another CRS, it is the longitude and latitude of a centre that lie in a polygon or not.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import shapely
from shapely import MultiPolygon, Polygon

from s2sr_core.geo.lattice import WGS84, Lattice, Window
from s2sr_core.geo.projection import transformed

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

#: Rows and columns of pixels that are compared with edges at once: few edges are near so few pixels.
_TILE = 128


@functools.lru_cache(maxsize=128)
def owned_pixels(polygon: Polygon | MultiPolygon, lattice: Lattice, window: Window) -> BoolArray:
    """Which pixels of ``window`` have their centre in ``polygon`` (EPSG:4326, x y).

    Returns
    -------
    Boolean array of ``window.shape`` (rows, columns), read-only: the bands of a cell share it.

    Notes
    -----
    Crossing number along each row of centres: a centre is inside if an odd number of edges cross the row strictly
    east of it. An edge crosses rows from its lower end (included) to its upper end (excluded), and its crossing is
    computed from its lower end in whichever direction it is followed, so neighbours that share an edge get the same
    crossing to the last bit. A centre at the longitude 180 is taken for one at −180.
    """
    if not lattice.is_geographic:
        owned = _owned_by_longitude_and_latitude(polygon, lattice, window)
        owned.setflags(write=False)
        return owned
    centres = lattice.x_anchor + (np.arange(window.x0, window.x1) + 0.5) * lattice.dx
    y = np.array([lattice.y_centre(row) for row in range(window.y0, window.y1)])
    owned = np.zeros(window.shape, bool)
    for x0, y0, x1, y1 in _near(_edges(polygon), y):
        rows = (y0 <= y) & (y < y1)
        crossings = np.full(len(y), x0) if x0 == x1 else x0 + (y - y0) * ((x1 - x0) / (y1 - y0))
        owned[rows] ^= crossings[rows, None] > centres
    owned.setflags(write=False)
    return owned


def _owned_by_longitude_and_latitude(polygon: Polygon | MultiPolygon, lattice: Lattice, window: Window) -> BoolArray:
    x = lattice.x_anchor + (np.arange(window.x0, window.x1) + 0.5) * lattice.dx
    y = lattice.y_anchor - (np.arange(window.y0, window.y1) + 0.5) * lattice.dy
    longitude, latitude = transformed(lattice.crs, WGS84, *np.meshgrid(x, y))
    longitude = np.where(longitude >= 180.0, longitude - 360.0, longitude)
    owned = np.zeros(window.shape, bool)
    edges = _edges(polygon)
    for tile in window.tiles(_TILE, _TILE):
        left, top = tile.offset_in(window)
        here = (slice(top, top + tile.height), slice(left, left + tile.width))
        owned[here] = _inside(edges, longitude[here], latitude[here])
    return owned


def _inside(edges: tuple[FloatArray, ...], x: FloatArray, y: FloatArray) -> BoolArray:
    """Which points are inside, by the crossings of their own row; those that are not finite are outside."""
    inside = np.zeros(x.shape, bool)
    finite = np.isfinite(x) & np.isfinite(y)
    for x0, y0, x1, y1 in _near(edges, y[finite]):
        crossing = x0 if x0 == x1 else x0 + (y - y0) * ((x1 - x0) / (y1 - y0))
        inside ^= (y0 <= y) & (y < y1) & (crossing > x)
    return inside & finite


def _near(edges: tuple[FloatArray, ...], y: FloatArray) -> Iterator[tuple[np.float64, ...]]:
    """Those of ``edges`` that can cross a row at one of ``y``."""
    _, y_lower, _, y_upper = edges
    low, high = y.min(initial=np.inf), y.max(initial=-np.inf)
    for index in np.flatnonzero((y_lower <= high) & (low < y_upper)):
        yield tuple(of_edges[index] for of_edges in edges)


def _edges(polygon: Polygon | MultiPolygon) -> tuple[FloatArray, ...]:
    """The edges of all rings that are not horizontal, as x and y of the lower and of the upper end."""
    parts = []
    for ring in shapely.get_rings(shapely.get_parts(polygon)):
        points = shapely.get_coordinates(ring)
        parts.append(np.hstack([points[:-1], points[1:]]))
    edges = np.vstack(parts)
    edges = edges[edges[:, 1] != edges[:, 3]]
    downward = edges[:, 1] > edges[:, 3]
    edges[downward] = edges[downward][:, [2, 3, 0, 1]]
    return edges[:, 0], edges[:, 1], edges[:, 2], edges[:, 3]
