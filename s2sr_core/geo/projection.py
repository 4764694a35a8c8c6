"""From longitude and latitude to the coordinates of a projected CRS and back: many points at once, outlines, checks.

Gridcells are polygons in longitude and latitude. In a projected CRS their edges are curves: a parallel is an arc in a
polar one. So outlines are followed in steps of :data:`STEP` before they are projected. That finds the window of a cell;
which pixel is whose is decided by the longitude and latitude of its centre (:mod:`s2sr_core.geo.clip`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from osgeo import gdal_array
from shapely import MultiPolygon, Polygon

from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.geometry import spatial_reference
from s2sr_core.geo.lattice import WGS84, Bounds, Lattice, Window
from s2sr_core.geo.raster_grid import RasterGrid

FloatArray = npt.NDArray[np.float64]

#: Degrees between two points of an outline that is projected. An arc of a parallel is less than 0.3 m from its chord
#: then at 60° N in a polar CRS, and 1.2 m at the equator.
STEP = 0.05
#: Beyond this a coordinate says that the CRS cannot show the place; the Earth's circumference is 4e7 m.
_FARTHEST = 1e9
#: How far the middle of a step may be from that of its chord, as a share of the chord's length. A step that the CRS
#: tears apart, as many do at some meridian, is off by half of it.
_TORN = 0.25
#: Points on each side of a raster.
_POINTS_A_SIDE = 65


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a polygon lies in a CRS.

    Attributes
    ----------
    bounds: of the points of its outline, in units of the CRS.
    slack: how far the outline may reach beyond them between two points.
    """

    bounds: Bounds
    slack: float


def transformed(source: str, target: str, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Points of the CRS ``source`` in the CRS ``target``, both x before y; not finite where there is none.

    Each point is transformed by itself: the result does not depend on the others.
    """
    shape = np.shape(x)
    arrays = [np.array(np.atleast_2d(values), float, order="C") for values in (x, y, np.zeros(shape))]
    bands = [gdal_array.OpenArray(array) for array in arrays]
    transformer = gdal.Transformer(None, None, [f"SRC_SRS={source}", f"DST_SRS={target}"])
    transformer.TransformGeolocations(*(dataset.GetRasterBand(1) for dataset in bands))
    for dataset in bands:
        dataset.FlushCache()
    return arrays[0].reshape(shape), arrays[1].reshape(shape)


@functools.lru_cache(maxsize=4096)
def extent_in(crs: str, polygon: Polygon | MultiPolygon) -> Extent:
    """Where ``polygon`` (EPSG:4326) lies in ``crs``.

    Raises
    ------
    ValueError
        If PROJ gives no coordinates for a part of it, or tears it apart.
    """
    if crs == WGS84:
        xmin, ymin, xmax, ymax = polygon.bounds
        return Extent((xmin, ymin, xmax, ymax), 0.0)
    starts, ends = _steps(polygon)
    points = [_projected(crs, lonlat) for lonlat in (starts, ends, (starts + ends) / 2)]
    if not all((np.abs(each) < _FARTHEST).all() for each in points):  # False if not finite
        raise ValueError(f"cannot be projected to {crs}: PROJ gives no coordinates for a part of it")
    first, last, middle = points
    chord = np.hypot(*(last - first).T)
    off = np.hypot(*(middle - (first + last) / 2).T)
    if (off > _TORN * chord + 1e-6).any():
        raise ValueError(f"is torn apart by the projection of {crs}")
    xmin, ymin = first.min(axis=0)
    xmax, ymax = first.max(axis=0)
    return Extent((float(xmin), float(ymin), float(xmax), float(ymax)), 2.0 * float(off.max()))


def window_of(lattice: Lattice, polygon: Polygon | MultiPolygon) -> Window:
    """A window of ``lattice`` that holds every pixel whose centre is in ``polygon``; at most a few rows more."""
    extent = extent_in(lattice.crs, polygon)
    (xmin, ymin, xmax, ymax), slack = extent.bounds, extent.slack
    return lattice.owned((xmin - slack, ymin - slack, xmax + slack, ymax + slack))


def raster_bounds(grid: RasterGrid, crs: str) -> Bounds | None:
    """The bounds of a raster in another CRS, by points on its border; None if it has no place there."""
    rows, columns = grid.shape
    steps = np.linspace(0.0, 1.0, _POINTS_A_SIDE)
    ones, zeros = np.ones_like(steps), np.zeros_like(steps)
    column = columns * np.concatenate([steps, steps, zeros, ones])
    row = rows * np.concatenate([zeros, ones, steps, steps])
    x0, dx, rx, y0, ry, dy = grid.geotransform
    x, y = transformed(grid.crs, crs, x0 + column * dx + row * rx, y0 + column * ry + row * dy)
    there = (np.abs(x) < _FARTHEST) & (np.abs(y) < _FARTHEST)
    if not there.any():
        return None
    x, y = x[there], y[there]
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def problem_of(crs: str) -> tuple[str, str] | None:
    """What keeps ``crs`` (``EPSG:n``) from being that of a lattice, and what to do; None if nothing does."""
    try:
        reference = spatial_reference(crs)
    except RuntimeError:
        return "is not known to PROJ", "give a projected CRS like EPSG:3413, or EPSG:4326"
    if crs != WGS84 and (reference.IsCompound() or reference.IsVertical()):
        return "has heights", "give the horizontal CRS that is part of it, or another projected one like EPSG:3413"
    if crs != WGS84 and reference.IsGeographic():
        return "is in degrees, and of those only EPSG:4326 is supported", "give EPSG:4326 or a projected CRS"
    if crs != WGS84 and not reference.IsProjected():
        return "is not a projected CRS", "give one like EPSG:3413, or EPSG:4326"
    return None


def is_in_area_of_use(crs: str, bounds: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which of ``bounds`` (n × 4, degrees) share area with where ``crs`` is meant to be used, as PROJ knows it."""
    area = spatial_reference(crs).GetAreaOfUse()
    if area is None:
        return np.ones(len(bounds), bool)
    west, east = area.west_lon_degree, area.east_lon_degree
    xmin, ymin, xmax, ymax = bounds.T
    across = (xmax > west) | (xmin < east) if west > east else (xmax > west) & (xmin < east)
    inside: npt.NDArray[np.bool_] = across & (ymax > area.south_lat_degree) & (ymin < area.north_lat_degree)
    return inside


def _steps(polygon: Polygon | MultiPolygon) -> tuple[FloatArray, FloatArray]:
    """The outline in steps of at most :data:`STEP`: where each starts and ends, n × 2, degrees."""
    starts, ends = [], []
    for ring in shapely.get_rings(shapely.get_parts(polygon)):
        points = shapely.get_coordinates(shapely.segmentize(ring, STEP))
        starts.append(points[:-1])
        ends.append(points[1:])
    return np.vstack(starts), np.vstack(ends)


def _projected(crs: str, lonlat: FloatArray) -> FloatArray:
    return np.column_stack(transformed(WGS84, crs, lonlat[:, 0], lonlat[:, 1]))
