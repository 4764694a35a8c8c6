"""Smooth random fields on the sphere, from which landscapes and skies are made.

A field is a sum of plane waves in geocentric metres. So it has a value at every longitude and latitude, whatever the
tile, coordinate system or window, and no seam at the antimeridian or the poles.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

type Floats = NDArray[np.float64]

#: Mean radius of the Earth in metres (IUGG). Distances on the ground need no ellipsoid here.
EARTH_RADIUS = 6_371_008.8


def geocentric(lon: Floats, lat: Floats) -> Floats:
    """Positions in metres from the centre of a spherical Earth, axes first: shape ``(3, *lon.shape)``.

    ``lon`` and ``lat`` are degrees (EPSG:4326), of the same shape.
    """
    lon, lat = np.deg2rad(lon), np.deg2rad(lat)
    across = np.cos(lat)
    return EARTH_RADIUS * np.stack([across * np.cos(lon), across * np.sin(lon), np.sin(lat)])


@dataclass(frozen=True)
class Waves:
    """A random field with zero mean and unit variance, about normally distributed.

    Attributes
    ----------
    seed: the same seed and name give the same field.
    name: what the field is for; fields with the same seed and other names are independent.
    wavelength: metres; the waves spread from 0.6 to 1.6 times it.
    count: how many waves are summed; more waves are less regular and cost more.
    """

    seed: int
    name: str
    wavelength: float
    count: int = 8

    def __call__(self, position: Floats) -> Floats:
        """The field at ``position`` (shape ``(3, …)``, geocentric metres); the shape of one axis."""
        total = np.zeros(position.shape[1:])
        for (x, y, z), phase in zip(*_drawn(self), strict=True):
            cycles = x * position[0] + y * position[1] + z * position[2] + phase
            cycles -= np.rint(cycles)
            # Two parabolas instead of a sine: nearly its shape at a quarter of the cost.
            total += cycles * (8 - 16 * np.abs(cycles))
        return total / sqrt(self.count * 8 / 15)  # 8/15 is the variance of one such wave


@cache
def _drawn(waves: Waves) -> tuple[Floats, Floats]:
    """Wave vectors in cycles per metre, shape (count, 3), and phases in cycles, shape (count,)."""
    random = np.random.default_rng([waves.seed, zlib.crc32(waves.name.encode())])
    # A golden spiral turned at random covers all directions evenly, so no place gets a field without relief.
    step = np.arange(waves.count) + 0.5
    height = 1 - 2 * step / waves.count
    turn = step * pi * (3 - sqrt(5))
    around = np.sqrt(1 - height**2)
    spiral = np.stack([around * np.cos(turn), around * np.sin(turn), height], axis=1)
    rotation, _ = np.linalg.qr(random.standard_normal((3, 3)))
    lengths = waves.wavelength * np.exp(random.uniform(np.log(0.6), np.log(1.6), waves.count))
    return spiral @ rotation / lengths[:, None], random.random(waves.count)


def warped(position: Floats, by: float, seed: int, name: str, wavelength: float) -> Floats:
    """``position`` shifted by smooth random vectors of about ``by`` metres, so that waves lose their regularity."""
    shifts = [Waves(seed, f"{name} {axis}", wavelength, 4)(position) for axis in "xyz"]
    return position + by * np.stack(shifts)


def ramp(field: Floats, low: float, high: float) -> Floats:
    """0 below ``low``, 1 above ``high``, smooth between (Hermite)."""
    t = np.clip((field - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)
