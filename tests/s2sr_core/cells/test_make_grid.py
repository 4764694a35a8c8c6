from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path

import pytest
import shapely
from osgeo import ogr, osr
from shapely.geometry.base import BaseGeometry

from s2sr_core.cells.make_grid import make_grid, read_polygons
from s2sr_core.errors import InputError
from s2sr_core.parameters import GridParameters

ogr.UseExceptions()
osr.UseExceptions()


def vector_file(
    path: Path, geometries: Iterable[BaseGeometry | str], epsg: int | None = 4326, layer: str = "a"
) -> Path:
    """A vector file by its name's ending; geometries as shapely's or as WKT."""
    driver = ogr.GetDriverByName({".gpkg": "GPKG", ".shp": "ESRI Shapefile", ".geojson": "GeoJSON"}[path.suffix])
    reference = None
    if epsg is not None:
        reference = osr.SpatialReference()
        reference.ImportFromEPSG(epsg)
        reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    dataset = driver.Open(str(path), 1) if path.exists() else driver.CreateDataSource(str(path))
    made = dataset.CreateLayer(layer, reference, ogr.wkbUnknown if path.suffix != ".shp" else ogr.wkbPolygon)
    for geometry in geometries:
        feature = ogr.Feature(made.GetLayerDefn())
        feature.SetGeometry(ogr.CreateGeometryFromWkt(geometry if isinstance(geometry, str) else geometry.wkt))
        made.CreateFeature(feature)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def grid_of(tmp_path: Path, **fields: object) -> list[str]:
    """The ids of the grid that is made."""
    out = tmp_path / "cells.csv"
    count = make_grid(GridParameters(out=out, **fields))
    rows = rows_of(out)
    assert count == len(rows)
    return [row["cell_id"] for row in rows]


# --------------------------------------------------------------------------------------------------------- the file


def test_the_file_holds_the_cells_of_the_box(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder" / "cells.csv"
    assert make_grid(GridParameters(bbox=(10, 60, 10.5, 60.25), out=out)) == 2
    assert [(row["cell_id"], row["xmin"], row["ymax"]) for row in rows_of(out)] == [
        ("r0600c0760", "10.0", "60.25"),
        ("r0600c0761", "10.25", "60.25"),
    ]
    assert [path.name for path in out.parent.iterdir()] == ["cells.csv"]


def test_a_file_that_is_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "cells.csv").write_text("old")
    assert grid_of(tmp_path, bbox=(0, 0, 1, 1), cell_size=1.0) == ["r0090c0180"]


@pytest.mark.parametrize("out", ["folder", "file/cells.csv"])
def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, out: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^out = '.*': cannot be written \(.*\); give another path\.$"):
        make_grid(GridParameters(bbox=(0, 0, 1, 1), out=tmp_path / out))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


# --------------------------------------------------------------------------------------------------------- polygons


@pytest.mark.parametrize("suffix", [".gpkg", ".shp", ".geojson"])
def test_polygons_in_degrees_are_read_as_they_are(tmp_path: Path, suffix: str) -> None:
    triangle = shapely.Polygon([(0.5, 60), (2, 60), (0.5, 62)])
    found = read_polygons(vector_file(tmp_path / f"land{suffix}", [triangle, shapely.box(10, 60, 11, 61)]))
    assert found.symmetric_difference(shapely.union(triangle, shapely.box(10, 60, 11, 61))).area < 1e-9


def test_cells_that_only_touch_the_land_are_left_out(tmp_path: Path) -> None:
    """An L of three unit squares around the cell at 1/1, and a lonely square at 3/3."""
    land = [shapely.box(0, 0, 2, 1), shapely.box(0, 1, 1, 2), shapely.box(3, 3, 4, 4)]
    path = vector_file(tmp_path / "land.gpkg", land)
    ids = grid_of(tmp_path, bbox=(0, 0, 4, 4), cell_size=1.0, within=path)
    assert ids == ["r0090c0180", "r0090c0181", "r0091c0180", "r0093c0183"]


