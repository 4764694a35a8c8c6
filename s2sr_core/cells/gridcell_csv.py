"""The CSV of gridcells: read from anybody's, written in one format."""

from __future__ import annotations

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
from s2sr_core.files import check_readable
from s2sr_core.geo.geometry import from_wkt

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_ID_COLUMNS = ("cell_id", "id")
_WKT_COLUMNS = ("geometry", "wkt")
_BOUNDS_COLUMNS = ("xmin", "ymin", "xmax", "ymax")
_DELIMITERS = ((";", "semicolons"), ("\t", "tabs"), ("|", "bars"))


def is_safe_id(text: str) -> bool:
    """Whether ``text`` can name a cell and its folder."""
    return _SAFE_ID.fullmatch(text) is not None and text not in (".", "..")


def write_gridcells(cells: Sequence[Gridcell], path: Path) -> None:
    """Write ``cell_id, xmin, ymin, xmax, ymax, geometry`` (WKT, EPSG:4326)."""
    table = pd.DataFrame([cell.bounds for cell in cells], columns=list(_BOUNDS_COLUMNS))
    table.insert(0, "cell_id", [cell.cell_id for cell in cells])
    table["geometry"] = [cell.wkt for cell in cells]
    table.to_csv(path, index=False)


def read_gridcells(path: Path) -> list[Gridcell]:
    """Read the cells of a CSV: an id (``cell_id`` or ``id``) and a WKT column (``geometry`` or ``wkt``) or bounds
    (``xmin, ymin, xmax, ymax``), EPSG:4326, one row per cell.

    Raises
    ------
    InputError
        If the file is not such a CSV, or rows are bad: the first ones are named by their row numbers, as a
        spreadsheet counts (the header is row 1).
    """
    table = _read_table(path)
    id_column = _find_column(table, _ID_COLUMNS)
    wkt_column = _find_column(table, _WKT_COLUMNS)
    if id_column is None:
        raise InputError("grid_csv", path, "has no id column", "name one 'cell_id' or 'id'")
    if wkt_column is None and not set(_BOUNDS_COLUMNS) <= set(table.columns):
        raise InputError(
            "grid_csv",
            path,
            "has neither polygons nor bounds",
            "add a WKT column 'geometry', or the columns xmin, ymin, xmax and ymax",
        )
    if table.empty:
        raise InputError("grid_csv", path, "has no gridcells", "give a CSV with one row per gridcell")

    if wkt_column is not None:
        polygons, problems = _polygons_from_wkt(table[wkt_column])
    else:
        polygons, problems = _polygons_from_bounds(table)
    ids = table[id_column]
    problems = _check_ids(ids) | problems
    if problems:
        listed = [f"row {row}: {problem}" for row, problem in sorted(problems.items())]
        more = f" (and {len(listed) - 3} more bad rows)" if len(listed) > 3 else ""
        raise InputError(
            "grid_csv", path, "; ".join(listed[:3]) + more, "fix or remove these rows (the header is row 1)"
        )
    return [Gridcell(cell_id, polygon) for cell_id, polygon in zip(ids, polygons, strict=True)]


def _read_table(path: Path) -> pd.DataFrame:
    """The values of the CSV as text, stripped, by column (in small letters) and row number, without blank rows."""
    check_readable("grid_csv", path, "give the path of a CSV of gridcells")
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        delimiter = None if "," in header else next((name for mark, name in _DELIMITERS if mark in header), None)
        if delimiter is not None:
            raise InputError("grid_csv", path, f"is separated by {delimiter}", "save it with commas")
        # The header is read as a row, so that every row longer than it is an error and none is cut.
        table = pd.read_csv(
            path,
            header=None,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
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
    table.columns = pd.Index(table.iloc[0].str.lower())
    repeated = set(table.columns[table.columns.duplicated()]) & {*_ID_COLUMNS, *_WKT_COLUMNS, *_BOUNDS_COLUMNS}
    if repeated:
        raise InputError("grid_csv", path, f"has two columns {min(repeated)!r}", "rename or remove one of them")
    rows: pd.DataFrame = table.iloc[1:]
    return rows


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
            "put values that contain a comma, such as WKT, in double quotes",
        )
    if match := re.search(r"EOF inside string starting at row (\d+)", str(error)):
        return InputError(
            "grid_csv", path, f"row {int(match[1]) + 1} has a double quote that is never closed", "close or remove it"
        )
    reason = " ".join(str(error).split())
    return InputError("grid_csv", path, f"is not comma-separated text ({reason})", "save it as CSV in UTF-8")


def _find_column(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in table.columns), None)


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


def _polygons_from_wkt(column: pd.Series[str]) -> tuple[list[Polygon | MultiPolygon], dict[int, str]]:
    geometries = shapely.force_2d(from_wkt(column.tolist()))
    problems = {
        row: problem if text else "has no geometry"
        for row, text, geometry in zip(column.index, column, geometries, strict=True)
        if (problem := _geometry_problem(geometry)) is not None
    }
    return list(geometries), problems


def _polygons_from_bounds(table: pd.DataFrame) -> tuple[list[Polygon | MultiPolygon], dict[int, str]]:
    polygons: list[Polygon | MultiPolygon] = []
    problems: dict[int, str] = {}
    values = table[list(_BOUNDS_COLUMNS)].apply(pd.to_numeric, errors="coerce").to_numpy(float)
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
    if ymin < -90 or ymax > 90:
        return f"latitude {ymin if ymin < -90 else ymax} is outside −90 … 90 (is the order longitude latitude?)"
    if xmin < -180 or xmax > 180:
        return f"longitude {xmin if xmin < -180 else xmax} is outside −180 … 180"
    if xmax - xmin > 180:
        return "polygon spans more than 180° of longitude (cut a cell across ±180 in two)"
    return None
