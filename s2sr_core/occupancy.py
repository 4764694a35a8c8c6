"""Where a scene holds pixels that count: left unmasked by SCL, in or beside a selected cell.

What is not there need not be decoded, nor read, nor stacked. Windows and arrays are on the scene's own grid: columns
and rows of its images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from s2sr_core import footprint
from s2sr_core.gdal_runtime import gdal, ogr
from s2sr_core.gridcells import Gridcell
from s2sr_core.lattice import Geotransform, Window
from s2sr_core.workspace import written_beside

BoolArray = npt.NDArray[np.bool_]

#: Pixels around a cell that count as well: the four neighbours that bilinear takes, and how far a straight line between
#: two points of a cell's edge can be from the edge.
_MARGIN = 4
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
    def of(cls, counts: BoolArray, tile: tuple[int, int]) -> Occupancy:
        """Where ``counts``, of the scene's shape, is true; ``tile`` is rows and columns of the images' tiles."""
        rows, columns = np.flatnonzero(counts.any(axis=1)), np.flatnonzero(counts.any(axis=0))
        if len(rows) == 0:
            return cls(Window(0, 0, 0, 0), np.zeros((0, 0), bool), ())
        window = Window(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        return cls(
            window,
            counts[window.y0 : window.y1, window.x0 : window.x1],
            tuple(part & window for part in _parts(counts, tile)),
        )

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


def pixels_near(
    cells: Sequence[Gridcell], outline: BaseGeometry, crs: str, geotransform: Geotransform, shape: tuple[int, int]
) -> BoolArray:
    """Which pixels of a grid lie in one of ``cells`` or a few pixels from it; of ``shape`` (rows, columns).

    ``outline`` is that of the grid (EPSG:4326).
    """
    rows, columns = shape
    around = footprint.on_the_globe(outline.buffer(_AROUND))
    parts = shapely.get_parts([cell.polygon.intersection(around) for cell in cells])
    outlines = shapely.segmentize(shapely.get_parts(shapely.get_parts(parts)), _STEP)
    transformation, inverse = footprint.from_wgs84(crs), gdal.InvGeoTransform(geotransform)

    def to_pixels(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y, _ = np.array(transformation.TransformPoints(points)).T
        return np.column_stack(
            [inverse[0] + x * inverse[1] + y * inverse[2], inverse[3] + x * inverse[4] + y * inverse[5]]
        )

    on_grid = shapely.transform([part for part in outlines if part.geom_type == "Polygon"], to_pixels)
    raster = gdal.GetDriverByName("MEM").Create("", columns, rows, 1, gdal.GDT_Byte)
    source = ogr.GetDriverByName("MEM").CreateDataSource("")
    layer = source.CreateLayer("cells", None, ogr.wkbMultiPolygon)
    for polygon in on_grid:
        if not np.isfinite(shapely.get_coordinates(polygon)).all():
            return np.ones(shape, bool)
        feature = ogr.Feature(layer.GetLayerDefn())
        feature.SetGeometry(ogr.CreateGeometryFromWkb(shapely.to_wkb(polygon.buffer(_MARGIN))))
        layer.CreateFeature(feature)
    gdal.RasterizeLayer(raster, [1], layer, burn_values=[1], options=["ALL_TOUCHED=TRUE"])
    result: BoolArray = raster.ReadAsArray().astype(bool)
    return result


# ----------------------------------------------------------------------------------- which windows of a JPEG 2000 tile

#: Side of the squares in which parts are drawn.
_SQUARE = 32
#: Where parts may be cut: a code block of the finest details covers 128 pixels of the image.
_CUT = 128 // _SQUARE
#: Side of code blocks, and wavelet levels, of Sentinel-2's 20 m bands. In others a choice of parts costs more, no more.
_CODE_BLOCK, _LEVELS = 64, 4
#: What a window costs besides its code blocks, in coefficients decoded: 3 ms where 5.5 million are decoded a second.
_OVERHEAD = 16_000


def _parts(counts: BoolArray, tile: tuple[int, int]) -> Iterator[Window]:
    """Windows that hold all that counts, chosen so that decoding them costs little, tile by tile of the image."""
    height, width = counts.shape
    for tile_window in Window(0, 0, width, height).tiles(*tile):
        inner = counts[tile_window.y0 : tile_window.y1, tile_window.x0 : tile_window.x1]
        squares = np.logical_or.reduceat(
            np.logical_or.reduceat(inner, np.arange(0, inner.shape[0], _SQUARE), axis=0),
            np.arange(0, inner.shape[1], _SQUARE),
            axis=1,
        )
        for part in _cheapest(squares, Window(0, 0, squares.shape[1], squares.shape[0]), max(inner.shape)):
            yield tile_window & Window(
                tile_window.x0 + part.x0 * _SQUARE,
                tile_window.y0 + part.y0 * _SQUARE,
                tile_window.x0 + part.x1 * _SQUARE,
                tile_window.y0 + part.y1 * _SQUARE,
            )


def _cheapest(squares: BoolArray, within: Window, side: int) -> list[Window]:
    """The squares in ``within``, as one window or, where that costs less, as those of its halves, and so on."""
    whole = _trimmed(squares, within)
    if not whole:
        return []
    best, halves = _cost(whole, side), None
    for cut in range(_CUT, max(whole.x1, whole.y1), _CUT):
        across = (Window(whole.x0, whole.y0, cut, whole.y1), Window(cut, whole.y0, whole.x1, whole.y1))
        down = (Window(whole.x0, whole.y0, whole.x1, cut), Window(whole.x0, cut, whole.x1, whole.y1))
        for pair in (across, down):
            if pair[0] and pair[1]:
                cost = sum(_cost(_trimmed(squares, half), side) for half in pair)
                if cost < best:
                    best, halves = cost, pair
    if halves is None:
        return [whole]
    return [part for half in halves for part in _cheapest(squares, half, side)]


def _trimmed(squares: BoolArray, within: Window) -> Window:
    """The smallest window in ``within`` that holds its squares; empty where there is none."""
    inner = squares[within.y0 : within.y1, within.x0 : within.x1]
    rows, columns = np.flatnonzero(inner.any(axis=1)), np.flatnonzero(inner.any(axis=0))
    if len(rows) == 0:
        return Window(0, 0, 0, 0)
    x, y = within.x0, within.y0
    return Window(x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1)


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
