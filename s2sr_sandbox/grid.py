"""The pixel grid of a granule: its place, and how its pixels map to longitude and latitude."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Self

import numpy as np
from osgeo import gdal, osr

from s2sr_core.errors import InputError
from s2sr_sandbox.noise import Floats

gdal.UseExceptions()
osr.UseExceptions()

#: Rows and columns of a full granule at 20 m (109.8 km).
FULL_SIZE = 5490

_PIXEL = 20.0
_LAST_LATITUDE = 84
_BANDS_OF_LATITUDE = "CDEFGHJKLMNPQRSTUVWX"
_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
_ROWS = "ABCDEFGHJKLMNPQRSTUV"


@dataclass(frozen=True)
class Grid:
    """A north-up grid of pixels in some coordinate system.

    Attributes
    ----------
    crs: WKT or an authority code such as ``EPSG:32606``.
    geotransform: GDAL's six numbers, in CRS units (easting or longitude first whatever the authority says).
    shape: rows, columns.
    """

    crs: str
    geotransform: tuple[float, float, float, float, float, float]
    shape: tuple[int, int]

    @classmethod
    def utm(cls, lon: float, lat: float, size: int | tuple[int, int] = FULL_SIZE, *, zone: int | None = None) -> Self:
        """A granule's 20 m grid centred on a place, its edges on multiples of 20 m.

        ``size`` is rows and columns, or one number for both; ``zone`` (1 … 60) is the place's own by default; with
        another, a granule can lie across its zone's edge, the antimeridian included. The hemisphere is the place's.

        Raises
        ------
        InputError
            If the place is beyond Sentinel-2's latitudes, or the size beyond a granule's.
        """
        if not (-180 <= lon <= 180 and abs(lat) <= _LAST_LATITUDE):
            raise InputError(
                "centre", (lon, lat), "is outside the latitudes of Sentinel-2", f"keep within {_LAST_LATITUDE}° N and S"
            )
        rows, cols = (size, size) if isinstance(size, int) else size
        if not (1 <= rows <= FULL_SIZE and 1 <= cols <= FULL_SIZE):
            raise InputError("size", size, "is not the size of a granule", f"give 1 to {FULL_SIZE} pixels")
        crs = f"EPSG:{utm_code(lon, lat, zone)}"
        x, y = _from_lonlat(crs, lon, lat)
        xmin, ymax = round(x / _PIXEL - cols / 2) * _PIXEL, round(y / _PIXEL + rows / 2) * _PIXEL
        return cls(crs, (xmin, _PIXEL, 0.0, ymax, 0.0, -_PIXEL), (rows, cols))

    @classmethod
    def granule(cls, lon: float, lat: float, *, zone: int | None = None) -> Self:
        """The 20 m grid of the whole granule whose tile (:func:`mgrs_tile`) holds a place.

        It starts at the upper left corner of the tile's 100 km square, moved outwards to multiples of 60 m. ``zone`` is
        the place's own by default.
        """
        crs = f"EPSG:{utm_code(lon, lat, zone)}"
        x, y = _from_lonlat(crs, lon, lat)
        left, top = x // 100_000 * 100_000 // 60 * 60, -(-(y // 100_000 + 1) * 100_000 // 60) * 60
        return cls(crs, (left, _PIXEL, 0.0, top, 0.0, -_PIXEL), (FULL_SIZE, FULL_SIZE))

    @classmethod
    def covering(cls, xmin: float, ymin: float, xmax: float, ymax: float) -> Self:
        """A ``utm`` grid just large enough for a box of longitudes and latitudes.

        The box crosses the antimeridian if ``xmin`` > ``xmax``.

        Raises
        ------
        InputError
            If the box is empty or larger than a full granule.
        """
        box = (xmin, ymin, xmax, ymax)
        width = (xmax - xmin) % 360
        if not (width and -_LAST_LATITUDE <= ymin < ymax <= _LAST_LATITUDE):
            raise InputError(
                "bbox", box, "is not a box in the latitudes of Sentinel-2", "give xmin ymin xmax ymax in degrees"
            )
        lon, lat = (xmin + width / 2 + 180) % 360 - 180, (ymin + ymax) / 2
        crs = f"EPSG:{utm_code(lon, lat)}"
        x, y = _from_lonlat(crs, lon, lat)
        steps = np.linspace(0, 1, 21)
        edge = [_from_lonlat(crs, xmin + t * width, side) for t in steps for side in (ymin, ymax)]
        edge += [_from_lonlat(crs, side, ymin + t * (ymax - ymin)) for t in steps for side in (xmin, xmin + width)]
        # Two more pixels on each side: one for the snapping, one for a bilinear neighbour.
        cols, rows = (2 * ceil(max(abs(at[axis] - (x, y)[axis]) for at in edge) / _PIXEL + 2) for axis in (0, 1))
        if max(rows, cols) > FULL_SIZE:
            raise InputError(
                "bbox",
                box,
                f"needs {cols} x {rows} pixels, more than a granule has",
                f"keep to {FULL_SIZE} x {FULL_SIZE}",
            )
        return cls.utm(lon, lat, (rows, cols))

    def refined(self, factor: int) -> Self:
        """The grid on which each pixel is ``factor`` × ``factor`` pixels."""
        x0, dx, rx, y0, ry, dy = self.geotransform
        geotransform = (x0, dx / factor, rx / factor, y0, ry / factor, dy / factor)
        return type(self)(self.crs, geotransform, (self.shape[0] * factor, self.shape[1] * factor))

    @property
    def centre(self) -> tuple[float, float]:
        """Longitude and latitude of the grid's centre, degrees."""
        rows, cols = self.shape
        lon, lat = self.lonlat(np.array([cols / 2]), np.array([rows / 2]))
        return float(lon[0]), float(lat[0])

    @property
    def spatial_reference(self) -> osr.SpatialReference:
        """The coordinate system for GDAL, axes in the order of the geotransform."""
        reference = osr.SpatialReference()
        reference.SetFromUserInput(self.crs)
        reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
        return reference

    def lonlat(self, cols: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Longitude (−180 … 180) and latitude in degrees (EPSG:4326) of positions in pixels from the upper left corner.

        ``cols`` and ``rows`` have one shape; a pixel's centre lies at its indices plus 0.5.
        """
        here = gdal.GetDriverByName("MEM").Create("", 1, 1, 1, gdal.GDT_Byte)
        here.SetSpatialRef(self.spatial_reference)
        here.SetGeoTransform(self.geotransform)
        transformer = gdal.Transformer(here, None, ["DST_SRS=EPSG:4326"])
        # GDAL transforms rasters of coordinates in place: the one way to pass it millions of points at once.
        axes = [_raster(axis) for axis in (cols, rows, np.zeros_like(cols))]
        transformer.TransformGeolocations(*(axis.GetRasterBand(1) for axis in axes))
        lon, lat = (axis.ReadAsArray().reshape(np.shape(cols)) for axis in axes[:2])
        return lon, lat

    def centres(self, rows: slice = slice(None)) -> tuple[Floats, Floats]:
        """Longitude and latitude of the pixel centres of some rows, each of shape (rows, columns), float64."""
        line, column = np.mgrid[slice(*rows.indices(self.shape[0])), : self.shape[1]] + 0.5
        return self.lonlat(column, line)

    def blocks(self, pixels: int = 1 << 16) -> Iterator[slice]:
        """The grid's rows in runs of about ``pixels`` pixels, few enough for a processor's cache."""
        step = max(1, pixels // self.shape[1])
        return (slice(start, min(start + step, self.shape[0])) for start in range(0, self.shape[0], step))


def utm_zone(lon: float) -> int:
    """The UTM zone of a longitude, 1 … 60 (without the exceptions for Norway and Svalbard)."""
    return int((lon + 180) // 6) % 60 + 1


def utm_code(lon: float, lat: float, zone: int | None = None) -> int:
    """The EPSG code of a place's UTM zone (WGS 84): 326xx north, 327xx south."""
    return (32600 if lat >= 0 else 32700) + (zone or utm_zone(lon))


def mgrs_tile(lon: float, lat: float, *, zone: int | None = None) -> str:
    """The MGRS tile (100 km square) that holds a place, as Sentinel-2 names it without the T: ``06WVC``.

    Lettering: NGA.STND.0037, the scheme for WGS 84.
    """
    zone = zone or utm_zone(lon)
    x, y = _from_lonlat(f"EPSG:{utm_code(lon, lat, zone)}", lon, lat)
    band = _BANDS_OF_LATITUDE[min(max(int((lat + 80) // 8), 0), 19)]
    column = _COLUMNS[(zone - 1) % 3][min(max(int(x // 100_000), 1), 8) - 1]
    row = _ROWS[(int(y // 100_000) + (5 if zone % 2 == 0 else 0)) % 20]
    return f"{zone:02d}{band}{column}{row}"


def _from_lonlat(crs: str, lon: float, lat: float) -> tuple[float, float]:
    """Easting and northing of a place."""
    references = []
    for code in ("EPSG:4326", crs):
        reference = osr.SpatialReference()
        reference.SetFromUserInput(code)
        reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
        references.append(reference)
    x, y, _ = osr.CoordinateTransformation(*references).TransformPoint(lon, lat)
    return x, y


def _raster(values: Floats) -> gdal.Dataset:
    """``values`` as a float64 raster in memory, one line for each first index."""
    lines = np.atleast_2d(values)
    raster = gdal.GetDriverByName("MEM").Create("", lines.shape[1], lines.shape[0], 1, gdal.GDT_Float64)
    raster.GetRasterBand(1).WriteArray(lines)
    return raster
