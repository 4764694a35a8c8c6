from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from s2sr_core.geo.clip import owned_pixels
from s2sr_core.geo.gdal_runtime import gdal, ogr, osr
from s2sr_core.geo.lattice import Lattice, Window

LATTICE = Lattice(1.0, 1.0)


def test_a_box_owns_its_west_and_south_edge_only() -> None:
    """Centres lie at halves; the box's edges pass through them."""
    owned = owned_pixels(shapely.box(1.5, -3.5, 3.5, -1.5), LATTICE, Window(0, 0, 5, 5))
    assert np.argwhere(owned).tolist() == [[2, 1], [2, 2], [3, 1], [3, 2]]


def test_gdal_gives_a_centre_on_a_horizontal_edge_to_both_neighbours_and_this_does_not() -> None:
    """Why the clip is not GDAL's polygon fill: the same two boxes, burnt by GDAL, share a row of pixels."""
    upper, lower = shapely.box(0, -2.5, 4, 0), shapely.box(0, -5, 4, -2.5)
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(4326)
    reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    burnt = []
    for polygon in (upper, lower):
        raster = gdal.GetDriverByName("MEM").Create("", 4, 5, 1, gdal.GDT_Byte)
        raster.SetGeoTransform((0, 1, 0, 0, 0, -1))
        raster.SetSpatialRef(reference)
        vector = (ogr.GetDriverByName("MEM") or ogr.GetDriverByName("Memory")).CreateDataSource("")
        layer = vector.CreateLayer("", reference, ogr.wkbPolygon)
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetGeometry(ogr.CreateGeometryFromWkb(polygon.wkb))
        layer.CreateFeature(feature)
        gdal.RasterizeLayer(raster, [1], layer, burn_values=[1])
        burnt.append(raster.ReadAsArray())
    ours = [owned_pixels(polygon, LATTICE, Window(0, 0, 4, 5)) for polygon in (upper, lower)]
    assert (sum(burnt) == 2).any()
    assert (sum(own.astype(int) for own in ours) == 1).all()


def test_a_hole_is_out_and_a_second_part_is_in() -> None:
    ring = shapely.Polygon(shapely.box(0, -6, 6, 0).exterior, [shapely.box(2, -4, 4, -2).exterior])
    polygon = shapely.MultiPolygon([ring, shapely.box(8, -2, 9, 0)])
    window = Window(-1, -1, 10, 7)
    longitude, latitude = np.meshgrid(np.arange(-1, 10) + 0.5, -(np.arange(-1, 7) + 0.5))
    assert np.array_equal(owned_pixels(polygon, LATTICE, window), shapely.contains_xy(polygon, longitude, latitude))


coordinates = st.floats(-0.4, 10.4).map(lambda value: round(value * 2) / 2)  # many fall on centres


@settings(max_examples=200)
@given(st.lists(st.tuples(coordinates, coordinates), min_size=4, max_size=12, unique=True))
def test_each_centre_belongs_to_exactly_one_cell_of_a_partition(points: list[tuple[float, float]]) -> None:
    """Triangles of a Delaunay mesh over points on a half-pixel grid: edges run through centres in every direction."""
    triangles = shapely.get_parts(shapely.delaunay_triangles(shapely.MultiPoint([(x, -y) for x, y in points])))
    window = Window(-1, -1, 12, 12)
    owners = sum((owned_pixels(t, LATTICE, window).astype(int) for t in triangles), np.zeros(window.shape, int))
    longitude, latitude = np.meshgrid(np.arange(-1, 12) + 0.5, -(np.arange(-1, 12) + 0.5))
    hull = shapely.union_all(triangles) if len(triangles) else shapely.Point()
    assert owners.max() <= 1
    assert (owners[shapely.contains_properly(hull, shapely.points(longitude, latitude))] == 1).all()
    assert (owners[~shapely.intersects(hull, shapely.points(longitude, latitude))] == 0).all()


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1))
def test_inside_agrees_with_shapely_where_no_centre_is_on_an_edge(seed: int) -> None:
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.random(9)) * 2 * np.pi
    radius = rng.uniform(1, 5, 9)
    polygon = shapely.Polygon(np.column_stack([5.03 + radius * np.cos(angle), -5.01 + radius * np.sin(angle)]))
    if not polygon.is_valid:
        return
    window = Window(0, 0, 11, 11)
    longitude, latitude = np.meshgrid(np.arange(11) + 0.5, -(np.arange(11) + 0.5))
    assert np.array_equal(owned_pixels(polygon, LATTICE, window), shapely.contains_xy(polygon, longitude, latitude))


@pytest.mark.parametrize("turn", range(4))
def test_the_direction_and_start_of_a_ring_do_not_matter(turn: int) -> None:
    ring = [(0.5, -4.5), (4.5, -3.5), (3.5, -0.5), (1.5, -1.5)]
    expected = owned_pixels(shapely.Polygon(ring), LATTICE, Window(0, 0, 5, 5))
    turned = ring[turn:] + ring[:turn]
    for variant in (turned, turned[::-1]):
        assert np.array_equal(owned_pixels(shapely.Polygon(variant), LATTICE, Window(0, 0, 5, 5)), expected)


def test_windows_do_not_matter() -> None:
    polygon = shapely.Polygon([(0.2, -9.7), (8.9, -6.1), (9.6, -0.4), (2.3, -2.2)])
    whole = Window(0, 0, 10, 10)
    expected = owned_pixels(polygon, LATTICE, whole)
    found = np.zeros(whole.shape, bool)
    for tile in whole.tiles(3, 4):
        found[tile.y0 : tile.y1, tile.x0 : tile.x1] = owned_pixels(polygon, LATTICE, tile)
    assert np.array_equal(found, expected)
