"""Outlines on the globe: of rings and of rasters, cut where they cross the antimeridian.

All polygons are EPSG:4326 in x (longitude), y (latitude) order, within −180 … 180; one that crosses the antimeridian
is a MultiPolygon with a part on each side.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import shapely
from shapely import MultiPolygon, Polygon
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from s2sr_core.geo.gdal_runtime import osr
from s2sr_core.geo.lattice import Bounds, Geotransform

#: Of latitude, and of longitude at the equator.
METRES_PER_DEGREE = 111_320.0
_CURVES = re.compile("CURVE|CIRCULARSTRING|MULTISURFACE", re.IGNORECASE)
_WORLD = shapely.box(-180.0, -90.0, 180.0, 90.0)
_POINTS_A_SIDE = 65
#: Points that the rings of an outline may have. Those of products have some hundred at most.
_MOST_POINTS = 2_000
#: Points that they may have if they are simplified, by at most so many degrees (11 m), which takes 0.3 s at most.
_MOST_POINTS_TO_SIMPLIFY, _SIMPLIFIED = 10_000, 1e-4
#: Points that they may have if they must be repaired or put together, which takes the time of all crossings.
_MOST_POINTS_TO_REPAIR = 1_000
#: Pairs of segments of an invalid ring that may meet, besides neighbours.
_MOST_CROSSINGS = 200
#: Points of two outlines that are compared as they are; more are simplified first.
_MOST_POINTS_TO_COMPARE = 400
#: Collections that a WKT may name; a cell or a footprint is not one.
_MOST_COLLECTIONS = 100
#: Segments that are tried for crossings at once.
_BATCH = 50


def of_raster(crs: str, geotransform: Geotransform, shape: tuple[int, int]) -> Polygon | MultiPolygon:
    """The outline of a raster of ``shape`` (rows, columns) in any ``crs`` (WKT or ``EPSG:n``), densified."""
    rows, columns = shape
    steps = np.linspace(0.0, 1.0, _POINTS_A_SIDE)[:-1]
    ones, zeros = np.ones_like(steps), np.zeros_like(steps)
    column = columns * np.concatenate([steps, ones, 1 - steps, zeros])
    row = rows * np.concatenate([zeros, steps, ones, 1 - steps])
    x = geotransform[0] + column * geotransform[1] + row * geotransform[2]
    y = geotransform[3] + column * geotransform[4] + row * geotransform[5]
    points = np.array(to_wgs84(crs).TransformPoints(np.column_stack([x, y])))[:, :2]
    return cut_at_antimeridian(points)


def from_wkt(texts: Sequence[str]) -> list[BaseGeometry | None]:
    """The geometry of each WKT, whoever wrote it; None if it is not WKT. Coordinates may be of any size, or NaN."""
    readable = [text if _is_readable(text) else None for text in texts]
    with np.errstate(all="ignore"):  # numbers that are not finite
        return list(shapely.from_wkt(np.array(readable, object), on_invalid="ignore"))


def _is_readable(text: str) -> bool:
    """Whether GEOS can be asked: collections inside collections, some ten thousand deep, would end the process.

    Geometries of curves are an error of all that is asked with them.
    """
    if not text.isascii():
        return False
    plain = text.startswith("POLYGON")  # as catalogues write footprints: nothing else can be in it
    return plain or (text.upper().count("COLLECTION") <= _MOST_COLLECTIONS and not _CURVES.search(text))


def to_wgs84(crs: str) -> osr.CoordinateTransformation:
    """The transformation from ``crs`` to EPSG:4326, both in x, y order."""
    return transformation(crs, "EPSG:4326")


def from_wgs84(crs: str) -> osr.CoordinateTransformation:
    """The transformation from EPSG:4326 to ``crs``, both in x, y order."""
    return transformation("EPSG:4326", crs)


def transformation(source: str, target: str) -> osr.CoordinateTransformation:
    """The transformation between two CRS, both in x, y order."""
    return osr.CoordinateTransformation(spatial_reference(source), spatial_reference(target))


def spatial_reference(crs: str) -> osr.SpatialReference:
    """``crs`` (WKT or ``EPSG:n``) with x before y, whatever its authority says."""
    reference = osr.SpatialReference()
    reference.SetFromUserInput(crs)
    reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return reference


@functools.lru_cache(maxsize=64)
def is_in(crs: str, other: str) -> bool:
    """Whether two CRS (WKT or ``EPSG:n``) are the same."""
    return crs == other or (bool(crs) and bool(spatial_reference(crs).IsSame(spatial_reference(other))))


def cut_at_antimeridian(ring: Sequence[Sequence[float]] | np.ndarray) -> Polygon | MultiPolygon:
    """A polygon from its ring of longitudes and latitudes, in which a step of more than 180° means the short way."""
    points = np.array(ring, float)
    points[:, 0] = np.unwrap(points[:, 0], period=360.0)
    return on_the_globe(shapely.make_valid(Polygon(points)))


def of_outlines(shapes: Sequence[BaseGeometry | None]) -> list[Polygon | MultiPolygon | None]:
    """The area inside the outer rings of each of ``shapes``, whoever wrote them; None if :func:`of_rings` gives none.

    Most are valid polygons on one side of ±180, which are found together and are taken as they are.
    """
    array = np.array(shapes, object)
    counts = shapely.get_num_coordinates(array)
    plain = (shapely.get_type_id(array) == shapely.GeometryType.POLYGON) & (counts > 0) & (counts <= _MOST_POINTS)
    plain &= (shapely.get_num_interior_rings(array) == 0) & ~shapely.has_z(array)
    west, south, east, north = shapely.bounds(array).T
    plain &= (west >= -180) & (south >= -90) & (east <= 180) & (north <= 90) & (east - west < 180)
    plain[plain] = shapely.is_valid(array[plain])
    outlines: list[Polygon | MultiPolygon | None] = array.tolist()
    for number in np.flatnonzero(~plain).tolist():
        outlines[number] = _of_outline(shapes[number])
    return outlines


def _of_outline(shape: BaseGeometry | None) -> Polygon | MultiPolygon | None:
    if not isinstance(shape, Polygon | MultiPolygon) or shape.is_empty:
        return None
    rings = [shapely.get_coordinates(part.exterior) for part in shapely.get_parts(shape)]
    return of_rings(rings) if all(np.isfinite(ring).all() for ring in rings) else None


def of_rings(rings: Sequence[npt.NDArray[np.float64]]) -> Polygon | MultiPolygon | None:
    """The area inside any of ``rings`` (n × 2: longitude, latitude), whoever wrote them.

    Rings of more than 2000 points are simplified by at most 11 m. None if there is no area, or if the rings have so
    many points or cross themselves so often that it would take seconds to find out. Takes a few milliseconds at most
    for each ring of a product.
    """
    points = sum(map(len, rings))
    if _MOST_POINTS < points <= _MOST_POINTS_TO_SIMPLIFY:
        rings = [_simplified(ring) for ring in rings]
        points = sum(map(len, rings))
    if not rings or points > _MOST_POINTS or (len(rings) > 1 and points > _MOST_POINTS_TO_REPAIR):
        return None
    if not all(_is_valid_or_soon_repaired(ring) for ring in rings):
        return None
    outline = union([cut_at_antimeridian(ring) for ring in rings])
    return None if outline.is_empty else outline


def _simplified(ring: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A ring by Douglas and Peucker, whose time is at most that of all pairs of its points."""
    points = np.column_stack([np.unwrap(ring[:, 0], period=360.0), ring[:, 1]])
    simplified = shapely.get_coordinates(
        shapely.simplify(shapely.linestrings(points), _SIMPLIFIED, preserve_topology=False)
    )
    return simplified if len(simplified) > 2 else ring


