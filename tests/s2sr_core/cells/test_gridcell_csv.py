from __future__ import annotations

import csv
import os
import struct
from pathlib import Path

import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st

from s2sr_core.cells.gridcell_csv import read_gridcells, write_gridcells
from s2sr_core.cells.gridcells import Gridcell, make_gridcells
from s2sr_core.errors import InputError

SQUARE = "POLYGON ((0 0, 1 0, 1 1, 0 1, 0 0))"


def hexadecimal(srid: int | None = None, order: str = "<") -> str:
    """The square as (E)WKB in hexadecimal, made by hand: OGC 06-103r4, 8.2, and PostGIS' flag for an SRID."""
    coordinates = [value for point in ((0, 0), (1, 0), (1, 1), (0, 1), (0, 0)) for value in point]
    kind = 3 if srid is None else 3 | 0x2000_0000
    head = struct.pack(f"{order}BI", order == "<", kind) + (b"" if srid is None else struct.pack(f"{order}I", srid))
    return (head + struct.pack(f"{order}II10d", 1, 5, *map(float, coordinates))).hex().upper()


def ids(cells: list[Gridcell]) -> list[str]:
    return [cell.cell_id for cell in cells]


def read(tmp_path: Path, content: str | bytes) -> list[Gridcell]:
    path = tmp_path / "cells.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_gridcells(path)


def refusal(tmp_path: Path, content: str | bytes) -> str:
    """The sentence by which a CSV is refused, without what all of them begin with."""
    with pytest.raises(InputError) as caught:
        read(tmp_path, content)
    sentence = str(caught.value)
    start = f"grid_csv = '{_shortened(str(tmp_path / 'cells.csv'))}': "
    assert sentence.startswith(start)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence.removeprefix(start)


def _shortened(path: str) -> str:
    return f"{path[:77]}…" if len(path) > 78 else path


# ----------------------------------------------------------------------------------------------------------- write

cell_ids = st.from_regex(r"[A-Za-z0-9._-]{1,128}", fullmatch=True).filter(lambda text: text not in (".", ".."))


@given(
    st.dictionaries(
        cell_ids,
        st.tuples(st.floats(-180, 179), st.floats(-90, 89), st.floats(1e-6, 1), st.floats(1e-6, 1)),
        min_size=1,
        max_size=8,
    )
)
def test_what_is_written_is_read_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, corners: dict[str, tuple[float, float, float, float]]
) -> None:
    """Triangles and boxes with any digits, ids of any safe text (``007``, ``NA``, ``1e5`` stay what they are)."""
    cells = []
    for number, (cell_id, (x, y, width, height)) in enumerate(corners.items()):
        points = [(x, y), (x + width, y), (x, y + height), (x + width, y + height)]
        polygon = shapely.Polygon(points[:3]) if number % 2 else shapely.MultiPoint(points).envelope
        assume(polygon.is_valid and polygon.area > 0)
        cells.append(Gridcell(cell_id, polygon))
    path = tmp_path_factory.mktemp("grid") / "cells.csv"
    write_gridcells(cells, path)
    again = read_gridcells(path)
    assert ids(again) == ids(cells)
    for read_back, cell in zip(again, cells, strict=True):
        assert shapely.get_coordinates(read_back.polygon).tolist() == shapely.get_coordinates(cell.polygon).tolist()


def test_the_columns_of_the_file(tmp_path: Path) -> None:
    write_gridcells([Gridcell("a-1", shapely.box(-0.5, 60, 0.25, 60.1))], tmp_path / "cells.csv")
    with (tmp_path / "cells.csv").open(newline="") as file:
        header, row = csv.reader(file)
    assert header == ["cell_id", "xmin", "ymin", "xmax", "ymax", "geometry"]
    assert row[0] == "a-1"
    assert [float(text) for text in row[1:5]] == [-0.5, 60, 0.25, 60.1]
    assert shapely.from_wkt(row[5]).equals(shapely.box(-0.5, 60, 0.25, 60.1))


def test_bounds_alone_make_the_same_cells_as_polygons(tmp_path: Path) -> None:
    cells = make_gridcells((10, 60, 11, 60.5), 0.25)
    write_gridcells(cells, tmp_path / "all.csv")
    with (tmp_path / "all.csv").open(newline="") as file:
        bounds = "\n".join(",".join(row[:5]) for row in csv.reader(file))
    assert [cell.polygon.normalize() for cell in read(tmp_path, bounds)] == [cell.polygon.normalize() for cell in cells]


# ------------------------------------------------------------------------------------------------------------ read


