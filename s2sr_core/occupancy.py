"""Whether a scene holds a pixel that SCL leaves unmasked where cells can see it: if not, its bands are not needed.

The answer errs on the side of yes. Dilation, which masks more, is not looked at; pixels are taken together in blocks;
and a cell sees beyond its edge as far as the kernel of the warp reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from s2sr_core import footprint
from s2sr_core.gdal_runtime import gdal
from s2sr_core.gridcells import Gridcell
from s2sr_core.lattice import Window
from s2sr_core.pixel_functions import BoolArray, scl_masked
from s2sr_core.scene import SceneGrid

_Points = npt.NDArray[np.float64]

#: Side of a block, pixels; divides the rows of a read.
_BLOCK = 16
#: Rows of a read: those of a JPEG 2000 tile.
_ROWS = 640
#: Source pixels that the widest kernel (cubic) reads on each side of a point, where the lattice is not coarser.
_KERNEL = 2
#: For rounding: of a point to its pixel, of an edge between the points it is drawn through.
_SLACK = 2
#: Edges of cells are straight in degrees; drawn through points so far apart (degrees) they are so in any CRS to within
#: a metre up to 84° of latitude.
_STEP = 0.02
#: Cells are cut off so far outside the scene, degrees: no pixel there is the scene's.
_BEYOND = 0.2


def clear_blocks(scl: gdal.Dataset, classes: Sequence[int]) -> tuple[int, BoolArray]:
    """Number of pixels that SCL leaves unmasked (no dilation), and which blocks of 16 × 16 pixels hold one.

    ``scl`` is read by rows of JPEG 2000 tiles, each once. Blocks are rows, columns.
    """
    width, height = scl.RasterXSize, scl.RasterYSize
    blocks = np.zeros((-(-height // _BLOCK), -(-width // _BLOCK)), bool)
    count = 0
    for window in Window(0, 0, width, height).tiles(_ROWS):
        clear = ~scl_masked(scl.ReadAsArray(0, window.y0, width, window.height), classes)
        count += int(np.count_nonzero(clear))
        by_rows = np.logical_or.reduceat(clear, np.arange(0, window.height, _BLOCK), axis=0)
        by_both = np.logical_or.reduceat(by_rows, np.arange(0, width, _BLOCK), axis=1)
        first = window.y0 // _BLOCK
        blocks[first : first + len(by_both)] = by_both
    return count, blocks


def kernel_reach(scale: tuple[float, float]) -> int:
    """Source pixels beyond its own that a pixel of the lattice may be made of; ``scale`` as of ``scene_scale``."""
    return math.ceil(_KERNEL * max(1.0, 1.0 / scale[0], 1.0 / scale[1])) + _SLACK


def is_seen(blocks: BoolArray, grid: SceneGrid, outline: BaseGeometry, cells: Sequence[Gridcell], reach: int) -> bool:
    """Whether one of ``blocks`` comes within ``reach`` pixels of one of ``cells``; ``outline`` is the scene's."""
    rows, columns = np.nonzero(blocks)
    if not len(rows) or not cells:
        return False
    held = shapely.intersection(np.array([cell.polygon for cell in cells], object), outline.buffer(_BEYOND))
    in_pixels = shapely.transform(shapely.segmentize(held, _STEP), _to_pixels(grid))
    x, y = columns * _BLOCK, rows * _BLOCK
    boxes = shapely.box(x - reach, y - reach, x + _BLOCK + reach, y + _BLOCK + reach)
    return bool(shapely.STRtree(boxes).query(in_pixels, predicate="intersects").size)


def _to_pixels(grid: SceneGrid) -> Callable[[_Points], _Points]:
    """Longitudes and latitudes (n × 2) → columns and rows of ``grid``, counted from its corner."""
    transformation = footprint.from_wgs84(grid.crs)
    origin_x, a, b, origin_y, d, e = gdal.InvGeoTransform(grid.geotransform)

    def transform(points: _Points) -> _Points:
        x, y, _ = np.array(transformation.TransformPoints(points)).reshape(-1, 3).T
        return np.column_stack([origin_x + a * x + b * y, origin_y + d * x + e * y])

    return transform