def test_a_hole_larger_than_a_cell_drops_it(tmp_path: Path) -> None:
    ring = shapely.box(0, 0, 5, 5) - shapely.box(1.5, 1.5, 3.5, 3.5)
    ids = grid_of(tmp_path, bbox=(0, 0, 5, 5), cell_size=1.0, within=vector_file(tmp_path / "l.gpkg", [ring]))
    assert len(ids) == 24
    assert "r0092c0182" not in ids


@pytest.mark.parametrize("suffix", [".gpkg", ".shp"])
def test_another_coordinate_system_is_followed(tmp_path: Path, suffix: str) -> None:
    """UTM 33: its central meridian, 15° E, is x = 500 km. Along it a degree of latitude is some 111.4 km at 64°."""
    path = vector_file(tmp_path / f"land{suffix}", [shapely.box(450_000, 7_000_000, 500_000, 7_111_400)], 32633)
    xmin, ymin, xmax, ymax = read_polygons(path).bounds
    assert xmax == pytest.approx(15.0, abs=1e-9)
    assert ymax - ymin == pytest.approx(1.0, abs=0.01)
    assert 15.0 - xmin == pytest.approx(50 / (111.32 * math.cos(math.radians(63.6))), rel=0.02)


def test_a_geographic_system_with_latitude_first_is_not_turned(tmp_path: Path) -> None:
    """EPSG:4258 has latitude before longitude; files hold longitude first all the same."""
    assert read_polygons(vector_file(tmp_path / "l.gpkg", [shapely.box(20, 60, 21, 65)], 4258)).bounds == pytest.approx(
        (20, 60, 21, 65), abs=1e-6
    )


def test_every_layer_counts_each_in_its_own_system(tmp_path: Path) -> None:
    path = vector_file(tmp_path / "land.gpkg", [shapely.box(1, 1, 2, 2)], layer="degrees")
    vector_file(path, [shapely.box(500_000, 100_000, 500_100, 100_100)], 32633, layer="metres")
    parts = shapely.get_parts(read_polygons(path))
    assert sorted(round(part.bounds[0], 3) for part in parts) == [1, 15]


def test_only_polygons_count_wherever_they_stand(tmp_path: Path) -> None:
    """Points and lines do not; polygons in collections and curved ones do. The circle has radius 1."""
    collection = "GEOMETRYCOLLECTION (POINT (50 50), POLYGON ((10 0, 11 0, 11 1, 10 1, 10 0)))"
    circle = "CURVEPOLYGON (CIRCULARSTRING (20 0, 21 1, 22 0, 21 -1, 20 0))"
    path = vector_file(tmp_path / "l.gpkg", ["POINT (0 0)", "LINESTRING (0 0, 9 9)", collection, circle])
    found = sorted(shapely.get_parts(read_polygons(path)), key=lambda part: part.bounds)
    assert [part.area for part in found] == pytest.approx([1.0, math.pi], rel=0.01)


def test_a_polygon_that_crosses_itself_is_mended(tmp_path: Path) -> None:
    """A bow tie: two triangles of 0.25 square degrees each."""
    bow = shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
    assert read_polygons(vector_file(tmp_path / "l.geojson", [bow])).area == pytest.approx(0.5)


