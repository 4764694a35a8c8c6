"""JPEG 2000 tiles and cells: which tiles a cell touches, and which hold a valid pixel inside the selected cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.geo import geometry
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_sandbox.grid import Grid

#: Side of the tiles of 20 m products, pixels.
TILE = 640
#: Pixels around a cell that a kernel, or GDAL's choice of a source window, may read.
_MARGIN = 16


def touched(grid: Grid, cells: Sequence[Gridcell]) -> NDArray[np.bool_]:
    """The tiles that the rectangles of pixels around the cells touch: rows and columns of tiles."""
    rows, columns = grid.shape
    result = np.zeros((-(-rows // TILE), -(-columns // TILE)), bool)
    inverse = gdal.InvGeoTransform(grid.geotransform)
    project = geometry.from_wgs84(grid.crs)
    for cell in cells:
        outline = shapely.get_coordinates(shapely.segmentize(cell.polygon, 0.01))
        points = np.array(project.TransformPoints(outline))[:, :2]
        column = inverse[0] + points @ np.array(inverse[1:3])
        row = inverse[3] + points @ np.array(inverse[4:6])
        left, right = (np.array([column.min() - _MARGIN, column.max() + _MARGIN]) // TILE).astype(int)
        top, bottom = (np.array([row.min() - _MARGIN, row.max() + _MARGIN]) // TILE).astype(int)
        result[max(top, 0) : bottom + 1, max(left, 0) : right + 1] = True
    return result


def inside_cells(grid: Grid, cells: Sequence[Gridcell]) -> NDArray[np.bool_]:
    """Which pixels of ``grid`` have their centre in one of the cells, which are boxes: shape ``grid.shape``."""
    inside = np.zeros(grid.shape, bool)
    for rows in grid.blocks(1 << 20):
        lon, lat = grid.centres(rows)
        for xmin, ymin, xmax, ymax in (cell.bounds for cell in cells):
            inside[rows] |= (lon >= xmin) & (lon < xmax) & (lat >= ymin) & (lat < ymax)
    return inside


def pixels_of(tile: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Column, row, width and height in pixels of the tile in this row and column of tiles."""
    row, column = tile[0] * TILE, tile[1] * TILE
    return column, row, min(TILE, shape[1] - column), min(TILE, shape[0] - row)
