"""What a product really shows: where its SCL holds data, and whether others show the same.

Products of one sensing time and tile are compared by this, because footprints in metadata can be wrong. Baselines move
the same data by some pixels (geometric refinement), so data count as covered if there are others close to them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from numpy.lib.stride_tricks import sliding_window_view
from shapely import MultiPolygon, Polygon

from s2sr_core.geo import geometry
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.jp2_check import image_drivers
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.scenes.scene import Scene

BoolArray = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]

#: How far data may stick out of others that are said to cover them, metres: 12 pixels.
TOLERANCE_M = 240.0
#: The same for outlines, which are drawn with other vertices from baseline to baseline.
OUTLINE_TOLERANCE_M = 500.0
#: Rows and columns of a coverage, at most: every fourth pixel of a granule at 20 m, so that little of a JPEG 2000 image
#: must be decoded.
_LARGEST = 1400
#: Class of SCL without data.
_NO_DATA = 0
#: Points along a side at which an outline is compared with data.
_POINTS = 200


@dataclass(frozen=True, slots=True, eq=False)
class Coverage:
    """Where a scene has data, clouds included.

    Attributes
    ----------
    grid: that of the images or, if they are large, a coarser one.
    data: rows × columns of ``grid``.
    """

    grid: RasterGrid
    data: BoolArray

    @classmethod
    def of(cls, scene: Scene) -> Coverage:
        """That of a scene, from its SCL.

        Raises
        ------
        RuntimeError
            If SCL cannot be decoded.
        """
        path = str(scene.scl.path)
        with gdal.OpenEx(path, gdal.OF_RASTER | gdal.OF_READONLY, allowed_drivers=image_drivers()) as dataset:
            rows, columns = scene.grid.shape
            step = 1
            while max(rows, columns) > _LARGEST * step:
                step *= 2
            shape = (math.ceil(rows / step), math.ceil(columns / step))
            classes = dataset.ReadAsArray(buf_xsize=shape[1], buf_ysize=shape[0])
        x0, dx, rx, y0, ry, dy = scene.grid.geotransform
        wider, higher = columns / shape[1], rows / shape[0]
        geotransform = (x0, dx * wider, rx * higher, y0, ry * wider, dy * higher)
        return cls(RasterGrid(scene.grid.crs, geotransform, shape), classes != _NO_DATA)

    def is_within(self, others: Sequence[Coverage]) -> bool:
        """Whether ``others`` together have data wherever this one has, to within :data:`TOLERANCE_M`."""
        if not others:
            return not self.data.any()
        return not (self.data & ~_widened(_union(others, self.grid), self.grid, TOLERANCE_M)).any()

    def whole(self) -> Coverage:
        """Data everywhere on the grid."""
        return Coverage(self.grid, np.ones_like(self.data))

    def on(self, grid: RasterGrid) -> BoolArray:
        """The data at the centres of the pixels of another grid."""
        if self.grid.same_as(grid):
            return self.data
        row, column = (axis + 0.5 for axis in np.indices(grid.shape))
        x, y = _applied(grid.geotransform, column, row)
        if self.grid.crs != grid.crs:
            to_own = geometry.transformation(grid.crs, self.grid.crs)
            points = np.array(to_own.TransformPoints(np.column_stack([x.ravel(), y.ravel()])))
            x, y = (points[:, axis].reshape(grid.shape) for axis in (0, 1))
        column, row = _applied(gdal.InvGeoTransform(self.grid.geotransform), x, y)
        inside = (row >= 0) & (row < self.data.shape[0]) & (column >= 0) & (column < self.data.shape[1])
        found = np.zeros(grid.shape, bool)
        found[inside] = self.data[row[inside].astype(int), column[inside].astype(int)]
        return found


def leave_no_gap(coverages: Sequence[Coverage]) -> bool:
    """Whether ``coverages`` together have data everywhere in their images, so that no image there can show more."""
    return bool(coverages) and all(each.whole().is_within(coverages) for each in coverages)


def hold(outline: Polygon | MultiPolygon, coverages: Sequence[Coverage]) -> bool:
    """Whether ``coverages`` together have data wherever ``outline`` (EPSG:4326) is, to within OUTLINE_TOLERANCE_M."""
    if not coverages:
        return False
    grid = coverages[0].grid
    to_grid, inverse = geometry.from_wgs84(grid.crs), gdal.InvGeoTransform(grid.geotransform)

    def to_pixels(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y, _ = np.array(to_grid.TransformPoints(points)).T
        return np.column_stack(_applied(inverse, x, y))

    on_grid = shapely.transform(outline, to_pixels)
    if not np.isfinite(shapely.get_coordinates(on_grid)).all():
        return False
    rows, columns = grid.shape
    width, height = grid.pixel_metres()
    beside, above = OUTLINE_TOLERANCE_M / width, OUTLINE_TOLERANCE_M / height
    left, top, right, bottom = on_grid.bounds
    if left < -beside or top < -above or right > columns + beside or bottom > rows + above:
        return False
    data = _widened(_union(coverages, grid), grid, OUTLINE_TOLERANCE_M)
    row, column = (np.arange(0, side, max(side // _POINTS, 1)) for side in grid.shape)
    inside = shapely.contains_xy(on_grid, column[None, :] + 0.5, row[:, None] + 0.5)
    return bool(data[np.ix_(row, column)][inside].all())


def _union(coverages: Sequence[Coverage], grid: RasterGrid) -> BoolArray:
    return np.any([each.on(grid) for each in coverages], axis=0)


def _widened(data: BoolArray, grid: RasterGrid, metres: float) -> BoolArray:
    """``data`` and what lies within ``metres`` of it, along rows and along columns."""
    width, height = grid.pixel_metres()
    for axis, side in ((0, height), (1, width)):
        reach = min(round(metres / side), data.shape[axis])
        padded = np.pad(data, [(reach, reach) if axis == each else (0, 0) for each in (0, 1)])
        data = sliding_window_view(padded, 2 * reach + 1, axis).any(axis=-1)
    return data


def _applied(geotransform: Sequence[float], column: Floats, row: Floats) -> tuple[Floats, Floats]:
    x0, dx, rx, y0, ry, dy = geotransform
    return x0 + column * dx + row * rx, y0 + column * ry + row * dy
