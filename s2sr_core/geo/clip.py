"""Whose pixel is it?

A pixel belongs to a cell when its centre lies in the cell's polygon; on an edge that two polygons share, west and
south edges are in, east and north edges out, so that each centre is in exactly one cell of a grid. GDAL's polygon
fill does not promise this: it gives a centre on a horizontal edge to both neighbours.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import shapely
from shapely import MultiPolygon, Polygon

from s2sr_core.geo.lattice import Lattice, Window


@functools.lru_cache(maxsize=128)
def owned_pixels(polygon: Polygon | MultiPolygon, lattice: Lattice, window: Window) -> npt.NDArray[np.bool_]:
    """Which pixels of ``window`` have their centre in ``polygon`` (EPSG:4326, x y).

    Returns
    -------
    Boolean array of ``window.shape`` (rows, columns), read-only: the bands of a cell share it.

    Notes
    -----
    Crossing number along each row of centres: a centre is inside if an odd number of edges cross the row strictly
    east of it. An edge crosses rows from its lower end (included) to its upper end (excluded), and its crossing is
    computed from its lower end in whichever direction it is followed, so neighbours that share an edge get the same
    crossing to the last bit.
    """
    x_lower, y_lower, x_upper, y_upper = _edges(polygon)
    centres = lattice.x_anchor + (np.arange(window.x0, window.x1) + 0.5) * lattice.dx
    owned = np.zeros(window.shape, bool)
    for line, row in enumerate(range(window.y0, window.y1)):
        y = lattice.y_centre(row)
        crossed = (y_lower <= y) & (y < y_upper)
        if not crossed.any():
            continue
        x0, y0, x1, y1 = x_lower[crossed], y_lower[crossed], x_upper[crossed], y_upper[crossed]
        crossings = np.sort(np.where(x0 == x1, x0, x0 + (y - y0) * ((x1 - x0) / (y1 - y0))))
        east_of = len(crossings) - np.searchsorted(crossings, centres, side="right")
        owned[line] = east_of % 2 == 1
    owned.setflags(write=False)
    return owned


def _edges(polygon: Polygon | MultiPolygon) -> tuple[npt.NDArray[np.float64], ...]:
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
