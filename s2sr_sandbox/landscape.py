"""The truth of the sandbox: a made-up Arctic landscape whose reflectance is known at every longitude and latitude.

Tundra on rolling ground, thaw lakes in the hollows, rivers with gravel bars, bare ridges. It never changes: what
differs between two dates is the sky (``sky.py``) and how the product was processed (``products.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from s2sr_sandbox.noise import Floats, Waves, geocentric, ramp, warped

#: The Level-2A reflectance bands (B10 has none), in the order of the spectra below.
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")

# Surface reflectance by kind of ground, as large as Sen2Cor gives for tundra in summer. Deep lakes have none at all
# in the infrared, so that offsets and the clamp at 0 have an effect.
_SPECTRA = {
    #           B01    B02    B03    B04    B05    B06    B07    B08    B8A    B09    B11    B12
    "shrub":  (0.020, 0.025, 0.050, 0.032, 0.088, 0.230, 0.290, 0.305, 0.325, 0.330, 0.170, 0.085),
    "tussock": (0.035, 0.042, 0.066, 0.070, 0.115, 0.180, 0.210, 0.220, 0.240, 0.250, 0.250, 0.160),
    "bare":   (0.072, 0.083, 0.102, 0.118, 0.138, 0.155, 0.166, 0.174, 0.183, 0.190, 0.262, 0.225),
    "gravel": (0.150, 0.175, 0.215, 0.240, 0.260, 0.270, 0.280, 0.285, 0.290, 0.295, 0.340, 0.320),
    "shallow": (0.050, 0.055, 0.068, 0.045, 0.032, 0.020, 0.018, 0.016, 0.012, 0.010, 0.006, 0.004),
    "deep":   (0.018, 0.015, 0.012, 0.004, 0.001, 0.000, 0.000, 0.000, 0.000, 0.000, 0.000, 0.000),
}  # fmt: skip

#: Reflectance of each kind of ground by band.
SPECTRA = MappingProxyType({kind: dict(zip(BANDS, values, strict=True)) for kind, values in _SPECTRA.items()})

VEGETATION, NOT_VEGETATED, WATER = 4, 5, 6


@dataclass(frozen=True, eq=False)
class Ground:
    """What the ground consists of at some places; every array has the shape of the given places.

    Attributes
    ----------
    shares: share of each kind of ground, 0 … 1; they add up to 1.
    relief: height of the ground, no unit, about −2 (hollows) … 2 (ridges).
    texture: factor on the reflectance of the land, about 0.7 … 1.3.
    """

    shares: dict[str, Floats]
    relief: Floats
    texture: Floats

    def reflectance(self, band: str) -> Floats:
        """Surface reflectance in ``band``, 0 … 0.6, float64."""
        total = np.zeros_like(self.relief)
        for kind, share in self.shares.items():
            total += SPECTRA[kind][band] * share
        return total * self.texture

    def classes(self) -> NDArray[np.uint8]:
        """SCL of the clear ground: 4 vegetation, 5 not vegetated, 6 water."""
        water = self.shares["shallow"] + self.shares["deep"] > 0.5
        green = self.shares["shrub"] + self.shares["tussock"] > 0.5
        return np.select([water, green], [np.uint8(WATER), np.uint8(VEGETATION)], np.uint8(NOT_VEGETATED))


@dataclass(frozen=True)
class Landscape:
    """The truth for one ``seed``, a function of longitude and latitude alone (degrees, EPSG:4326)."""

    seed: int = 0

    def reflectance(self, band: str, lon: Floats, lat: Floats) -> Floats:
        """Surface reflectance in ``band`` at each place, 0 … 0.6, float64; ``ground`` is cheaper for several bands."""
        return self.ground(lon, lat).reflectance(band)

    def classes(self, lon: Floats, lat: Floats) -> NDArray[np.uint8]:
        """SCL of the clear ground at each place: 4 vegetation, 5 not vegetated, 6 water."""
        return self.ground(lon, lat).classes()

    def ground(self, lon: Floats, lat: Floats) -> Ground:
        """What the ground consists of at each place; ``lon`` and ``lat`` have the same shape."""
        position = geocentric(np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64))
        winding = warped(position, 900.0, self.seed, "winding", 7_000.0)
        relief = 0.8 * self._waves("hills", 21_000, position) + 0.6 * self._waves("slopes", 5_000, winding)
        rough = warped(position, 60.0, self.seed, "rough", 900.0)
        fine = 0.9 * self._waves("tussocks", 75, rough, 12) + self._waves("polygons", 240, rough, 12)

        # Thaw lakes gather in the hollows; a river runs where a slow field changes sign.
        lake = self._waves("lakes", 2_600, winding) + 0.45 * self._waves("bays", 800, position) - 0.75 * relief - 1.75
        course = np.abs(self._waves("rivers", 26_000, winding, 6))
        river = 0.035 - course
        depth = np.maximum(lake, 12 * river)
        water = ramp(depth, -0.02, 0.04)
        deep = water * ramp(depth, 0.15, 0.6)

        gravel = (
            (1 - water) * ramp(-course, -0.085, -0.05) * ramp(fine + self._waves("bars", 900, winding, 6), -0.2, 1.4)
        )
        dry = (
            self._waves("soils", 3_200, winding)
            + 0.5 * self._waves("patches", 700, position)
            + 0.22 * fine
            + 0.9 * relief
        )
        land = 1 - water - gravel
        bare = land * ramp(dry, 1.1, 2.2)
        shrub = (land - bare) * (1 - ramp(dry, -1.4, 0.6))
        tussock = land - bare - shrub
        shares = {
            "shrub": shrub,
            "tussock": tussock,
            "bare": bare,
            "gravel": gravel,
            "shallow": water - deep,
            "deep": deep,
        }
        return Ground(shares, relief, 1 + (1 - water) * np.clip(0.06 * fine + 0.05 * relief, -0.3, 0.3))

    def _waves(self, name: str, wavelength: float, position: Floats, count: int = 8) -> Floats:
        return Waves(self.seed, name, wavelength, count)(position)
