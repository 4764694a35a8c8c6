"""What is between the satellite and the landscape at one sensing time: clouds, their shadows, cirrus, some snow.

Two things also change what a product shows where the ground is clear, and are left out unless asked for: haze, which
the atmospheric correction did not remove, and the angle from which the ground is seen. Both are functions of place.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from s2sr_sandbox.landscape import BANDS
from s2sr_sandbox.noise import EARTH_RADIUS, Floats, Waves, geocentric, ramp, warped

CLEAR = 0
DARK, SHADOW, UNCLASSIFIED, CLOUD_MEDIUM, CLOUD_HIGH, CIRRUS, SNOW = 2, 3, 7, 8, 9, 10, 11

# Reflectance of an opaque cloud and of old snow: both bright, but snow is dark in the short-wave infrared.
_CLOUD = dict(zip(BANDS, (0.62, 0.62, 0.61, 0.62, 0.64, 0.66, 0.67, 0.67, 0.68, 0.60, 0.52, 0.42), strict=True))
_SNOW = dict(zip(BANDS, (0.78, 0.80, 0.80, 0.80, 0.80, 0.79, 0.78, 0.77, 0.75, 0.70, 0.09, 0.07), strict=True))

# The remaining share of the ground's reflectance in the classes that darken it.
_SEEN = MappingProxyType({DARK: 0.35, UNCLASSIFIED: 0.80})

# Haze in each band relative to B02: about the square of the wavelength, and none in the short-wave infrared.
_HAZE = dict(zip(BANDS, (1.2, 1.0, 0.75, 0.55, 0.48, 0.44, 0.40, 0.36, 0.33, 0.28, 0.0, 0.0), strict=True))

# Height of the satellites' orbit in metres (Sentinel-2 mission guide).
_ORBIT_HEIGHT = 786_000.0
# How much brighter the ground is per degree that it is seen with the sun behind the satellite (west of the track here);
# at the edge of a swath, at 10°, that makes the 5 to 10 % by which real orbits differ over tundra.
_PER_DEGREE = 0.006

# The sun is in the south-east, 50° from the zenith: the shadow of a cloud at 1.5 km falls 1.8 km to the north-west.
_SHADOW_NORTH, _SHADOW_WEST = 1_500.0, 1_000.0


@dataclass(frozen=True, eq=False)
class Cover:
    """What covers some places; every array has the shape of the given places.

    Attributes
    ----------
    scl: 0 where the ground is clear, otherwise 2, 3, 7, 8, 9, 10 or 11; uint8.
    opacity: share of the light that comes from cloud or snow, 0 … 1; 0 where clear.
    shade: factor on the reflectance below, 0.3 … 0.75 in the shadow of a cloud; 1 elsewhere.
    haze: reflectance that haze adds to the ground's in B02; 0 … the sky's ``haze``.
    glance: factor on the ground's reflectance by the angle of view, 0.94 … 1.06 within a swath.
    """

    scl: NDArray[np.uint8]
    opacity: Floats
    shade: Floats
    haze: Floats
    glance: Floats

    def classes(self, ground: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """SCL of the scene: ``ground``'s classes where it is clear, uint8."""
        return np.where(self.scl == CLEAR, ground, self.scl)

    def reflectance(self, band: str, ground: Floats) -> Floats:
        """Reflectance of the scene in ``band``; where it is clear without haze or track, exactly ``ground``."""
        clear: Floats = ground * self.glance + _HAZE[band] * self.haze
        seen = clear * self.shade * np.select([self.scl == scl for scl in _SEEN], list(_SEEN.values()), 1.0)
        white = np.where(self.scl == SNOW, _SNOW[band], _CLOUD[band])
        return np.where(self.scl == CLEAR, clear, (1 - self.opacity) * seen + self.opacity * white)


