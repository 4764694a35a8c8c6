from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from osgeo import osr
from shapely.affinity import rotate, translate

from s2sr_core.geo import geometry
from s2sr_core.geo.lattice import Bounds

osr.UseExceptions()

METRES = 111_320.0


def parts(outline: shapely.Polygon | shapely.MultiPolygon) -> list[Bounds]:
    return sorted(part.bounds for part in shapely.get_parts(outline))


# ---------------------------------------------------------------------------------------------------- antimeridian


@pytest.mark.parametrize(
    "ring",
    [
        [(179, 60), (-178, 60), (-178, 61), (179, 61)],
        [(-178, 60), (-178, 61), (179, 61), (179, 60)],
        [(179, 60), (180, 60), (-178, 60), (-178, 61), (180, 61), (179, 61), (179, 60)],
        [(179, 60), (180, 60), (-180, 60), (-178, 60), (-178, 61), (-180, 61), (180, 61), (179, 61)],
    ],
)
def test_a_ring_across_the_antimeridian_is_cut_into_two_parts(ring: list[tuple[float, float]]) -> None:
    """However it is written: one degree by one on the west side, two by one on the east."""
    outline = geometry.cut_at_antimeridian(ring)
    assert parts(outline) == [(-180, 60, -178, 61), (179, 60, 180, 61)]
    assert outline.area == pytest.approx(3.0)


@pytest.mark.parametrize(("lon", "side"), [(180, (179, 60, 180, 61)), (-180, (-180, 60, -179, 61))])
def test_a_ring_that_ends_on_the_antimeridian_stays_on_its_side(lon: float, side: Bounds) -> None:
    other = math.copysign(179, lon)
    outline = geometry.cut_at_antimeridian([(other, 60), (lon, 60), (lon, 61), (other, 61)])
    assert parts(outline) == [side]


@given(
    st.floats(-180, 180),
    st.floats(-80, 80),
    st.floats(0.01, 3),
    st.floats(0.01, 3),
    st.floats(0, 90),
    st.integers(0, 3),
)
def test_turning_the_globe_does_not_change_an_outline(
    lon: float, lat: float, width: float, height: float, angle: float, first: int
) -> None:
    """A turned box anywhere, longitudes wrapped: the same area as before, its parts within ±180, none wider than it."""
    box = rotate(shapely.box(lon - width, lat - height, lon + width, lat + height), angle, "center")
    corners = list(box.exterior.coords)[:-1]
    wrapped = [((x + 180) % 360 - 180, y) for x, y in corners[first:] + corners[:first]]
    outline = geometry.cut_at_antimeridian(wrapped)
    assert outline.area == pytest.approx(box.area, rel=1e-9)
    assert -180 <= outline.bounds[0] <= outline.bounds[2] <= 180
    for part in shapely.get_parts(outline):
        shifted = [translate(part, turn) for turn in (-360, 0, 360)]
        assert max(piece.intersection(box).area for piece in shifted) == pytest.approx(part.area, rel=1e-6, abs=1e-9)


# -------------------------------------------------------------------------------------------------------------- box


def test_a_box_is_one_part_or_with_xmin_beyond_xmax_its_two() -> None:
    assert parts(geometry.box((10, 60, 12, 61))) == [(10, 60, 12, 61)]
    assert parts(geometry.box((170, 60, -175, 61))) == [(-180, 60, -175, 61), (170, 60, 180, 61)]
    assert parts(geometry.box((1, -90, -1, 90))) == [(-180, -90, -1, 90), (1, -90, 180, 90)]


@pytest.mark.parametrize(
    ("bounds", "parts"),
    [
        ((170, 0, 190, 1), {(170, 180), (-180, -170)}),
        ((180, 0, 190, 1), {(-180, -170)}),
        ((-149.5, 0, 210.25, 1), {(-149.5, 180), (-180, -149.75)}),
        ((0, 0, 360, 1), {(-180, 0), (0, 180)}),
    ],
)
def test_a_box_with_xmax_beyond_180_goes_on_at_the_other_side(bounds: Bounds, parts: set[tuple[float, float]]) -> None:
    found = shapely.get_parts(geometry.box(bounds))
    assert {(part.bounds[0], part.bounds[2]) for part in found} == parts


