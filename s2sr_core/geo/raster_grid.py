"""The pixel grid of a raster in any coordinate system."""

from __future__ import annotations

import math
from dataclasses import dataclass

from s2sr_core.geo.geometry import METRES_PER_DEGREE, spatial_reference
from s2sr_core.geo.lattice import Geotransform, Window


@dataclass(frozen=True, slots=True)
class RasterGrid:
    """Where the pixels of a raster are: CRS as WKT or ``EPSG:n``, GDAL's geotransform, shape as rows, columns."""

    crs: str
    geotransform: Geotransform
    shape: tuple[int, int]

    @property
    def window(self) -> Window:
        """All of its pixels."""
        return Window(0, 0, self.shape[1], self.shape[0])

    def refined(self, factor: int) -> RasterGrid:
        """The grid on which each pixel is ``factor`` × ``factor`` pixels."""
        x0, dx, rx, y0, ry, dy = self.geotransform
        geotransform = (x0, dx / factor, rx / factor, y0, ry / factor, dy / factor)
        return RasterGrid(self.crs, geotransform, (self.shape[0] * factor, self.shape[1] * factor))

    def same_as(self, other: RasterGrid) -> bool:
        """Whether both hold the same pixels, however the CRS is written."""
        if (self.geotransform, self.shape) != (other.geotransform, other.shape):
            return False
        return self.crs == other.crs or bool(spatial_reference(self.crs).IsSame(spatial_reference(other.crs)))

    def pixel_metres(self) -> tuple[float, float]:
        """Width and height of a pixel in metres; in degrees, at the latitude of the middle row."""
        reference = spatial_reference(self.crs)
        _, dx, rx, top, ry, dy = self.geotransform
        width, height = math.hypot(dx, ry), math.hypot(rx, dy)
        if reference.IsGeographic():
            latitude = top + dy * self.shape[0] / 2
            return width * METRES_PER_DEGREE * math.cos(math.radians(latitude)), height * METRES_PER_DEGREE
        return width * reference.GetLinearUnits(), height * reference.GetLinearUnits()