@pytest.mark.parametrize(
    "content",
    [
        f'cell_id,geometry\na,"{SQUARE}"\n',
        f'id,wkt\na,"{SQUARE}"\n',
        f'CELL_ID,Geometry\na,"{SQUARE}"\n',
        f'"cell_id","geometry"\r\n"a","{SQUARE}"\r\n',
        f'\ufeffcell_id,geometry\na,"{SQUARE}"\n',
        f'cell_id,geometry\na,"{SQUARE}"',
        f'cell_id,geometry\na,"{SQUARE}"\n\n\n  \n,\n',
        f'cell_id,geometry\n\n,\na,"{SQUARE}"\n',
        f' cell_id , geometry \n a , "{SQUARE}"\n',
        f'cell_id,geometry\ra,"{SQUARE}"\r',
        f'name,geometry,cell_id,note\nx,"{SQUARE}",a,\n',
        f'geometry,cell_id,id,wkt\n"{SQUARE}",a,other,nonsense\n',
        f'cell_id,geometry\na,"{SQUARE.replace(", ", ",\n")}"\n',
        'cell_id,geometry\na,"POLYGON Z ((0 0 9, 1 0 9, 1 1 9, 0 1 9, 0 0 9))"\n',
        'cell_id,geometry\na,"MULTIPOLYGON (((0 0, 1 0, 1 1, 0 1, 0 0)))"\n',
        "cell_id,xmin,ymin,xmax,ymax\na,0,0,1,1\n",
        "id,ymin,xmin,ymax,xmax\na,0.0,0,1e0, 1 \n",
    ],
)
def test_one_cell_in_every_way_it_may_be_written(tmp_path: Path, content: str) -> None:
    [cell] = read(tmp_path, content)
    assert cell.cell_id == "a"
    assert not cell.polygon.has_z
    assert cell.polygon.equals(shapely.box(0, 0, 1, 1))


@pytest.mark.parametrize(
    "content",
    [
        # QGIS: a layer with GEOMETRY=AS_WKT; copied features; the attributes of a grid.
        f'WKT,fid,id\n"{SQUARE}",1,a\n',
        "wkt_geom\tid\tleft\nPolygonZ ((0 0 5, 1 0 5, 1 1 5, 0 1 5, 0 0 5))\ta\t0\n",
        '"id","left","top","right","bottom","row_index","col_index"\n"a","0","1","1","0","0","0"\n',
        # Excel, where the decimal is a comma: with and without its first line, as "Unicode text", and with a mark.
        "sep=;\r\nid;xmin;ymin;xmax;ymax\r\na;0,0;0;1;1,0E0\r\n",
        '"sep=;"\r\nid;wkt\r\na;"POLYGON ((0 0, 1 0, 1 1, 0 1, 0 0))"\r\n',
        "\ufeffid;West;South;East;North\r\na;0,000;-0;1,00;+1\r\n;;;;\r\n",
        f"cell_id;geometry\na;{SQUARE}\n",
        f"cell_id|geometry\na|{SQUARE}\n",
        "sep=\t\nid\tminx\tminy\tmaxx\tmaxy\na\t0\t0\t1\t1\n",
        # PostGIS: ST_AsEWKT, and COPY … TO … WITH CSV HEADER, which writes EWKB; bytea; ogr2ogr.
        f'id,st_asewkt,geom\na,x,"SRID=4326;{SQUARE}"\n',
        f"gid,geom\na,{hexadecimal(4326)}\n",
        f"id\tthe_geom\na\t{hexadecimal(order='>').lower()}\n",
        f'"ogc_fid","wkb_geometry"\n"a","\\x{hexadecimal(0)}"\n',
        # geopandas: to_csv, and bounds with the index.
        f'id,geometry\na,"{SQUARE}"\n',
        "id,minx,miny,maxx,maxy\na,0.0,0.0,1.0,1.0\n",
        f'GEOM,ID\n"srid = 4326 ; {SQUARE.lower()}",a\n',
    ],
)
def test_one_cell_as_other_programs_write_it(tmp_path: Path, content: str) -> None:
    [cell] = read(tmp_path, content)
    assert cell.cell_id == "a"
    assert cell.polygon.equals(shapely.box(0, 0, 1, 1))
    assert (cell.polygon.has_z, shapely.get_srid(cell.polygon)) == (False, 0)