def test_a_box_has_no_part_without_area() -> None:
    assert parts(geometry.box((170, 60, -180, 61))) == [(170, 60, 180, 61)]
    assert parts(geometry.box((180, 60, -170, 61))) == [(-180, 60, -170, 61)]
    assert geometry.box((170, 60, -180, 61)).is_valid


# -------------------------------------------------------------------------------------------------------- of raster


def test_the_outline_of_a_granule_in_utm() -> None:
    """A full granule, 109.8 km, west of the central meridian (147° W, x = 500 km, scale 0.9996) of zone 6: its eastern
    edge lies on the meridian, whose degree is 111132.95 − 559.85 cos 2φ + 1.17 cos 4φ metres long."""
    outline = geometry.of_raster("EPSG:32606", (390_200.0, 20.0, 0.0, 7_700_000.0, 0.0, -20.0), (5490, 5490))
    on_meridian = [y for x, y in shapely.get_coordinates(outline) if abs(x + 147.0) < 1e-9]
    assert outline.bounds[2] == pytest.approx(-147.0, abs=1e-9)
    phi = math.radians((max(on_meridian) + min(on_meridian)) / 2)
    degree = 111_132.95 - 559.85 * math.cos(2 * phi) + 1.17 * math.cos(4 * phi)
    assert (max(on_meridian) - min(on_meridian)) * degree == pytest.approx(109_800 / 0.9996, rel=1e-5)
    assert outline.area * degree * 111_412 * math.cos(phi) == pytest.approx((109_800 / 0.9996) ** 2, rel=0.005)


def test_rows_columns_and_rotation_are_not_mixed_up() -> None:
    """EPSG:4326 itself, 3 rows and 2 columns, rotated by a skew: the corners by hand."""
    outline = geometry.of_raster("EPSG:4326", (10.0, 1.0, 0.25, 60.0, 0.125, -1.0), (3, 2))
    corners = [(10, 60), (12, 60.25), (12.75, 57.25), (10.75, 57)]
    assert outline.symmetric_difference(shapely.Polygon(corners)).area < 1e-12


def test_an_outline_follows_edges_that_bend() -> None:
    """Northern edge of a polar scene: points of the raster's own edge lie on the outline, though not on the chord."""
    geotransform = (400_000.0, 20.0, 0.0, 9_200_000.0, 0.0, -20.0)
    outline = geometry.of_raster("EPSG:32606", geotransform, (5490, 10_000))
    longitude, latitude, _ = geometry.to_wgs84("EPSG:32606").TransformPoint(500_000.0, 9_200_000.0)
    west, east = (geometry.to_wgs84("EPSG:32606").TransformPoint(x, 9_200_000.0) for x in (400_000.0, 600_000.0))
    chord = shapely.LineString([west[:2], east[:2]])
    assert chord.distance(shapely.Point(longitude, latitude)) > 0.02
    assert outline.exterior.distance(shapely.Point(longitude, latitude)) < 0.0002


@pytest.mark.parametrize(("zone", "x"), [(1, 300_000.0), (60, 600_000.0)])
def test_rasters_of_both_zones_at_the_antimeridian_have_two_parts(zone: int, x: float) -> None:
    """At 69° N a zone is some 240 km wide: 180° lies 120 km from its central meridian at x = 500 km."""
    outline = geometry.of_raster(f"EPSG:326{zone:02d}", (x, 20.0, 0.0, 7_700_000.0, 0.0, -20.0), (5490, 5490))
    west, east = parts(outline)
    assert (west[0], east[2]) == (-180, 180)
    assert 0 < west[2] + 180 < 3
    assert 0 < 180 - east[0] < 3
    assert outline.area < 4


def test_a_southern_zone_lies_south() -> None:
    outline = geometry.of_raster("EPSG:32706", (500_000.0, 20.0, 0.0, 7_700_000.0, 0.0, -20.0), (100, 100))
    assert -21 < outline.bounds[1] < outline.bounds[3] < -20


