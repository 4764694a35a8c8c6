"""Gridcells: made on a regular grid, read from anybody's CSV, selected by a box."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from s2sr_core import footprint
from s2sr_core.errors import InputError
from s2sr_core.lattice import Bounds

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_ID_COLUMNS = ("cell_id", "id")
_WKT_COLUMNS = ("geometry", "wkt")
_BOUNDS_COLUMNS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class Gridcell:
    """One cell: an id that is safe as a folder's name, and its polygon (EPSG:4326, x y, on one side of ±180)."""

    cell_id: str
    polygon: Polygon | MultiPolygon

    @property
    def bounds(self) -> Bounds:
        xmin, ymin, xmax, ymax = self.polygon.bounds
        return xmin, ymin, xmax, ymax


# ------------------------------------------------------------------------------------------------------------ make


def make_gridcells(bbox: Bounds, cell_size: float, within: Polygon | MultiPolygon | None = None) -> list[Gridcell]:
    """The cells of the global grid of ``cell_size`` degrees, anchored at −180/−90, that share area with ``bbox``.

    A cell's id (``r0634c0121``: row from the south, column from the west) depends on ``cell_size`` alone, so it is the
    same whatever box was asked. ``within`` keeps the cells that share area with its polygons.

    Raises
    ------
    InputError
        Where ``cell_size`` does not divide 180°.
    """
    count = round(180.0 / cell_size)
    if count < 1 or abs(180.0 / cell_size - count) > 1e-6:
        raise InputError(
            "cell_size", cell_size, "does not divide 180° into whole cells", "take one like 0.1, 0.25 or 0.5"
        )
    # Numbered once from whole fractions, so that neighbours share their edges to the bit; 10 decimals are 0.01 mm.
    edges = [round(180.0 * index / count, 10) for index in range(2 * count + 1)]
    area = footprint.box(bbox)
    cells = []
    for xmin, ymin, xmax, ymax in (part.bounds for part in shapely.get_parts(area)):
        for row in _indices(ymin + 90.0, ymax + 90.0, edges[: count + 1]):
            for column in _indices(xmin + 180.0, xmax + 180.0, edges):
                west, east = edges[column] - 180.0, edges[column + 1] - 180.0
                south, north = edges[row] - 90.0, edges[row + 1] - 90.0
                west, south, east, north = (round(value, 10) for value in (west, south, east, north))
                cells.append(Gridcell(f"r{row:04d}c{column:04d}", shapely.box(west, south, east, north)))
    cells = list({cell.cell_id: cell for cell in cells}.values())
    return cells if within is None else select_gridcells(cells, within)


def _indices(low: float, high: float, edges: Sequence[float]) -> Iterator[int]:
    """The intervals of ``edges`` that share more than a point with low … high."""
    first = int(np.searchsorted(edges, low, side="right")) - 1
    last = int(np.searchsorted(edges, high, side="left"))
    yield from range(max(first, 0), min(last, len(edges) - 1))


def write_gridcells(cells: Sequence[Gridcell], path: Path) -> None:
    """Write ``cell_id, xmin, ymin, xmax, ymax, geometry`` (WKT, EPSG:4326)."""
    table = pd.DataFrame([cell.bounds for cell in cells], columns=list(_BOUNDS_COLUMNS))
    table.insert(0, "cell_id", [cell.cell_id for cell in cells])
    table["geometry"] = shapely.to_wkt([cell.polygon for cell in cells], rounding_precision=-1)
    table.to_csv(path, index=False)


# ------------------------------------------------------------------------------------------------------------ read


def read_gridcells(path: Path) -> list[Gridcell]:
    """Read the cells of a CSV: an id (``cell_id`` or ``id``) and a WKT column (``geometry`` or ``wkt``) or bounds
    (``xmin, ymin, xmax, ymax``), EPSG:4326, one row a cell.

    Raises
    ------
    InputError
        Where the file is no such CSV, or rows are bad: the first ones are named with their row number, as a
        spreadsheet counts (the header is row 1).
    """
    table = _read_table(path)
    id_column = _find_column(table, _ID_COLUMNS)
    wkt_column = _find_column(table, _WKT_COLUMNS)
    if id_column is None:
        raise _bad_table(path, table, "has no id column", "name one 'cell_id' or 'id'")
    if wkt_column is None and not set(_BOUNDS_COLUMNS) <= set(table.columns):
        raise _bad_table(
            path, table, "has neither polygons nor bounds", "add a WKT column 'geometry', or xmin, ymin, xmax and ymax"
        )
    if table.empty:
        raise InputError("grid_csv", path, "holds no cell", "give a CSV with a row for each gridcell")

    if wkt_column is not None:
        polygons, problems = _polygons_from_wkt(table[wkt_column])
    else:
        polygons, problems = _polygons_from_bounds(table)
    ids = table[id_column].str.strip()
    problems = _check_ids(ids) | problems
    if problems:
        listed = [f"row {row}: {problem}" for row, problem in sorted(problems.items())]
        more = f" (and {len(listed) - 3} more bad rows)" if len(listed) > 3 else ""
        raise InputError(
            "grid_csv", path, "; ".join(listed[:3]) + more, "mend or remove these rows (the header is row 1)"
        )
    return [Gridcell(cell_id, polygon) for cell_id, polygon in zip(ids, polygons, strict=True)]