def test_polygons_of_any_shape_are_kept_as_they_are(tmp_path: Path) -> None:
    holed = "POLYGON ((0 0, 4 0, 4 4, 0 4, 0 0), (1 1, 1 2, 2 2, 2 1, 1 1))"
    parts = "MULTIPOLYGON (((0 0, 1 0, 0 1, 0 0)), ((5 5, 6 5, 5 6, 5 5)))"
    cells = read(tmp_path, f'id,wkt\nholed,"{holed}"\nparts,"{parts}"\n')
    assert [cell.polygon.area for cell in cells] == [15, 1]
    assert [cell.polygon.wkt for cell in cells] == [holed, parts]


def test_a_polygon_may_be_longer_than_a_field_of_pythons_csv_reader(tmp_path: Path) -> None:
    circle = shapely.Point(10, 60).buffer(1, quad_segs=2500)
    assert len(circle.wkt) > csv.field_size_limit()
    write_gridcells([Gridcell("round", circle)], tmp_path / "cells.csv")
    assert read_gridcells(tmp_path / "cells.csv")[0].polygon.wkb == circle.wkb


def test_ids_are_text(tmp_path: Path) -> None:
    rows = "".join(f'{cell_id},"{SQUARE}"\n' for cell_id in ("007", "7", "NA", "nan", "1.0", "-", "...", "True"))
    assert ids(read(tmp_path, f"cell_id,geometry\n{rows}")) == ["007", "7", "NA", "nan", "1.0", "-", "...", "True"]


@pytest.mark.parametrize(
    ("cell_id", "problem"),
    [
        ("", "has no id"),
        (".", "id '.' cannot name a folder"),
        ("..", "id '..' cannot name a folder"),
        ("../up", "id '../up' cannot name a folder"),
        ("a/b", "id 'a/b' cannot name a folder"),
        ("/etc", "id '/etc' cannot name a folder"),
        ("a\\b", "cannot name a folder"),
        ("a b", "id 'a b' cannot name a folder"),
        ("a:b", "id 'a:b' cannot name a folder"),
        ("a\tb", "id 'a\\tb' cannot name a folder"),
        ("a\0b", "id 'a\\x00b' cannot name a folder"),
        ("Åland", "id 'Åland' cannot name a folder"),
        ("٣", "id '٣' cannot name a folder"),
        ("~", "id '~' cannot name a folder"),
        ("x" * 129, f"id '{'x' * 40}' cannot name a folder"),
        ("first", "id 'first' already appears in row 2"),
        (" first ", "id 'first' already appears in row 2"),
    ],
)
def test_an_id_that_is_unsafe_or_used_is_named_with_its_row(tmp_path: Path, cell_id: str, problem: str) -> None:
    sentence = refusal(tmp_path, f'cell_id,geometry\nfirst,"{SQUARE}"\n"{cell_id}","{SQUARE}"\n')
    assert sentence.startswith("row 3: ")
    assert problem in sentence


