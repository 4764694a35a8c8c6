"""Which part of a granule the satellite saw, and the footprint that follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from s2sr_sandbox.grid import Grid
from s2sr_sandbox.noise import Floats

#: By how many pixels of 20 m the swath's edge in each band differs from the one in SCL: the detectors look along
#: slightly different lines, so that real granules lose a few more pixels in one band than in the next.
EDGE_SHIFT = {
    "B01": 5, "B02": 0, "B03": 2, "B04": 3, "B05": 4, "B06": 4,
    "B07": 5, "B08": 1, "B8A": 6, "B09": 7, "B11": -2, "B12": -3,
}  # fmt: skip

# Points on each side of a footprint: a straight line in UTM bends in longitude and latitude, 600 m over 110 km at 68°.
_POINTS_A_SIDE = 8


@dataclass(frozen=True)
class Swath:
    """The part of a granule between two lines along the ground track and two across it.

    Attributes
    ----------
    across: where it starts and stops from west to east, as fractions of the granule's extent; (0.4, 1) has nodata in
        the west, as a granule on the western edge of a swath.
    along: the same from north to south; (0, 0.55) and (0.55, 1) make a split pair.
    tilt: columns that the ground track moves west per row that it moves south (descending orbits; more near the pole).
    """

    across: tuple[float, float] = (0.0, 1.0)
    along: tuple[float, float] = (0.0, 1.0)
    tilt: float = 0.3

    def seen(self, grid: Grid, rows: slice, band: str = "SCL") -> NDArray[np.bool]:
        """Whether each pixel of some rows was seen in ``band``, shape (rows, columns)."""
        line, column = np.mgrid[slice(*rows.indices(grid.shape[0])), : grid.shape[1]] + 0.5
        shift = EDGE_SHIFT.get(band, 0)
        inside = np.ones(line.shape, dtype=np.bool)
        for a, b, low, high in self._edges(grid):
            place = a * column + b * line - shift
            inside &= (place >= low) & (place < high)
        return inside

    def outline(self, grid: Grid) -> shapely.Polygon:
        """The part seen, in pixels from the upper left corner: x are columns, y are rows.

        Raises
        ------
        ValueError
            If nothing of the granule was seen.
        """
        rows, cols = grid.shape
        part: BaseGeometry = shapely.box(0, 0, cols, rows)
        far = 4.0 * (rows + cols)
        for a, b, low, high in self._edges(grid):
            low, high = max(low, -far), min(high, far)
            # The strip low ≤ a·x + b·y < high: its direction is (b, −a), and (a, b)/(a² + b²) is one unit across it.
            square = a * a + b * b
            corners = [(low, -far), (low, far), (high, far), (high, -far)]
            part = part & shapely.Polygon([(a * c / square + b * s, b * c / square - a * s) for c, s in corners])
        if not isinstance(part, shapely.Polygon) or part.is_empty:
            raise ValueError(f"{self} sees nothing of a granule of {rows} x {cols} pixels")
        return part

    def _edges(self, grid: Grid) -> Iterator[tuple[float, float, float, float]]:
        """The two strips as (a, b, low, high), in which low ≤ a·column + b·row < high; 0 and 1 bound nothing."""
        rows, cols = grid.shape
        for a, b, (start, stop) in ((1.0, self.tilt, self.across), (-self.tilt, 1.0, self.along)):
            ends = [a * x + b * y for x in (0, cols) for y in (0, rows)]
            first, extent = min(ends), max(ends) - min(ends)
            yield a, b, first + start * extent if start > 0 else -inf, first + stop * extent if stop < 1 else inf


#: Nothing of the granule is missing.
WHOLE = Swath()


def footprint(grid: Grid, swath: Swath) -> list[tuple[float, float]]:
    """The closed ring around what was seen, as (longitude, latitude) in degrees, first point repeated at the end.

    As in real metadata it is one ring: at the antimeridian it has a point at longitude 180 and continues beyond −180,
    so that readers must unwrap or cut it.
    """
    outline = shapely.segmentize(swath.outline(grid), max(grid.shape) / _POINTS_A_SIDE)
    cols, rows = np.array(outline.exterior.coords).T
    lon, lat = grid.lonlat(cols, rows)
    return list(_with_crossings(lon.round(7), lat.round(7)))


def _with_crossings(lon: Floats, lat: Floats) -> Iterator[tuple[float, float]]:
    yield float(lon[0]), float(lat[0])
    for west, east, south, north in zip(lon[:-1], lon[1:], lat[:-1], lat[1:], strict=True):
        if abs(east - west) > 180 and 180 not in (abs(west), abs(east)):
            before, after = west % 360, east % 360
            at = south + (north - south) * (180 - before) / (after - before)
            yield 180.0, round(float(at), 7)
        yield float(east), float(north)
