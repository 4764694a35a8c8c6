"""Gridcells: made on a regular grid, read from anybody's CSV, selected by a box."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import shapely
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from s2sr_core.errors import InputError
from s2sr_core.files import check_readable
from s2sr_core.geo import geometry
from s2sr_core.geo.lattice import Bounds

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_ID_COLUMNS = ("cell_id", "id")
_WKT_COLUMNS = ("geometry", "wkt")
_BOUNDS_COLUMNS = ("xmin", "ymin", "xmax", "ymax")
_DECIMALS = 30
_DELIMITERS = ((";", "semicolons"), ("\t", "tabs"), ("|", "bars"))
#: Cells of a grid, at most: some 5 GB of memory. The whole globe has 6.5 million of 0.1°.
_MOST_CELLS = 10_000_000


@dataclass(frozen=True, slots=True)
class Gridcell:
    """One cell: an id that is safe as a folder's name, and its polygon (EPSG:4326, x y, on one side of ±180)."""

    cell_id: str
    polygon: Polygon | MultiPolygon

    @property
    def bounds(self) -> Bounds:
        xmin, ymin, xmax, ymax = self.polygon.bounds
        return xmin, ymin, xmax, ymax

    @property
    def wkt(self) -> str:
        """The polygon, exactly: read back, it is the same to the last bit."""
        return str(shapely.to_wkt(self.polygon, rounding_precision=_DECIMALS))


# ------------------------------------------------------------------------------------------------------------ make


def make_gridcells(bbox: Bounds, cell_size: float, within: Polygon | MultiPolygon | None = None) -> list[Gridcell]:
    """The cells of the global grid of ``cell_size`` degrees, anchored at −180/−90, that share area with ``bbox``.

    A cell's id (``r0634c0121``: row from the south, column from the west) depends on ``cell_size`` alone, so it is the
    same whatever box was asked. ``within`` keeps the cells that share area with its polygons.

    Raises
    ------
    InputError
        Where ``cell_size`` does not divide 180°, or makes more cells than fit into memory.
    """
    count = round(180.0 / cell_size)
    if count < 1 or abs(180.0 / cell_size - count) > 1e-6:
        raise InputError(
            "cell_size", cell_size, "does not divide 180° into whole cells", "take one like 0.1, 0.25 or 0.5"
        )
    # Numbered once from whole fractions, so that neighbours share their edges to the bit; 10 decimals are 0.01 mm.
    xs = [round(180.0 * index / count - 180.0, 10) for index in range(2 * count + 1)]
    ys = [round(180.0 * index / count - 90.0, 10) for index in range(count + 1)]
    boxes = [part.bounds for part in shapely.get_parts(geometry.box(bbox))]
    blocks = [(_intervals(ymin, ymax, ys), _intervals(xmin, xmax, xs)) for xmin, ymin, xmax, ymax in boxes]
    total = sum(len(rows) * len(columns) for rows, columns in blocks)
    if total > _MOST_CELLS:
        raise InputError(
            "cell_size",
            cell_size,
            f"makes {total} cells of this bbox, more than {_MOST_CELLS}",
            "take larger cells, or cover the area in several files",
        )
    cells = {
        f"r{row:04d}c{column:04d}": shapely.box(xs[column], ys[row], xs[column + 1], ys[row + 1])
        for rows, columns in blocks
        for row in rows
        for column in columns
    }
    made = [Gridcell(cell_id, polygon) for cell_id, polygon in cells.items()]
    return made if within is None else select_gridcells(made, within)


def _intervals(low: float, high: float, edges: Sequence[float]) -> range:
    """The intervals of ``edges`` that share more than a point with low … high."""
    return range(bisect_right(edges, low, hi=len(edges) - 1) - 1, bisect_left(edges, high))


def write_gridcells(cells: Sequence[Gridcell], path: Path) -> None:
    """Write ``cell_id, xmin, ymin, xmax, ymax, geometry`` (WKT, EPSG:4326)."""
    table = pd.DataFrame([cell.bounds for cell in cells], columns=list(_BOUNDS_COLUMNS))
    table.insert(0, "cell_id", [cell.cell_id for cell in cells])
    table["geometry"] = [cell.wkt for cell in cells]
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
        raise InputError("grid_csv", path, "has no id column", "name one 'cell_id' or 'id'")
    if wkt_column is None and not set(_BOUNDS_COLUMNS) <= set(table.columns):
        raise InputError(
            "grid_csv",
            path,
            "has neither polygons nor bounds",
            "add a WKT column 'geometry', or the columns xmin, ymin, xmax and ymax",
        )
    if table.empty:
        raise InputError("grid_csv", path, "holds no cell", "give a CSV with a row for each gridcell")

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
            "grid_csv", path, "; ".join(listed[:3]) + more, "mend or remove these rows (the header is row 1)"
        )
    return [Gridcell(cell_id, polygon) for cell_id, polygon in zip(ids, polygons, strict=True)]


def select_gridcells(cells: Sequence[Gridcell], area: Polygon | MultiPolygon) -> list[Gridcell]:
    """The cells that share area with ``area``; touching it is not enough."""
    shapely.prepare(area)  # as the first argument of each question: shapely looks at no other
    polygons = np.array([cell.polygon for cell in cells], object)
    met = np.flatnonzero(shapely.intersects(area, polygons))
    on_edge = met[~shapely.covers(area, polygons[met])]
    touching = on_edge[shapely.touches(area, polygons[on_edge])]
    return [cells[index] for index in np.setdiff1d(met, touching).tolist()]


def _read_table(path: Path) -> pd.DataFrame:
    """The cells of the CSV as text, stripped, by column (small letters) and row number; blank rows are left out."""
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
    return InputError("grid_csv", path, "is empty", "give a CSV with a header and a row for each gridcell")


def _not_a_table(path: Path, error: Exception) -> InputError:
    if isinstance(error, UnicodeDecodeError):
        return InputError("grid_csv", path, "is not text in UTF-8", "save it as CSV in UTF-8")
    if match := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error)):
        return InputError(
            "grid_csv",
            path,
            f"row {match[2]} holds {match[3]} values, the rows above it hold {match[1]}",
            "put values that hold a comma, as WKT does, into double quotes",
        )
    if match := re.search(r"EOF inside string starting at row (\d+)", str(error)):
        return InputError(
            "grid_csv", path, f"row {int(match[1]) + 1} opens a double quote and never closes it", "close or remove it"
        )
    reason = " ".join(str(error).split())
    return InputError("grid_csv", path, f"is no comma-separated text ({reason})", "save it as CSV in UTF-8")


def _find_column(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in table.columns), None)


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
    with np.errstate(invalid="ignore"):  # NaN among the coordinates: found below
        geometries = shapely.force_2d(shapely.from_wkt(column.to_numpy(object), on_invalid="ignore"))
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
    if geometry.is_empty:
        return "polygon is empty"
    if not geometry.is_valid:
        return f"polygon is invalid ({shapely.is_valid_reason(geometry)})"
    if geometry.area == 0:
        return "polygon holds no area"
    xmin, ymin, xmax, ymax = geometry.bounds
    if ymin < -90 or ymax > 90:
        return f"latitude {ymin if ymin < -90 else ymax} is outside −90 … 90 (is the order longitude latitude?)"
    if xmin < -180 or xmax > 180:
        return f"longitude {xmin if xmin < -180 else xmax} is outside −180 … 180"
    if xmax - xmin > 180:
        return "polygon spans more than 180° of longitude (cut a cell across ±180 in two)"
    return None
