"""The lattice: which pixel is which.

A pixel is named by two integers, column and row, and its edges and centre are computed from them, never accumulated,
so that two cells, two windows or two runs call the same pixel by the same numbers.
Axis order is x, y, whatever the CRS's authority says; columns count towards larger x, rows towards smaller y. Units are
those of the CRS: degrees of longitude and latitude in EPSG:4326, nearly always metres in a projected one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

#: Longitude and latitude, degrees: the CRS of gridcells and footprints, and of lattices unless another is asked for.
WGS84 = "EPSG:4326"

Bounds = tuple[float, float, float, float]
"""xmin, ymin, xmax, ymax: degrees (EPSG:4326) if nothing else is said, else units of a CRS."""

Geotransform = tuple[float, float, float, float, float, float]
"""GDAL's: x of the upper left corner, pixel width, row rotation, y of that corner, column rotation, −pixel height."""


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels on a lattice, half-open: columns x0 … x1 − 1, rows y0 … y1 − 1."""

    x0: int
    y0: int
    x1: int
    y1: int

    @classmethod
    def around(cls, windows: Collection[Window]) -> Window:
        """The least one that holds all of at least one window."""
        return cls(
            min(window.x0 for window in windows),
            min(window.y0 for window in windows),
            max(window.x1 for window in windows),
            max(window.y1 for window in windows),
        )

    @property
    def width(self) -> int:
        return max(self.x1 - self.x0, 0)

    @property
    def height(self) -> int:
        return max(self.y1 - self.y0, 0)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns: numpy's order."""
        return self.height, self.width

    def __bool__(self) -> bool:
        """Whether it holds a pixel."""
        return self.width > 0 and self.height > 0

    def __and__(self, other: Window) -> Window:
        """The pixels of both."""
        return Window(max(self.x0, other.x0), max(self.y0, other.y0), min(self.x1, other.x1), min(self.y1, other.y1))

    def offset_in(self, outer: Window) -> tuple[int, int]:
        """Column and row of its upper left pixel, counted from that of ``outer``."""
        return self.x0 - outer.x0, self.y0 - outer.y0

    def seen_from(self, outer: Window) -> Window:
        """The same pixels, counted from the upper left one of ``outer``."""
        return Window(*self.offset_in(outer), self.x1 - outer.x0, self.y1 - outer.y0)

    def tiles(self, height: int, width: int | None = None) -> Iterator[Window]:
        """Cut it into windows of at most ``height`` rows and ``width`` columns (all of them by default), row-wise."""
        width = width or self.width
        for y in range(self.y0, self.y1, height):
            for x in range(self.x0, self.x1, width):
                yield Window(x, y, min(x + width, self.x1), min(y + height, self.y1))


@dataclass(frozen=True, slots=True)
class Lattice:
    """A regular grid of pixels in a CRS.

    Attributes
    ----------
    dx, dy: pixel size in units of the CRS, both positive.
    x_anchor, y_anchor: a corner of pixels, in the same units; 0/0 is gdalwarp's ``-tap``.
    crs: ``EPSG:n``: :data:`WGS84`, or a projected one.
    """

    dx: float
    dy: float
    x_anchor: float = 0.0
    y_anchor: float = 0.0
    crs: str = WGS84

    @property
    def is_geographic(self) -> bool:
        """Whether x and y are longitude and latitude."""
        return self.crs == WGS84

    @property
    def size(self) -> str:
        """Its pixel size, for people: ``20 × 20 of EPSG:3413``."""
        return f"{self.dx:g} × {self.dy:g} {'degrees' if self.is_geographic else f'of {self.crs}'}"

    def x_edge(self, column: int) -> float:
        """The smaller x of ``column``: its west edge in EPSG:4326."""
        return self.x_anchor + column * self.dx

    def y_edge(self, row: int) -> float:
        """The larger y of ``row``: its north edge in EPSG:4326."""
        return self.y_anchor - row * self.dy

    def x_centre(self, column: int) -> float:
        """The x of the centres of ``column``."""
        return self.x_anchor + (column + 0.5) * self.dx

    def y_centre(self, row: int) -> float:
        """The y of the centres of ``row``."""
        return self.y_anchor - (row + 0.5) * self.dy

    def geotransform(self, window: Window) -> Geotransform:
        """Of a raster that holds just ``window``."""
        return (self.x_edge(window.x0), self.dx, 0.0, self.y_edge(window.y0), 0.0, -self.dy)

    def owned(self, bounds: Bounds) -> Window:
        """The pixels whose centres lie in ``bounds``: xmin and ymin are in, xmax and ymax out."""
        xmin, ymin, xmax, ymax = bounds
        return Window(self._first_column(xmin), self._first_row(ymax), self._first_column(xmax), self._first_row(ymin))

    def pixel_of(self, x: float, y: float) -> Window:
        """The pixel that holds a point: its smaller x and y are in, its larger ones out."""
        column = math.floor((x - self.x_anchor) / self.dx)
        while self.x_edge(column) > x:
            column -= 1
        while self.x_edge(column + 1) <= x:
            column += 1
        row = math.ceil((self.y_anchor - y) / self.dy) - 1
        while self.y_edge(row) <= y:
            row -= 1
        while self.y_edge(row + 1) > y:
            row += 1
        return Window(column, row, column + 1, row + 1)

    def covering(self, bounds: Bounds) -> Window:
        """The pixels that together cover ``bounds``."""
        xmin, ymin, xmax, ymax = bounds
        return Window(
            math.floor((xmin - self.x_anchor) / self.dx),
            math.floor((self.y_anchor - ymax) / self.dy),
            math.ceil((xmax - self.x_anchor) / self.dx),
            math.ceil((self.y_anchor - ymin) / self.dy),
        )

    def _first_column(self, x: float) -> int:
        """The first column whose centre is not west of ``x``; exact, because it is compared by the centre itself."""
        column = math.ceil((x - self.x_anchor) / self.dx - 0.5)
        while self.x_centre(column - 1) >= x:
            column -= 1
        while self.x_centre(column) < x:
            column += 1
        return column

    def _first_row(self, y: float) -> int:
        """The first row whose centre lies south of ``y``."""
        row = math.floor((self.y_anchor - y) / self.dy + 0.5)
        while self.y_centre(row - 1) < y:
            row -= 1
        while self.y_centre(row) >= y:
            row += 1
        return row