@given(st.text(max_size=12))
def test_no_id_that_is_read_leaves_its_folder(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("grid") / "cells.csv"
    with path.open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        csv.writer(file).writerows([["cell_id", "xmin", "ymin", "xmax", "ymax"], [text, 0, 0, 1, 1]])
    try:
        [cell] = read_gridcells(path)
    except InputError:
        return
    assert (path.parent / cell.cell_id).resolve().parent == path.parent.resolve()
    assert cell.cell_id.isascii()
    assert cell.cell_id == text.strip()


@pytest.mark.parametrize(
    ("geometry", "problem"),
    [
        ("", "has no geometry"),
        ("x", "geometry is not valid WKT"),
        ("POLYGON ((0 0, 1 0, 1 1, 0 1))", "geometry is not valid WKT"),
        ("POLYGON ((0 0, 1 0, 1 1, 0 1, 0 0)", "geometry is not valid WKT"),
        (
            "CURVEPOLYGON (CIRCULARSTRING (0 0, 1 1, 0 2, -1 1, 0 0))",
            "geometry has curves (in PostGIS:",
        ),
        ("SRID=4326;POINT (0 0)", "geometry is a Point, not a polygon"),
        (f"SRID=32606;{SQUARE}", "geometry has SRID 32606, not 4326 (in PostGIS: ST_Transform(geom, 4326))"),
        (hexadecimal(3857), "geometry has SRID 3857, not 4326"),
        (hexadecimal(4326)[:-2], "geometry is not valid WKT"),
        (
            "POLYGON ((500000 7600000, 520000 7600000, 520000 7620000, 500000 7600000))",
            "coordinates reach 500000 7.6e+06 520000 7.62e+06, which are not degrees (transform to EPSG:4326)",
        ),
        ("POINT (0 0)", "geometry is a Point, not a polygon"),
        ("LINESTRING (0 0, 1 1)", "geometry is a LineString, not a polygon"),
        ("GEOMETRYCOLLECTION (POLYGON ((0 0, 1 0, 1 1, 0 0)))", "geometry is a GeometryCollection, not a polygon"),
        ("POLYGON EMPTY", "polygon is empty"),
        ("MULTIPOLYGON EMPTY", "polygon is empty"),
        ("POLYGON ((0 0, 2 2, 2 0, 0 2, 0 0))", "polygon is invalid (Self-intersection[1 1])"),
        ("POLYGON ((0 0, 3 3, 3 0, 0 2, 0 0))", "polygon is invalid (Self-intersection"),
        ("POLYGON ((0 0, 1 1, 2 2, 0 0))", "polygon is invalid"),
        ("POLYGON ((0 0, nan 0, 1 1, 0 1, 0 0))", "polygon is invalid (Invalid Coordinate"),
        ("POLYGON ((0 0, inf 0, 1 1, 0 1, 0 0))", "polygon is invalid (Invalid Coordinate"),
        (
            "POLYGON ((0 0, 1 0, 1 90.5, 0 1, 0 0))",
            "latitude 90.5 is outside −90 … 90 (is the order longitude latitude?)",
        ),
        ("POLYGON ((68 -149, 68 -150, 69 -150, 68 -149))", "latitude -150.0 is outside −90 … 90"),
        ("POLYGON ((179 0, 181 0, 181 1, 179 0))", "longitude 181.0 is outside −180 … 180"),
        ("POLYGON ((-180.5 0, -179 0, -179 1, -180.5 0))", "longitude -180.5 is outside −180 … 180"),
        (
            "POLYGON ((179.75 0, -179.75 0, -179.75 1, 179.75 1, 179.75 0))",
            "polygon spans more than 180° of longitude (cut a cell across ±180 in two)",
        ),
        (
            "MULTIPOLYGON (((179 0, 180 0, 180 1, 179 0)), ((-180 0, -179 0, -180 1, -180 0)))",
            "polygon spans more than 180° of longitude (cut a cell across ±180 in two)",
        ),
    ],
)
def test_a_bad_polygon_is_named_with_its_row(tmp_path: Path, geometry: str, problem: str) -> None:
    sentence = refusal(tmp_path, f'cell_id,geometry\nfirst,"{SQUARE}"\n\nsecond,"{geometry}"\nlast,"{SQUARE}"\n')
    assert sentence.startswith(f"row 4: {problem}")
    assert sentence.endswith("; fix or remove these rows (the header is row 1).")


@pytest.mark.parametrize(
    ("bounds", "problem"),
    [
        (",0,1,1", "a bound is not a number"),
        ("0,0,1", "a bound is not a number"),
        ("zero,0,1,1", "a bound is not a number"),
        ("nan,0,1,1", "a bound is not a number"),
        ("0,0,inf,1", "a bound is not a number"),
        ("0,0,1e400,1", "a bound is not a number"),
        ("1,0,0,1", "bounds have no area (xmin < xmax and ymin < ymax; cut a cell across ±180 in two)"),
        ("179.75,0,-179.75,1", "bounds have no area"),
        ("0,0,0,1", "bounds have no area"),
        ("0,1,1,0", "bounds have no area"),
        ("0,0,1,91", "latitude 91.0 is outside −90 … 90"),
        ("-181,0,1,1", "longitude -181.0 is outside −180 … 180"),
        ("-180,0,180,1", "polygon spans more than 180° of longitude"),
    ],
)
def test_bad_bounds_are_named_with_their_row(tmp_path: Path, bounds: str, problem: str) -> None:
    content = f"id,xmin,ymin,xmax,ymax\nfirst,0,0,1,1\nsecond,{bounds}\n"
    assert refusal(tmp_path, content).startswith(f"row 3: {problem}")


def test_the_first_three_bad_rows_are_named_and_the_others_counted(tmp_path: Path) -> None:
    rows = "".join(f"cell{number},{'x' if number % 2 else SQUARE!r}\n" for number in range(12)).replace("'", '"')
    sentence = refusal(tmp_path, f"cell_id,geometry\n{rows}")
    assert sentence == (
        "row 3: geometry is not valid WKT; row 5: geometry is not valid WKT; row 7: geometry is not valid WKT "
        "(and 3 more bad rows); fix or remove these rows (the header is row 1)."
    )


def test_rows_are_counted_as_a_spreadsheet_does(tmp_path: Path) -> None:
    """A quoted value may hold line breaks, and blank rows count. Excel does not show its first line, sep=."""
    broken = SQUARE.replace(", ", ",\n")
    assert refusal(tmp_path, f'id,wkt\na,"{broken}"\n\nb,"{broken}"\nc,x\n').startswith("row 5: geometry")
    assert refusal(tmp_path, f'id,wkt\na,"{broken}"\nb,"{broken}"\nc,x,y\n').startswith("row 4 has 3 values")
    assert refusal(tmp_path, f'id,wkt\na,"{broken}"\nb,"{broken}"\nc,"x\n').startswith("row 4 has a double quote")
    assert refusal(tmp_path, "sep=;\r\nid;wkt\r\na;x\r\n").startswith("row 2: geometry")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty; give a CSV with a header and one row per gridcell."),
        ("\ufeff", "is empty; give a CSV with a header and one row per gridcell."),
        ("\n \n\r\n", "is empty; give a CSV with a header and one row per gridcell."),
        ("cell_id,geometry\n", "has no gridcells; give a CSV with one row per gridcell."),
        ("cell_id,geometry", "has no gridcells; give a CSV with one row per gridcell."),
        ("cell_id,geometry\n\n,\n", "has no gridcells; give a CSV with one row per gridcell."),
        (f'name,geometry\na,"{SQUARE}"\n', "has no id column; name one 'cell_id' or 'id'."),
        (
            "cell_id,name\na,b\n",
            "has neither polygons nor bounds; add a WKT column 'geometry', or the columns xmin, ymin, xmax and ymax.",
        ),
        (
            "cell_id,xmin,ymin,xmax\na,0,0,1\n",
            "has neither polygons nor bounds; add a WKT column 'geometry', or the columns xmin, ymin, xmax and ymax.",
        ),
        (f'id,ID,geometry\na,b,"{SQUARE}"\n', "has two columns 'id'; rename or remove one of them."),
        (f'id,wkt,WKT \na,"{SQUARE}",b\n', "has two columns 'wkt'; rename or remove one of them."),
        ("sep=;", "is empty; give a CSV with a header and one row per gridcell."),
        (
            "id;left;bottom;right;top\na;1.5,5;0;2;1\n",
            "row 2: a bound is not a number; fix or remove these rows (the header is row 1).",
        ),
        (
            f"cell_id,geometry\na,{SQUARE}\n",
            "row 2 has 6 values, the rows above it have 2; "
            "put values that contain the delimiter, such as the commas of WKT, in double quotes.",
        ),
        (
            "cell_id,xmin,ymin,xmax,ymax\na,0,0,1,1\nb,0,0,1,1,9\n",
            "row 3 has 6 values, the rows above it have 5; "
            "put values that contain the delimiter, such as the commas of WKT, in double quotes.",
        ),
        (
            f'cell_id,geometry\na,"{SQUARE}\nb,"{SQUARE}"\n',
            "row 2 has 6 values, the rows above it have 2; "
            "put values that contain the delimiter, such as the commas of WKT, in double quotes.",
        ),
        (f'cell_id,geometry\na,"{SQUARE}\n', "row 2 has a double quote that is never closed; close or remove it."),
    ],
)
def test_a_file_that_is_no_table_of_cells_is_refused_in_one_sentence(
    tmp_path: Path, content: str, sentence: str
) -> None:
    assert refusal(tmp_path, content) == sentence


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_may_be_in_any_encoding_of_unicode(tmp_path: Path, encoding: str) -> None:
    content = f'cell_id,geometry,note\na,"{SQUARE}",Grøn\n'.encode(encoding)
    assert ids(read(tmp_path, content)) == ["a"]


def test_a_file_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    content = f'cell_id,geometry,note\na,"{SQUARE}",Grøn\n'.encode("latin-1")
    assert refusal(tmp_path, content) == "is not text in UTF-8; save it as CSV in UTF-8."


def test_a_stray_byte_far_down_is_found(tmp_path: Path) -> None:
    rows = "".join(f"c{number},0,0,1,1\n" for number in range(30_000)).encode()
    content = b"id,xmin,ymin,xmax,ymax\n" + rows + b"\xff,0,0,1,1\n"
    assert refusal(tmp_path, content) == "is not text in UTF-8; save it as CSV in UTF-8."


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; give the path of a CSV of gridcells"):
        read_gridcells(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"is a folder, not a file; give the path of a CSV of gridcells"):
        read_gridcells(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cells.csv")
    with pytest.raises(InputError, match="is not a regular file; give the path of a CSV"):
        read_gridcells(tmp_path / "cells.csv")