@dataclass(frozen=True)
class Sky:
    """The sky at one sensing time, a function of longitude and latitude like the landscape below it.

    Attributes
    ----------
    seed: each seed is another sky.
    cloud_cover: share of SCL 8, 9 and 10 over a large area, 0 … 1; a small granule has more or less by chance.
    snow: share of snow (SCL 11) where there is no cloud; SCL 2 and 7 together have the same share.
    haze: the most that haze and the fringes of cirrus add to the reflectance in B02, where SCL calls the ground clear.
    track: longitude of the satellite's ground track near the place, degrees; None: everything is seen from above.
    """

    seed: int
    cloud_cover: float
    snow: float = 0.005
    haze: float = 0.0
    track: float | None = None

    def cover(self, lon: Floats, lat: Floats, shelter: Floats | None = None) -> Cover:
        """What covers each place; ``lon`` and ``lat`` are degrees (EPSG:4326) of one shape.

        ``shelter`` is the landscape's (see ``Ground``): snow then lies in hollows, in the same ones on every date.
        """
        lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
        position = geocentric(lon, lat)
        east, south = _SHADOW_WEST / EARTH_RADIUS / np.cos(np.deg2rad(lat)), _SHADOW_NORTH / EARTH_RADIUS
        depth = self._clouds(position)
        overhead = self._clouds(geocentric(lon + np.rad2deg(east), lat - np.rad2deg(south)))
        veil = self._cirrus(position)
        frost = self._snow(position, shelter)
        speckle = self._waves("specks", 160, position)
        rare = _exceeded(self.snow / 2)
        classes = {
            CLOUD_HIGH: depth > 0.30,
            CLOUD_MEDIUM: depth > 0,
            CIRRUS: veil > 0,
            SHADOW: overhead > 0.1,
            SNOW: frost > _exceeded(self.snow),
            UNCLASSIFIED: speckle > rare,
            DARK: speckle < -rare,
        }
        scl = np.select(list(classes.values()), [np.uint8(c) for c in classes], np.uint8(CLEAR))
        white = [scl == SNOW, scl == CIRRUS, (scl == CLOUD_HIGH) | (scl == CLOUD_MEDIUM)]
        thin, thick = 0.02 + 0.34 * ramp(veil, -0.1, 1.8), 0.95 * ramp(depth, -0.1, 0.7)
        melting = 0.35 + 0.6 * ramp(frost, _exceeded(self.snow), _exceeded(self.snow / 4))
        opacity = np.select(white, [melting, thin, thick], 0.0)
        shade = np.where(overhead > 0.1, 0.75 - 0.45 * ramp(overhead, 0.1, 0.45), 1.0)
        return Cover(scl, opacity, shade, self._haze(position, veil), self._glance(lon, lat))

    def _snow(self, position: Floats, shelter: Floats | None) -> Floats:
        """A field that exceeds ``_exceeded(snow)`` where snow lies; patches are ragged."""
        ragged = self._waves("snow", 1_100, position) + 0.7 * self._waves("drifts", 220, position)
        if shelter is None:
            return ragged / sqrt(1 + 0.7**2)
        return 0.2 * ragged + shelter

    def _haze(self, position: Floats, veil: Floats) -> Floats:
        """What haze adds in B02: a broad field, and cirrus that is too thin for SCL around the cirrus that it sees."""
        if not self.haze:
            return np.zeros(position.shape[1:])
        broad = ramp(self._waves("haze", 40_000, position), -1.5, 2.5)
        return self.haze * np.clip(0.7 * broad + 0.6 * ramp(veil, -0.7, 0.1), 0.0, 1.0)

    def _glance(self, lon: Floats, lat: Floats) -> Floats:
        """The factor of the angle of view: more than 1 west of the track."""
        if self.track is None:
            return np.ones_like(lon)
        west = (self.track - lon + 180) % 360 - 180
        metres = np.deg2rad(west) * np.cos(np.deg2rad(lat)) * EARTH_RADIUS
        return 1 + _PER_DEGREE * np.rad2deg(np.arctan(metres / _ORBIT_HEIGHT))

    @property
    def _opaque(self) -> float:
        """The share of the opaque clouds, SCL 8 and 9; cirrus makes up the rest of the cloud cover."""
        return 0.88 * self.cloud_cover

    def _clouds(self, position: Floats) -> Floats:
        """Above 0 inside the opaque clouds, about 1 in their thick parts."""
        torn = warped(position, 260.0, self.seed, "torn", 2_600.0)
        heaps = self._waves("clouds", 5_200, torn, 16)
        heaps += 0.45 * self._waves("edges", 1_300, torn) + 0.2 * self._waves("wisps", 400, torn)
        return heaps / sqrt(1 + 0.45**2 + 0.2**2) - _exceeded(self._opaque)

    def _cirrus(self, position: Floats) -> Floats:
        """Above 0 inside the thin clouds."""
        stretched = warped(position, 4_000.0, self.seed, "veil", 30_000.0)
        share = 1 - (1 - self.cloud_cover) / (1 - self._opaque)
        fibres = self._waves("cirrus", 14_000, stretched) + 0.4 * self._waves("fibres", 2_200, stretched, 6)
        return fibres / sqrt(1 + 0.4**2) - _exceeded(share)

    def _waves(self, name: str, wavelength: float, position: Floats, count: int = 8) -> Floats:
        return Waves(self.seed, name, wavelength, count)(position)


def _exceeded(share: float) -> float:
    """The value that a normally distributed field exceeds over ``share`` of the ground."""
    return NormalDist().inv_cdf(min(max(1 - share, 1e-9), 1 - 1e-9))
