"""Gridcells: made on a regular grid of degrees, selected by an area."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from s2sr_core.errors import InputError
from s2sr_core.geo import geometry
from s2sr_core.geo.lattice import Bounds, Lattice, Window
from s2sr_core.geo.projection import extent_in, window_of

_DECIMALS = 30
#: The most cells of a regular grid: some 5 GB of memory. The whole globe has 6.5 million of 0.1°.
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

    def bounds_in(self, crs: str) -> Bounds:
        """The bounds of its outline in the units of ``crs``, followed in steps if that is another than EPSG:4326.

        Raises
        ------
        ValueError
            If it cannot be projected.
        """
        return extent_in(crs, self.polygon).bounds

    def window_on(self, lattice: Lattice) -> Window:
        """A window that holds all of its pixels; in EPSG:4326 the smallest one for a box."""
        return window_of(lattice, self.polygon)

    @property
    def wkt(self) -> str:
        """The polygon, exactly: read back, it is the same to the last bit."""
        return str(shapely.to_wkt(self.polygon, rounding_precision=_DECIMALS))


def make_gridcells(bbox: Bounds, cell_size: float, within: Polygon | MultiPolygon | None = None) -> list[Gridcell]:
    """The cells of the global grid of ``cell_size`` degrees, anchored at −180/−90, that share area with ``bbox``.

    A cell's id (``r0634c0121``: row from the south, column from the west) depends on ``cell_size`` alone, so it does
    not change with the box. ``within`` keeps the cells that share area with its polygons.

    Raises
    ------
    InputError
        If ``cell_size`` does not divide 180°, or makes more cells than fit into memory.
    """
    count = round(180.0 / cell_size)
    if count < 1 or abs(180.0 / cell_size - count) > 1e-6:
        raise InputError(
            "cell_size", cell_size, "does not divide 180° into whole cells", "use one like 0.1, 0.25 or 0.5"
        )
    # Computed once from whole fractions, so that neighbours share their edges to the bit; 10 decimals are 0.01 mm.
    xs = [round(180.0 * index / count - 180.0, 10) for index in range(2 * count + 1)]
    ys = [round(180.0 * index / count - 90.0, 10) for index in range(count + 1)]
    boxes = [part.bounds for part in shapely.get_parts(geometry.box(bbox))]
    blocks = [(_intervals(ymin, ymax, ys), _intervals(xmin, xmax, xs)) for xmin, ymin, xmax, ymax in boxes]
    total = sum(len(rows) * len(columns) for rows, columns in blocks)
    if total > _MOST_CELLS:
        raise InputError(
            "cell_size",
            cell_size,
            f"gives {total} cells in this bbox, more than {_MOST_CELLS}",
            "use larger cells, or several files for parts of the area",
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


def select_gridcells(cells: Sequence[Gridcell], area: Polygon | MultiPolygon) -> list[Gridcell]:
    """The cells that share area with ``area``; touching it is not enough."""
    shapely.prepare(area)  # as the first argument of each question: shapely looks at no other
    polygons = np.array([cell.polygon for cell in cells], object)
    met = np.flatnonzero(shapely.intersects(area, polygons))
    on_edge = met[~shapely.covers(area, polygons[met])]
    touching = on_edge[shapely.touches(area, polygons[on_edge])]
    return [cells[index] for index in np.setdiff1d(met, touching).tolist()]