def _is_valid_or_soon_repaired(ring: npt.NDArray[np.float64]) -> bool:
    """The time of a repair is that of all crossings, of which a ring of 400 points can have 80,000."""
    points = np.column_stack([np.unwrap(ring[:, 0], period=360.0), ring[:, 1]])
    polygon = Polygon(points)
    if polygon.is_valid:
        return True
    if len(points) > _MOST_POINTS_TO_REPAIR:
        return False
    closed = shapely.get_coordinates(polygon.exterior)
    segments = np.array(shapely.linestrings(np.stack([closed[:-1], closed[1:]], axis=1)), object)
    tree, meetings = shapely.STRtree(segments), 0
    for start in range(0, len(segments), _BATCH):
        batch = segments[start : start + _BATCH]
        meetings += len(tree.query(batch, predicate="intersects")[0]) - 3 * len(batch)  # itself and its neighbours
        if meetings > 2 * _MOST_CROSSINGS:
            return False
    return True


def on_the_globe(geometry: BaseGeometry) -> Polygon | MultiPolygon:
    """The polygons of ``geometry``, cut at ±180; longitudes may be up to two turns off."""
    west, _, east, _ = geometry.bounds
    turns = [turn for turn in (-720.0, -360.0, 0.0, 360.0, 720.0) if west + turn < 180.0 and east + turn > -180.0]
    return union([polygonal(_WORLD.intersection(translate(geometry, turn) if turn else geometry)) for turn in turns])


