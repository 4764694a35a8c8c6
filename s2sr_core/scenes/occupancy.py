"""Where a scene holds pixels that count: left unmasked by SCL, in or beside a selected cell.

What is not there need not be decoded, nor read, nor stacked. Windows and arrays are on the scene's own grid: columns
and rows of its images.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.files import written_beside
from s2sr_core.geo import geometry
from s2sr_core.geo.gdal_runtime import gdal, ogr, osr
from s2sr_core.geo.lattice import Geotransform, Window

BoolArray = npt.NDArray[np.bool_]

#: Pixels of a scene that the widest kernel (cubic) reads on each side of a point, where the lattice is not coarser.
_KERNEL = 2
#: For rounding: of a point to its pixel, of a cell's edge to straight lines between points.
_SLACK = 2
#: Step, degrees, at which a cell's edges are followed on the scene's grid: between two points, an edge along a parallel
#: is within a metre of the straight line.
_STEP = 0.05
#: Degrees around a scene within which a cell's outline can be transformed to its grid without leaving its domain.
_AROUND = 1.0


@dataclass(frozen=True, slots=True)
class Occupancy:
    """The pixels of a scene that count.

    Attributes
    ----------
    window: the smallest one that holds them all; empty where there is none.
    counts: which pixels of ``window`` count; of its shape.
    parts: windows within ``window`` that together hold them all, disjoint, none across two tiles of the images.
    """

    window: Window
    counts: BoolArray
    parts: tuple[Window, ...]

    @classmethod
    def of(cls, counts: BoolArray, within: Window, tile: tuple[int, int]) -> Occupancy:
        """Where ``counts``, of the shape of ``within``, is true; ``tile`` is rows and columns of the images' tiles."""
        window = _trimmed(counts, within)
        x, y = window.offset_in(within)
        counts = counts[y : y + window.height, x : x + window.width]
        return cls(window, counts, tuple(_parts(counts, window, tile)))

    def write(self, path: Path) -> None:
        """Keep it in a file, one bit a pixel."""
        windows = np.array([_corners(window) for window in (self.window, *self.parts)], np.int32)
        with written_beside(path) as temporary, temporary.open("wb") as file:
            np.savez(file, windows=windows, bits=np.packbits(self.counts, axis=1))

    @classmethod
    def read(cls, path: Path) -> Occupancy:
        """What :meth:`write` wrote."""
        with np.load(path, allow_pickle=False) as file:
            window, *parts = (Window(*map(int, corners)) for corners in file["windows"])
            counts = np.unpackbits(file["bits"], axis=1, count=window.width).view(bool)
        return cls(window, counts, tuple(parts))

    @staticmethod
    def read_parts(path: Path) -> tuple[Window, ...]:
        """The parts alone of what :meth:`write` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return tuple(Window(*map(int, corners)) for corners in file["windows"][1:])


@dataclass(frozen=True, slots=True)
class Near:
    """The pixels of a grid that lie in or beside some cells.

    Attributes
    ----------
    window: the smallest one that holds them all; empty where there is none.
    pixels: which pixels of ``window`` they are; of its shape.
    """

    window: Window
    pixels: BoolArray


def kernel_reach(scale: tuple[float, float]) -> int:
    """Pixels of a scene beyond its own that a pixel of the lattice may be made of; ``scale`` as of ``scene_scale``."""
    return math.ceil(_KERNEL * max(1.0, 1.0 / scale[0], 1.0 / scale[1])) + _SLACK


@functools.lru_cache(maxsize=4)
def pixels_near(
    cells: tuple[Gridcell, ...],
    outline: BaseGeometry,
    crs: str,
    geotransform: Geotransform,
    shape: tuple[int, int],
    reach: int,
) -> Near:
    """Which pixels of a grid lie in one of ``cells`` or within ``reach`` pixels of it.

    The grid is of ``shape`` (rows, columns) and has ``outline`` (EPSG:4326).
    """
    whole = Window(0, 0, shape[1], shape[0])
    around = geometry.on_the_globe(outline.buffer(_AROUND))
    parts = [geometry.polygonal(cell.polygon.intersection(around)) for cell in cells]
    transformation, inverse = geometry.from_wgs84(crs), gdal.InvGeoTransform(geotransform)

    def to_pixels(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y, _ = np.array(transformation.TransformPoints(points)).T
        return np.column_stack(
            [inverse[0] + x * inverse[1] + y * inverse[2], inverse[3] + x * inverse[4] + y * inverse[5]]
        )

    outlines = [part for part in shapely.segmentize(parts, _STEP) if not part.is_empty]
    on_grid = [shapely.transform(part, to_pixels) for part in outlines]
    if not np.isfinite(shapely.get_coordinates(on_grid)).all():  # beyond what the CRS can say
        return Near(whole, np.ones(shape, bool))
    on_grid = [part.buffer(reach) for part in on_grid]
    left, top, right, bottom = shapely.total_bounds(on_grid) if on_grid else (0, 0, 0, 0)
    window = whole & Window(math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom))
    if not window:
        return Near(window, np.zeros(window.shape, bool))
    raster = gdal.GetDriverByName("MEM").Create("", window.width, window.height, 1, gdal.GDT_Byte)
    raster.SetGeoTransform((window.x0, 1.0, 0.0, window.y0, 0.0, 1.0))
    pixels = osr.SpatialReference()
    pixels.SetLocalCS("pixels")  # GDAL 3.10 warns of a layer without any
    raster.SetSpatialRef(pixels)
    # Until GDAL 3.11 the driver for vectors in memory had a name of its own.
    source = (ogr.GetDriverByName("MEM") or ogr.GetDriverByName("Memory")).CreateDataSource("")
    layer = source.CreateLayer("cells", pixels, ogr.wkbUnknown)
    for part in on_grid:
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetGeometry(ogr.CreateGeometryFromWkb(shapely.to_wkb(part)))
        layer.CreateFeature(feature)
    gdal.RasterizeLayer(raster, [1], layer, burn_values=[1], options=["ALL_TOUCHED=TRUE"])
    return Near(window, raster.ReadAsArray().astype(bool))


# ----------------------------------------------------------------------------------- which windows of a JPEG 2000 tile

#: Side of the squares in which parts are drawn.
_SQUARE = 32
#: Where parts may be cut: a code block of the finest details covers 128 pixels of the image.
_CUT = 128 // _SQUARE
#: Side of code blocks, and wavelet levels, of Sentinel-2's 20 m bands. In others a choice of parts costs more, no more.
_CODE_BLOCK, _LEVELS = 64, 4
#: What a window costs besides its code blocks, in coefficients decoded: 3 ms where 5.5 million are decoded a second.
_OVERHEAD = 16_000


def _parts(counts: BoolArray, window: Window, tile: tuple[int, int]) -> Iterator[Window]:
    """Windows that hold all that counts, chosen so that decoding them costs little, tile by tile of the images."""
    rows, columns = tile
    for y in range(window.y0 - window.y0 % rows, window.y1, rows):
        for x in range(window.x0 - window.x0 % columns, window.x1, columns):
            shared = window & Window(x, y, x + columns, y + rows)
            inner = np.zeros(tile, bool)
            left, top = shared.offset_in(Window(x, y, 0, 0))
            x0, y0 = shared.offset_in(window)
            inner[top : top + shared.height, left : left + shared.width] = counts[
                y0 : y0 + shared.height, x0 : x0 + shared.width
            ]
            squares = inner.reshape(rows // _SQUARE, _SQUARE, columns // _SQUARE, _SQUARE).any(axis=(1, 3))
            for part in _cheapest(squares, Window(0, 0, columns // _SQUARE, rows // _SQUARE), rows):
                yield shared & Window(
                    x + part.x0 * _SQUARE, y + part.y0 * _SQUARE, x + part.x1 * _SQUARE, y + part.y1 * _SQUARE
                )


def _cheapest(squares: BoolArray, within: Window, side: int) -> list[Window]:
    """The squares in ``within``, as one window or, where that costs less, as those of its halves, and so on."""
    whole = _trimmed(_inside(squares, within), within)
    if not whole:
        return []
    best, halves = _cost(whole, side), None
    for cut in range(_CUT, max(whole.x1, whole.y1), _CUT):
        across = (Window(whole.x0, whole.y0, cut, whole.y1), Window(cut, whole.y0, whole.x1, whole.y1))
        down = (Window(whole.x0, whole.y0, whole.x1, cut), Window(whole.x0, cut, whole.x1, whole.y1))
        for pair in (across, down):
            if pair[0] and pair[1]:
                cost = sum(_cost(_trimmed(_inside(squares, half), half), side) for half in pair)
                if cost < best:
                    best, halves = cost, pair
    if halves is None:
        return [whole]
    return [part for half in halves for part in _cheapest(squares, half, side)]


def _trimmed(values: BoolArray, within: Window) -> Window:
    """The smallest window that holds the true ones of ``values``, which are those of ``within``; empty without any."""
    rows, columns = np.flatnonzero(values.any(axis=1)), np.flatnonzero(values.any(axis=0))
    if len(rows) == 0:
        return Window(within.x0, within.y0, within.x0, within.y0)
    x, y = within.x0, within.y0
    return Window(x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1)


def _inside(values: BoolArray, window: Window) -> BoolArray:
    return values[window.y0 : window.y1, window.x0 : window.x1]


def _cost(window: Window, side: int) -> int:
    """Coefficients that decoding a window of squares of a tile takes: whole code blocks, of every level."""
    if not window:
        return 0
    total = _OVERHEAD
    for level in range(1, _LEVELS + 1):
        # Reconstructing a pixel takes up to two coefficients more on each side.
        area = 1
        for low, high in ((window.x0, window.x1), (window.y0, window.y1)):
            first = max((low * _SQUARE >> level) - 2, 0) // _CODE_BLOCK
            last = -(-((high * _SQUARE >> level) + 2) // _CODE_BLOCK)
            area *= min(last * _CODE_BLOCK, side >> level) - first * _CODE_BLOCK
        total += 3 * area if level < _LEVELS else 4 * area
    return total


def _corners(window: Window) -> tuple[int, int, int, int]:
    return window.x0, window.y0, window.x1, window.y1