def test_the_two_transformations_are_inverse_and_x_comes_first() -> None:
    x, y, _ = geometry.from_wgs84("EPSG:32606").TransformPoint(-147.0, 68.63)
    assert x == pytest.approx(500_000.0, abs=1e-6)
    longitude, latitude, _ = geometry.to_wgs84("EPSG:32606").TransformPoint(x, y)
    assert (longitude, latitude) == pytest.approx((-147.0, 68.63), abs=1e-9)


# ------------------------------------------------------------------------------------------------ polygonal, covers


def test_polygonal_keeps_polygons_alone() -> None:
    line, square = shapely.LineString([(0, 0), (9, 9)]), shapely.box(0, 0, 1, 1)
    nested = shapely.GeometryCollection(
        [line, shapely.MultiPolygon([square, shapely.box(2, 2, 3, 3)]), shapely.Point()]
    )
    assert parts(geometry.polygonal(nested)) == [(0, 0, 1, 1), (2, 2, 3, 3)]
    assert geometry.polygonal(shapely.GeometryCollection([line, square])) == square
    assert geometry.polygonal(line).is_empty
    assert geometry.union([]).is_empty


def shifted(box: shapely.Polygon, east: float, north: float, latitude: float) -> shapely.Polygon:
    """Moved by metres."""
    return translate(box, east / METRES / math.cos(math.radians(latitude)), north / METRES)


@given(st.floats(0, 2 * math.pi), st.floats(-82, 82), st.floats(0, 480))
def test_an_outline_moved_by_less_than_the_tolerance_is_covered(direction: float, lat: float, metres: float) -> None:
    granule = shapely.box(20, lat - 0.5, 22, lat + 0.5)
    moved = shifted(granule, metres * math.cos(direction), metres * math.sin(direction), lat)
    assert geometry.covers(granule, moved, 500)


@given(st.sampled_from([0, 1, 2, 3]), st.floats(-82, 82), st.floats(520, 50_000))
def test_an_outline_moved_by_more_is_not(quarter: int, lat: float, metres: float) -> None:
    """East, north, west, south."""
    granule = shapely.box(20, lat - 0.5, 22, lat + 0.5)
    east, north = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarter]
    assert not geometry.covers(granule, shifted(granule, metres * east, metres * north, lat), 500)


def test_covering_is_not_mutual() -> None:
    whole, half = shapely.box(20, 60, 22, 61), shapely.box(20, 60, 21, 61)
    assert geometry.covers(whole, half, 500)
    assert not geometry.covers(half, whole, 500)
    assert geometry.covers(shapely.union(half, shapely.box(21, 60, 22, 61)), whole, 500)


def test_each_pair_is_compared_by_itself() -> None:
    """Far apart, across ±180, and one that is so intricate that nobody waits for it."""
    granule, across = shapely.box(20, 60, 22, 61), geometry.box((179, 60, 181, 61))
    star = shapely.Polygon(
        [((2 + n % 2) * math.cos(n * math.pi / 300), (2 + n % 2) * math.sin(n * math.pi / 300)) for n in range(600)]
    )
    covers = [granule, granule, across, star, across]
    others = [shifted(granule, 300, 0, 60.5), shifted(granule, 700, 0, 60.5), across, star, granule]
    assert geometry.covers_each(covers, others, 500).tolist() == [True, False, True, False, False]
    assert geometry.covers_each([], [], 500).tolist() == []


@given(st.floats(-0.01, 0.01), st.floats(0, 400))
def test_the_antimeridian_is_no_edge(place: float, metres: float) -> None:
    """Two outlines that end within a kilometre of ±180, on either side of it."""
    lat = 68.0
    granule = shapely.box(178, lat, 180 + place, lat + 1)
    moved = shifted(granule, metres, 0, lat + 0.5)
    cover, other = (geometry.cut_at_antimeridian(list(box.exterior.coords)) for box in (granule, moved))
    assert geometry.covers(cover, other, 500)
    beyond = shifted(granule, metres + 600, 0, lat + 0.5)
    assert not geometry.covers(cover, geometry.cut_at_antimeridian(list(beyond.exterior.coords)), 500)


@given(st.floats(-170, 170), st.floats(-80, 80), st.floats(0.1, 5))
def test_an_outline_covers_itself_and_not_one_far_away(lon: float, lat: float, width: float) -> None:
    here = shapely.box(lon, lat, lon + width, lat + 1)
    assume(here.area > 0)
    assert geometry.covers(here, here, 500)
    assert not geometry.covers(here, translate(here, 6, 0) if lon < 0 else translate(here, -6, 0), 500)