def polygonal(geometry: BaseGeometry) -> Polygon | MultiPolygon:
    """The polygons of ``geometry``, without the lines and points that cutting can leave."""
    if isinstance(geometry, Polygon) and not geometry.is_empty:
        return geometry
    parts = shapely.get_parts(shapely.get_parts(geometry))
    polygons = [part for part in parts if isinstance(part, Polygon) and not part.is_empty]
    return polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)


def union(parts: Sequence[Polygon | MultiPolygon]) -> Polygon | MultiPolygon:
    """All of ``parts`` as one."""
    return polygonal(shapely.union_all(list(parts)))


def box(bounds: Bounds) -> Polygon | MultiPolygon:
    """The box of ``bounds``; if it crosses the antimeridian (xmin > xmax, or xmax > 180), its parts on either side."""
    xmin, ymin, xmax, ymax = bounds
    if xmin <= xmax <= 180.0:
        return shapely.box(xmin, ymin, xmax, ymax)
    xmax -= 360.0 if xmax > 180.0 else 0.0
    sides = [(west, east) for west, east in ((xmin, 180.0), (-180.0, xmax)) if west < east]
    return polygonal(MultiPolygon([shapely.box(west, ymin, east, ymax) for west, east in sides]))


def covers(cover: Polygon | MultiPolygon, footprint: Polygon | MultiPolygon, tolerance: float) -> bool:
    """Whether ``cover`` holds all of ``footprint``, except where it sticks out by at most ``tolerance`` metres.

    False if the outlines are so intricate that it would take seconds to find out.
    """
    return bool(covers_each([cover], [footprint], tolerance)[0])


def covers_each(
    covers: Sequence[Polygon | MultiPolygon], footprints: Sequence[Polygon | MultiPolygon], tolerance: float
) -> npt.NDArray[np.bool_]:
    """:func:`covers` of each pair."""
    pairs = np.array([covers, footprints], object).reshape(2, -1)
    west, _, east, _ = np.moveaxis(shapely.bounds(pairs), -1, 0)
    for number in np.flatnonzero(east.max(axis=0) - west.min(axis=0) > 180.0).tolist():
        pairs[:, number] = [_joined(outline) for outline in pairs[:, number]]
    flat = _in_metres(pairs, shapely.get_y(shapely.centroid(pairs[1])))
    for number in np.flatnonzero(_are_intricate(flat)).tolist():
        flat[:, number] = [polygonal(outline.simplify(tolerance / 20)) for outline in flat[:, number]]
    asked = ~_are_intricate(flat)
    held = np.zeros(len(asked), bool)
    held[asked] = shapely.covers(flat[0, asked], flat[1, asked])
    asked &= ~held
    held[asked] = shapely.covers(shapely.buffer(flat[0, asked], tolerance, quad_segs=16), flat[1, asked])
    return held


def _in_metres(pairs: npt.NDArray[np.object_], latitudes: npt.NDArray[np.float64]) -> npt.NDArray[np.object_]:
    """Outlines (2 × n) on a plane on which all of their directions have the scale of ``latitudes`` (n)."""
    scales = METRES_PER_DEGREE * np.column_stack([np.cos(np.radians(latitudes)), np.ones_like(latitudes)])
    coordinates, owners = shapely.get_coordinates(pairs, return_index=True)
    flat: npt.NDArray[np.object_] = shapely.set_coordinates(pairs.copy(), coordinates * scales[owners % len(scales)])
    return flat


def _are_intricate(flat: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
    """Which pairs (2 × n) have too many points to be compared."""
    points: npt.NDArray[np.int64] = shapely.get_num_coordinates(flat).sum(axis=0)
    return points > _MOST_POINTS_TO_COMPARE


def _joined(outline: Polygon | MultiPolygon) -> Polygon | MultiPolygon:
    """The parts of an outline that is cut at ±180 put together, at longitudes of 0 … 360."""
    return union([translate(part, xoff=360.0 if part.bounds[0] < 0 else 0.0) for part in shapely.get_parts(outline)])