def test_a_feature_without_geometry_is_no_matter(tmp_path: Path) -> None:
    features = [
        {"type": "Feature", "properties": {}, "geometry": geometry}
        for geometry in (None, json.loads(shapely.to_geojson(shapely.box(0, 0, 1, 1))))
    ]
    (tmp_path / "l.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    assert read_polygons(tmp_path / "l.geojson").area == 1


# --------------------------------------------------------------------------------------------------- antimeridian


def test_a_projected_polygon_across_the_antimeridian_selects_both_sides_and_nothing_between(tmp_path: Path) -> None:
    """NSIDC's polar stereographic: x right, y up, longitude = −45° + atan2(x, −y). The corners are the extremes."""
    corners = [(x, y) for x in (-1_200_000, -900_000) for y in (1_000_000, 1_300_000)]
    eastings = [(-45 + math.degrees(math.atan2(x, -y))) % 360 for x, y in corners]
    assert (min(eastings), max(eastings)) == pytest.approx((169.7, 185.2), abs=0.05)
    path = vector_file(tmp_path / "land.gpkg", [shapely.MultiPoint(corners).envelope], 3413)
    west, east = sorted(shapely.get_parts(read_polygons(path)), key=lambda part: part.bounds)
    assert (west.bounds[0], west.bounds[2] + 360) == (-180, pytest.approx(max(eastings)))
    assert (east.bounds[0], east.bounds[2]) == (pytest.approx(min(eastings)), 180)
    ids = grid_of(tmp_path, bbox=(-180, 70, 180, 80), cell_size=5.0, within=path)
    assert {cell_id[-4:] for cell_id in ids} == {"0069", "0070", "0071", "0000", "0001"}


def test_a_cap_around_the_pole_selects_all_longitudes(tmp_path: Path) -> None:
    """A disc of 1000 km around the North Pole: some 9 degrees of latitude."""
    path = vector_file(tmp_path / "cap.gpkg", [shapely.Point(0, 0).buffer(1_000_000)], 3413)
    ids = grid_of(tmp_path, bbox=(-180, 60, 180, 90), cell_size=10.0, within=path)
    assert ids == [f"r0017c{column:04d}" for column in range(36)]


def test_longitudes_beyond_180_are_taken_round(tmp_path: Path) -> None:
    path = vector_file(tmp_path / "l.gpkg", [shapely.box(179, 60, 181, 61)])
    assert sorted(part.bounds for part in shapely.get_parts(read_polygons(path))) == [
        (-180, 60, -179, 61),
        (179, 60, 180, 61),
    ]


# ----------------------------------------------------------------------------------------------------------- errors


def refusal(path: Path) -> str:
    with pytest.raises(InputError, match=r"^within = '") as caught:
        read_polygons(path)
    return f"{caught.value.problem}; {caught.value.remedy}"


def test_a_file_that_gdal_cannot_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "cut.geojson").write_text('{"type": "FeatureCollection", "features": [{"type": "Feat')
    for name in ("none.gpkg", "text.txt", "cut.geojson"):
        assert refusal(tmp_path / name).startswith("is not a vector file that GDAL can read (")


def test_a_file_without_polygons_is_refused(tmp_path: Path) -> None:
    path = vector_file(tmp_path / "points.gpkg", ["POINT (1 1)", "LINESTRING (0 0, 1 1)"])
    assert refusal(path) == "has no polygons; give a vector file of polygons"


def test_metres_without_a_stated_system_are_refused(tmp_path: Path) -> None:
    path = vector_file(tmp_path / "land.shp", [shapely.box(400_000, 7_000_000, 500_000, 7_100_000)], None)
    assert refusal(path) == "reaches 400000 7e+06 500000 7.1e+06 degrees; give a file that states its CRS"


def test_a_place_outside_its_projection_is_refused(tmp_path: Path) -> None:
    path = vector_file(tmp_path / "land.gpkg", [shapely.box(1e9, 1e9, 2e9, 2e9)], 32633)
    assert "Point outside of projection domain" in refusal(path)


def test_a_vrt_cannot_name_another_file(tmp_path: Path) -> None:
    source = vector_file(tmp_path / "land.gpkg", [shapely.box(0, 0, 1, 1)])
    vrt = tmp_path / "land.vrt"
    vrt.write_text(
        '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>'
        f"{source}</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
    )
    dataset = ogr.Open(str(vrt))  # it is a file that GDAL would read
    assert dataset.GetLayerCount() == 1
    assert "not recognized as being in a supported file format" in refusal(vrt)


def test_land_outside_the_box_is_refused(tmp_path: Path) -> None:
    path = vector_file(tmp_path / "land.gpkg", [shapely.box(50, 0, 51, 1)])
    with pytest.raises(InputError, match=r"^within = '.*': shares no area with a cell of the bbox; check both\.$"):
        make_grid(GridParameters(bbox=(0, 0, 1, 1), out=tmp_path / "cells.csv", within=path))
    assert not (tmp_path / "cells.csv").exists()
