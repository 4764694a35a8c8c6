"""The CSV of gridcells: read as QGIS, Excel, PostGIS, geopandas and others write it, written in one format."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError
from s2sr_core.files import check_readable, table_in
from s2sr_core.geo.geometry import from_wkt

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
#: Names of columns without what is not a letter or digit, in the order in which they are preferred. PostGIS and GDAL
#: call ids gid, fid and ogc_fid; QGIS calls geometry WKT and wkt_geom, PostGIS geom, the_geom and wkb_geometry.
_ID_COLUMNS = ("cellid", "id", "gid", "fid", "ogcfid")
_GEOMETRY_COLUMNS = ("geometry", "wkt", "geom", "thegeom", "wktgeom", "geomwkt", "wkbgeometry", "wkb", "ewkt", "shape")
#: geopandas' bounds are minx …, QGIS' grids have left, bottom, right, top.
_BOUNDS_COLUMNS = (
    ("xmin", "minx", "left", "west", "lonmin", "minlon"),
    ("ymin", "miny", "bottom", "south", "latmin", "minlat"),
    ("xmax", "maxx", "right", "east", "lonmax", "maxlon"),
    ("ymax", "maxy", "top", "north", "latmax", "maxlat"),
)
_KNOWN = frozenset({*_ID_COLUMNS, *_GEOMETRY_COLUMNS, *(name for names in _BOUNDS_COLUMNS for name in names)})
_DELIMITERS = ",;\t|"
#: Excel's first line, which names the delimiter of the rest.
_SEP_LINE = re.compile(r'"?sep=(.)"?[ ,;\t]*(?:\r\n|\r|\n|$)', re.IGNORECASE)
_LONGEST_HEADER = 100_000
#: PostGIS' EWKT, and its hexadecimal (E)WKB, as COPY and \copy write it; ``\x`` begins bytes.
_EWKT = re.compile(r"SRID\s*=\s*(\d+)\s*;\s*(.*)", re.IGNORECASE | re.DOTALL)
_HEX = re.compile(r"(?:\\x|0x)?((?:00|01)[0-9A-F]{16,})", re.IGNORECASE)
_CURVES = re.compile("CURVE|CIRCULARSTRING|MULTISURFACE", re.IGNORECASE)
_DECIMAL_COMMA = r"^([-+]?\d*),(\d+(?:[eE][-+]?\d+)?)$"
#: SRIDs of degrees in the order longitude, latitude; -1 (of no geometry) and 0 say nothing.
_WGS84 = (-1, 0, 4326)


def is_safe_id(text: str) -> bool:
    """Whether ``text`` can name a cell and its folder."""
    return _SAFE_ID.fullmatch(text) is not None and text not in (".", "..")


def write_gridcells(cells: Sequence[Gridcell], path: Path) -> None:
    """Write ``cell_id, xmin, ymin, xmax, ymax, geometry`` (WKT, EPSG:4326)."""
    table = pd.DataFrame([cell.bounds for cell in cells], columns=["xmin", "ymin", "xmax", "ymax"])
    table.insert(0, "cell_id", [cell.cell_id for cell in cells])
    table["geometry"] = [cell.wkt for cell in cells]
    table.to_csv(path, index=False)


def read_gridcells(path: Path) -> list[Gridcell]:
    """Read the cells of a CSV, EPSG:4326, one row per cell: an id, and a geometry or bounds.

    The names of columns, delimiters, encodings and forms of geometries that are understood are in
    docs/command-line.md.

    Raises
    ------
    InputError
        If the file is not such a CSV, or rows are bad: the first ones are named by their row numbers, as a
        spreadsheet counts (the header is row 1).
    """
    table = _read_table(path)
    id_column = _find_column(path, table, _ID_COLUMNS)
    geometry_column = _find_column(path, table, _GEOMETRY_COLUMNS)
    bounds_columns = [found for names in _BOUNDS_COLUMNS if (found := _find_column(path, table, names)) is not None]
    if id_column is None:
        raise InputError("grid_csv", path, "has no id column", "name one 'cell_id' or 'id'")
    if geometry_column is None and len(bounds_columns) < len(_BOUNDS_COLUMNS):
        raise InputError(
            "grid_csv",
            path,
            "has neither polygons nor bounds",
            "add a WKT column 'geometry', or the columns xmin, ymin, xmax and ymax",
        )
    if table.empty:
        raise InputError("grid_csv", path, "has no gridcells", "give a CSV with one row per gridcell")

    if geometry_column is not None:
        polygons, problems = _polygons_from_geometries(table[geometry_column])
    else:
        polygons, problems = _polygons_from_bounds(table[bounds_columns])
    ids = table[id_column]
    problems = _check_ids(ids) | problems
    if problems:
        listed = [f"row {row}: {problem}" for row, problem in sorted(problems.items())]
        more = f" (and {len(listed) - 3} more bad rows)" if len(listed) > 3 else ""
        raise InputError(
            "grid_csv", path, "; ".join(listed[:3]) + more, "fix or remove these rows (the header is row 1)"
        )
    return [Gridcell(cell_id, polygon) for cell_id, polygon in zip(ids, polygons, strict=True)]


# ------------------------------------------------------------------------------------------------------------ the table


def _read_table(path: Path) -> pd.DataFrame:
    """The values of the CSV as text, stripped, by column and row number, without blank rows.

    Columns have the names of the header in small letters, without what is not a letter or digit.
    """
    check_readable("grid_csv", path, "give the path of a CSV of gridcells")
    try:
        text = _decoded(table_in(path).getvalue())
        delimiter, text = _delimiter(text)
        # The header is read as a row, so that every row longer than it is an error and none is cut.
        table = pd.read_csv(
            io.StringIO(text),
            header=None,
            sep=delimiter,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            skipinitialspace=True,
        )
    except OSError as error:
        raise InputError("grid_csv", path, f"cannot be read ({error.strerror})", "give a readable CSV file") from error
    except pd.errors.EmptyDataError as error:
        raise _empty(path) from error
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise _not_a_table(path, error) from error
    table.index += 1  # as a spreadsheet numbers the rows
    table = table.fillna("").apply(lambda column: column.str.strip())
    table = table[(table != "").any(axis=1)]
    if table.empty:
        raise _empty(path)
    table.columns = pd.Index([_plain(name) for name in table.iloc[0]])
    rows: pd.DataFrame = table.iloc[1:]
    return rows


def _decoded(content: bytes) -> str:
    """Text in UTF-8, or in UTF-16 as Excel and PowerShell write it: with a byte order mark, or known by its zeros."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    for zeros, encoding in ((content[1:64:2], "utf-16-le"), (content[0:64:2], "utf-16-be")):
        if zeros and not any(zeros):
            return content.decode(encoding)
    return content.decode("utf-8-sig")