# ------------------------------------------------------------------------------------------------------ bounded time


def at_random(points: int) -> npt.NDArray[np.float64]:
    """A ring that crosses itself in about a fifth of all pairs of its segments."""
    numbers = np.random.default_rng(1)
    return np.column_stack([numbers.uniform(-150, -148, points), numbers.uniform(68, 69, points)])


def comb(points: int) -> npt.NDArray[np.float64]:
    """A valid ring with teeth of a degree, some metres apart."""
    number = np.arange(points)
    teeth = np.column_stack([-150 + number * 1e-4 + number % 2, 68.0 + number % 2])
    return np.vstack([teeth, [[-148.0, 67.9]]])


@pytest.mark.parametrize("rings", [[at_random(400)], [at_random(100_000)], [comb(100_000)], [comb(600), comb(600)]])
def test_rings_that_would_take_minutes_are_unknown(rings: list[npt.NDArray[np.float64]]) -> None:
    assert geometry.of_rings(rings) is None


@pytest.mark.parametrize("points", [5, 7, 9, 11])
def test_a_ring_that_crosses_itself_some_times_is_repaired(points: int) -> None:
    """A star drawn in one go: the area that an odd number of its turns encloses."""
    angles = np.arange(points) * 2 * np.pi * (points // 2) / points
    star = np.column_stack([-149 + np.cos(angles), 68 + np.sin(angles)])
    outline = geometry.of_rings([star])
    assert outline is not None
    inside = shapely.points(np.random.default_rng(2).uniform((-150, 67), (-148, 69), (500, 2)))
    ends = np.roll(star, -1, axis=0)
    for point in inside:
        x, y = shapely.get_coordinates(point)[0]
        crossed = (star[:, 1] > y) != (ends[:, 1] > y)
        at = star[:, 0] + (y - star[:, 1]) / (ends[:, 1] - star[:, 1]) * (ends[:, 0] - star[:, 0])
        assert outline.contains(point) == bool(np.count_nonzero(crossed & (at > x)) % 2)


def test_a_long_valid_ring_is_as_it_is() -> None:
    angles = np.linspace(0, 2 * np.pi, 1500, endpoint=False)
    ring = np.column_stack([-149 + np.cos(angles), 68 + np.sin(angles)])
    outline = geometry.of_rings([ring])
    assert outline is not None
    assert outline.equals(shapely.Polygon(ring))


def test_a_ring_of_very_many_points_is_simplified() -> None:
    """A circle of 10,000 points, half of them 0.00005° further out; it crosses the antimeridian."""
    angles = np.linspace(0, 2 * np.pi, 10_000, endpoint=False)
    radius = 1 + np.arange(10_000) % 2 * 5e-5
    ring = np.column_stack([(np.cos(angles) * radius + 359.5) % 360 - 180, 68 + np.sin(angles) * radius])
    outline = geometry.of_rings([ring])
    assert outline is not None
    assert shapely.get_num_coordinates(outline) < 2000
    assert outline.area == pytest.approx(np.pi, abs=2 * np.pi * 1.5e-4)
    west, _, east, _ = outline.bounds
    assert (west, east) == (-180, 180)
    assert geometry.of_rings([comb(9_999)]) is None  # every tooth is longer than that


def test_intricate_outlines_are_compared_in_time() -> None:
    outline = geometry.of_rings([comb(999)])
    assert outline is not None
    assert not geometry.covers(outline, outline, 1000.0)


def test_jagged_outlines_are_compared_as_smooth_ones() -> None:
    """Steps of some metres, as detectors leave them; the outlines lie 500 m apart, or 1500 m."""
    number = np.arange(600)
    edge = np.column_stack([-150 + number / 600, 68.0 + number % 2 * 1e-4])
    north = np.vstack([edge, [[-149.0, 69.0], [-150.0, 69.0]]])
    for metres, covered in ((500, True), (1500, False)):
        outline, moved = shapely.Polygon(north), shapely.Polygon(north - [0, metres / METRES])
        assert geometry.covers(outline, moved, 1000.0) is covered
