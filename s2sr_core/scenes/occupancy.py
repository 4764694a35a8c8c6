"""Which pixels of a scene count: those that SCL leaves unmasked, in or next to a selected cell.

The others need not be decoded, read or stacked. Windows and arrays are on the scene's own grid: columns
and rows of its images.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.files import written_atomically
from s2sr_core.geo import geometry
from s2sr_core.geo.gdal_runtime import gdal, ogr, osr
from s2sr_core.geo.lattice import Window
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.scenes.tile_windows import tile_windows, trimmed

BoolArray = npt.NDArray[np.bool_]

#: Pixels of a scene that the widest kernel (cubic) reads on each side of a point, if the lattice is not coarser.
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
    window: the smallest one that holds them all; empty if there are none.
    counts: which pixels of ``window`` count; of its shape.
    parts: windows within ``window`` that together hold them all, disjoint, none across two tiles of the images.
    """

    window: Window
    counts: BoolArray
    parts: tuple[Window, ...]

    @classmethod
    def of(cls, counts: BoolArray, within: Window, tile: tuple[int, int]) -> Occupancy:
        """From ``counts``, which are those of ``within``; ``tile`` is the rows and columns of the images' tiles."""
        window = trimmed(counts, within)
        x, y = window.offset_in(within)
        counts = counts[y : y + window.height, x : x + window.width]
        return cls(window, counts, tuple(tile_windows(counts, window, tile)))

    def write(self, path: Path) -> None:
        """Write it to a file, one bit per pixel."""
        windows = np.array([_corners(window) for window in (self.window, *self.parts)], np.int32)
        with written_atomically(path) as temporary, temporary.open("wb") as file:
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
        """Only the parts of what :meth:`write` wrote."""
        with np.load(path, allow_pickle=False) as file:
            return tuple(Window(*map(int, corners)) for corners in file["windows"][1:])


@dataclass(frozen=True, slots=True)
class NearbyPixels:
    """The pixels of a grid that lie in or next to some cells.

    Attributes
    ----------
    window: the smallest one that holds them all; empty if there are none.
    pixels: which pixels of ``window`` they are; of its shape.
    """

    window: Window
    pixels: BoolArray


def kernel_reach(scale: tuple[float, float]) -> int:
    """How many pixels of a scene away a pixel of the lattice gets values from; ``scale`` is that of ``scene_scale``."""
    return math.ceil(_KERNEL * max(1.0, 1.0 / scale[0], 1.0 / scale[1])) + _SLACK


@functools.lru_cache(maxsize=4)
def nearby_pixels(cells: tuple[Gridcell, ...], outline: BaseGeometry, grid: RasterGrid, reach: float) -> NearbyPixels:
    """Which pixels of ``grid`` lie in one of ``cells`` or within ``reach`` pixels of it.

    ``outline`` is the grid's (EPSG:4326).
    """
    around = geometry.on_the_globe(outline.buffer(_AROUND))
    parts = [geometry.polygonal(cell.polygon.intersection(around)) for cell in cells]
    transformation, inverse = geometry.from_wgs84(grid.crs), gdal.InvGeoTransform(grid.geotransform)

    def to_pixels(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y, _ = np.array(transformation.TransformPoints(points)).T
        return np.column_stack(
            [inverse[0] + x * inverse[1] + y * inverse[2], inverse[3] + x * inverse[4] + y * inverse[5]]
        )

    outlines = [part for part in shapely.segmentize(parts, _STEP) if not part.is_empty]
    on_grid = [shapely.transform(part, to_pixels) for part in outlines]
    if not np.isfinite(shapely.get_coordinates(on_grid)).all():  # beyond what the CRS can say
        return NearbyPixels(grid.window, np.ones(grid.shape, bool))
    on_grid = [part.buffer(reach) for part in on_grid]
    left, top, right, bottom = shapely.total_bounds(on_grid) if on_grid else (0, 0, 0, 0)
    window = grid.window & Window(math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom))
    if not window:
        return NearbyPixels(window, np.zeros(window.shape, bool))
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
    return NearbyPixels(window, raster.ReadAsArray().astype(bool))


def _corners(window: Window) -> tuple[int, int, int, int]:
    return window.x0, window.y0, window.x1, window.y1