def _delimiter(text: str) -> tuple[str, str]:
    """The delimiter, and the text without Excel's line that names it; else that which gives the most known columns."""
    if named := _SEP_LINE.match(text):
        return named[1], text[named.end() :]
    header = re.split(r"[\r\n]", text[:_LONGEST_HEADER].lstrip(), maxsplit=1)[0]

    def known(delimiter: str) -> int:
        return len(_KNOWN & {_plain(name) for name in next(csv.reader([header], delimiter=delimiter), [])})

    return max(_DELIMITERS, key=known), text


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _empty(path: Path) -> InputError:
    return InputError("grid_csv", path, "is empty", "give a CSV with a header and one row per gridcell")


def _not_a_table(path: Path, error: Exception) -> InputError:
    if isinstance(error, UnicodeDecodeError):
        return InputError("grid_csv", path, "is not text in UTF-8", "save it as CSV in UTF-8")
    if match := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error)):
        return InputError(
            "grid_csv",
            path,
            f"row {match[2]} has {match[3]} values, the rows above it have {match[1]}",
            "put values that contain the delimiter, such as the commas of WKT, in double quotes",
        )
    if match := re.search(r"EOF inside string starting at row (\d+)", str(error)):
        return InputError(
            "grid_csv", path, f"row {int(match[1]) + 1} has a double quote that is never closed", "close or remove it"
        )
    reason = " ".join(str(error).split())
    return InputError("grid_csv", path, f"is not comma-separated text ({reason})", "save it as CSV in UTF-8")


def _find_column(path: Path, table: pd.DataFrame, names: Sequence[str]) -> str | None:
    """The first of these names that a column has.

    Raises
    ------
    InputError
        If two columns have it.
    """
    found = next((name for name in names if name in table.columns), None)
    if found is not None and (table.columns == found).sum() > 1:
        raise InputError("grid_csv", path, f"has two columns {found!r}", "rename or remove one of them")
    return found


# ----------------------------------------------------------------------------------------------------------- the values


def _check_ids(ids: pd.Series[str]) -> dict[int, str]:
    """What is wrong with ids, by row."""
    problems: dict[int, str] = {}
    first_rows: dict[str, int] = {}
    for row, cell_id in zip(ids.index, ids, strict=True):
        if not cell_id:
            problems[row] = "has no id"
        elif not is_safe_id(cell_id):
            problems[row] = f"id {cell_id[:40]!r} cannot name a folder (letters, digits, '.', '_' and '-' only)"
        elif cell_id in first_rows:
            problems[row] = f"id {cell_id!r} already appears in row {first_rows[cell_id]}"
        else:
            first_rows[cell_id] = row
    return problems