def select_gridcells(cells: Sequence[Gridcell], area: Polygon | MultiPolygon) -> list[Gridcell]:
    """The cells that share area with ``area``; touching it is not enough."""
    shapely.prepare(area)
    polygons = np.array([cell.polygon for cell in cells], object)
    met = np.flatnonzero(shapely.intersects(polygons, area))
    shared = shapely.area(shapely.intersection(polygons[met], area))
    return [cells[index] for index in met[shared > 0]]


def _read_table(path: Path) -> pd.DataFrame:
    try:
        with warnings.catch_warnings():
            # Rows longer than the header: pandas would cut them and go on.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(
                path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False, index_col=False
            )
    except FileNotFoundError as error:
        raise InputError("grid_csv", path, "does not exist", "give the path of a CSV of gridcells") from error
    except (IsADirectoryError, PermissionError) as error:
        raise InputError("grid_csv", path, f"cannot be read ({error.strerror})", "give a readable CSV file") from error
    except pd.errors.EmptyDataError as error:
        raise InputError(
            "grid_csv", path, "is empty", "give a CSV with a header and a row for each gridcell"
        ) from error
    except (pd.errors.ParserError, pd.errors.ParserWarning, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            "grid_csv", path, f"is no comma-separated text ({reason})", "save it as CSV in UTF-8"
        ) from error
    table.columns = table.columns.str.strip().str.lower()
    table.index += 2  # as a spreadsheet numbers the rows: the header is row 1
    return table[(table != "").any(axis=1)]


def _find_column(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in table.columns), None)


def _bad_table(path: Path, table: pd.DataFrame, problem: str, remedy: str) -> InputError:
    header = " ".join(table.columns)
    for character, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if character in header:
            return InputError("grid_csv", path, f"is separated by {name}", "save it with commas")
    return InputError("grid_csv", path, problem, remedy)


def _check_ids(ids: pd.Series[str]) -> dict[int, str]:
    """What is wrong with ids, by row."""
    problems: dict[int, str] = {}
    first_rows: dict[str, int] = {}
    for row, cell_id in zip(ids.index, ids, strict=True):
        if not cell_id:
            problems[row] = "has no id"
        elif not _SAFE_ID.fullmatch(cell_id) or cell_id in (".", ".."):
            problems[row] = f"id {cell_id[:40]!r} cannot name a folder (letters, digits, '.', '_' and '-' only)"
        elif cell_id in first_rows:
            problems[row] = f"id {cell_id!r} stands already in row {first_rows[cell_id]}"
        else:
            first_rows[cell_id] = row
    return problems


def _polygons_from_wkt(column: pd.Series[str]) -> tuple[list[Polygon | MultiPolygon], dict[int, str]]:
    geometries = shapely.force_2d(shapely.from_wkt(column.to_numpy(object), on_invalid="ignore"))
    problems = {
        row: problem
        for row, geometry in zip(column.index, geometries, strict=True)
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
            problems[row] = "a bound is no number"
        elif xmin >= xmax or ymin >= ymax:
            problems[row] = "bounds hold no area (xmin < xmax and ymin < ymax; cut a cell across ±180 in two)"
        else:
            polygon = shapely.box(xmin, ymin, xmax, ymax)
            if (problem := _geometry_problem(polygon)) is not None:
                problems[row] = problem
        polygons.append(polygon)
    return polygons, problems


def _geometry_problem(geometry: BaseGeometry | None) -> str | None:
    if geometry is None:
        return "geometry is no valid WKT"
    if not isinstance(geometry, Polygon | MultiPolygon):
        return f"geometry is a {geometry.geom_type}, not a polygon"
    if geometry.is_empty or geometry.area == 0:
        return "polygon is empty"
    if not geometry.is_valid:
        return f"polygon is invalid ({shapely.is_valid_reason(geometry)})"
    xmin, ymin, xmax, ymax = geometry.bounds
    if ymin < -90 or ymax > 90:
        return f"latitude {ymin if ymin < -90 else ymax} is outside −90 … 90 (is the order longitude latitude?)"
    if xmin < -180 or xmax > 180:
        return f"longitude {xmin if xmin < -180 else xmax} is outside −180 … 180"
    if xmax - xmin > 180:
        return "polygon spans more than 180° of longitude (cut a cell across ±180 in two)"
    return None