def _polygons_from_geometries(column: pd.Series[str]) -> tuple[list[Polygon | MultiPolygon], dict[int, str]]:
    """From WKT, EWKT, and hexadecimal WKB and EWKB."""
    texts = np.array(column, object)
    srids, from_wkb = np.zeros(len(texts), int), {}
    for number in np.flatnonzero(column.str[:1].isin(list("Ss0\\"))):  # what is not WKT begins with these
        if ewkt := _EWKT.fullmatch(texts[number]):
            srids[number], texts[number] = int(ewkt[1][:9]), ewkt[2]
        elif hexadecimal := _HEX.fullmatch(texts[number]):
            from_wkb[number] = geometry = _from_wkb(hexadecimal[1])
            srids[number] = shapely.get_srid(geometry)
    geometries = np.array(from_wkt(texts.tolist()), object)
    for number, geometry in from_wkb.items():
        geometries[number] = geometry
    problems = {
        row: problem
        for row, text, geometry, srid in zip(column.index, column, geometries, srids, strict=True)
        if (problem := _text_problem(text, geometry) or _srid_problem(srid) or _geometry_problem(geometry)) is not None
    }
    return list(shapely.set_srid(shapely.force_2d(geometries), 0)), problems


def _from_wkb(hexadecimal: str) -> BaseGeometry | None:
    """None if it has curves or is a collection: GEOS would read collections nested to any depth."""
    if "0107000000" in hexadecimal.upper() or "0000000007" in hexadecimal:
        return None
    try:
        geometry: BaseGeometry | None = shapely.from_wkb(hexadecimal, on_invalid="ignore")
    except NotImplementedError:  # curves
        return None
    return geometry


def _text_problem(text: str, geometry: BaseGeometry | None) -> str | None:
    if not text:
        return "has no geometry"
    return (
        "geometry has curves (in PostGIS: ST_CurveToLine(geom))" if geometry is None and _CURVES.search(text) else None
    )


def _srid_problem(srid: int) -> str | None:
    if srid in _WGS84:
        return None
    return f"geometry has SRID {srid}, not 4326 (in PostGIS: ST_Transform(geom, 4326))"


def _polygons_from_bounds(table: pd.DataFrame) -> tuple[list[Polygon | MultiPolygon], dict[int, str]]:
    """``table`` has the columns xmin, ymin, xmax and ymax in this order, whatever they are called."""
    polygons: list[Polygon | MultiPolygon] = []
    problems: dict[int, str] = {}
    with_points = table.apply(lambda column: column.str.replace(_DECIMAL_COMMA, r"\1.\2", regex=True))
    values = with_points.apply(pd.to_numeric, errors="coerce").to_numpy(float)
    for row, (xmin, ymin, xmax, ymax) in zip(table.index, values, strict=True):
        polygon = Polygon()
        if not np.isfinite([xmin, ymin, xmax, ymax]).all():
            problems[row] = "a bound is not a number"
        elif xmin >= xmax or ymin >= ymax:
            problems[row] = "bounds have no area (xmin < xmax and ymin < ymax; cut a cell across ±180 in two)"
        else:
            polygon = shapely.box(xmin, ymin, xmax, ymax)
            if (problem := _geometry_problem(polygon)) is not None:
                problems[row] = problem
        polygons.append(polygon)
    return polygons, problems


@np.errstate(all="ignore")  # coordinates of any size
def _geometry_problem(geometry: BaseGeometry | None) -> str | None:
    if geometry is None:
        return "geometry is not valid WKT"
    if not isinstance(geometry, Polygon | MultiPolygon):
        return f"geometry is a {geometry.geom_type}, not a polygon"
    if geometry.is_empty:
        return "polygon is empty"
    if not geometry.is_valid:
        return f"polygon is invalid ({shapely.is_valid_reason(geometry)})"
    if geometry.area == 0:
        return "polygon has no area"
    xmin, ymin, xmax, ymax = geometry.bounds
    if min(xmin, ymin) < -360 or max(xmax, ymax) > 360:
        return f"coordinates reach {xmin:g} {ymin:g} {xmax:g} {ymax:g}, which are not degrees (transform to EPSG:4326)"
    if ymin < -90 or ymax > 90:
        return f"latitude {ymin if ymin < -90 else ymax} is outside −90 … 90 (is the order longitude latitude?)"
    if xmin < -180 or xmax > 180:
        return f"longitude {xmin if xmin < -180 else xmax} is outside −180 … 180"
    if xmax - xmin > 180:
        return "polygon spans more than 180° of longitude (cut a cell across ±180 in two)"
    return None
