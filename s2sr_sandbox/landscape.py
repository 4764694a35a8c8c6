"""The truth of the sandbox: a made-up Arctic landscape whose reflectance is known at every longitude and latitude.

Valleys with rivers and gravel bars, streams that drain their slopes, thaw lakes and patterned ground on the flats,
tundra that dries out towards bare ridges, all of it lit from one side. It never changes: what differs between two dates
is the sky (``sky.py``) and how the product was processed (``products.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from s2sr_sandbox.noise import EARTH_RADIUS, Floats, Waves, geocentric, ramp, warped

#: The Level-2A reflectance bands (B10 has none), in the order of the spectra below.
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")

# Surface reflectance by kind of ground, as large as Sen2Cor gives for tundra in summer. Deep lakes have none at all
# in the infrared, so that offsets and the clamp at 0 have an effect.
_SPECTRA = {
    #           B01    B02    B03    B04    B05    B06    B07    B08    B8A    B09    B11    B12
    "shrub":  (0.022, 0.027, 0.048, 0.035, 0.088, 0.230, 0.290, 0.305, 0.325, 0.330, 0.170, 0.085),
    "tussock": (0.034, 0.041, 0.061, 0.060, 0.115, 0.180, 0.210, 0.220, 0.240, 0.250, 0.250, 0.160),
    "bare":   (0.070, 0.080, 0.095, 0.106, 0.138, 0.155, 0.166, 0.174, 0.183, 0.190, 0.262, 0.225),
    "gravel": (0.125, 0.143, 0.168, 0.185, 0.260, 0.270, 0.280, 0.285, 0.290, 0.295, 0.340, 0.320),
    "shallow": (0.050, 0.055, 0.068, 0.045, 0.032, 0.020, 0.018, 0.016, 0.012, 0.010, 0.006, 0.004),
    "deep":   (0.018, 0.015, 0.012, 0.004, 0.001, 0.000, 0.000, 0.000, 0.000, 0.000, 0.000, 0.000),
}  # fmt: skip

#: Reflectance of each kind of ground by band.
SPECTRA = MappingProxyType({kind: dict(zip(BANDS, values, strict=True)) for kind, values in _SPECTRA.items()})

VEGETATION, NOT_VEGETATED, WATER = 4, 5, 6

# The sun is in the south-east, 50° from the zenith: a step of 30 m towards it, and the tangent of its distance.
_SUNWARD_EAST, _SUNWARD_NORTH = 17.0, -25.0
_TAN_ZENITH = 1.19


@dataclass(frozen=True, eq=False)
class Ground:
    """What the ground consists of at some places; every array has the shape of the given places.

    Attributes
    ----------
    shares: share of each kind of ground, 0 … 1; they add up to 1.
    height: metres above the rivers, about 0 … 900.
    light: factor on the reflectance, 0.35 … 1.7: slopes that face the sun are brighter; 1 on water.
    shelter: where snow lies longest, about −2 (windblown crests) … 2 (hollows that face away from the sun), no unit.
    """

    shares: dict[str, Floats]
    height: Floats
    light: Floats
    shelter: Floats

    def reflectance(self, band: str) -> Floats:
        """Surface reflectance in ``band``, 0 … 0.6, float64."""
        total = np.zeros_like(self.height)
        for kind, share in self.shares.items():
            total += SPECTRA[kind][band] * share
        return total * self.light

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
        lon, lat = np.asarray(lon, dtype=np.float64), np.asarray(lat, dtype=np.float64)
        position = geocentric(lon, lat)
        bend = warped(position, 900.0, self.seed, "winding", 7_000.0) - position
        winding = position + bend
        forms = self._forms(position, bend)
        # The bend changes so slowly that a place a few metres away has the same one.
        east, north = _SUNWARD_EAST / EARTH_RADIUS / np.cos(np.deg2rad(lat)), _SUNWARD_NORTH / EARTH_RADIUS
        sunward = self._forms(geocentric(lon + np.rad2deg(east), lat + np.rad2deg(north)), bend)
        facing = (forms.height - sunward.height) / hypot(_SUNWARD_EAST, _SUNWARD_NORTH)

        rough = warped(position, 60.0, self.seed, "rough", 900.0)
        tussocks, polygons = self._waves("tussocks", 75, rough, 12), self._waves("polygons", 210, rough, 12)
        fine = 0.9 * tussocks + polygons
        flat = 1 - ramp(forms.upland, 0.05, 0.75)

        # Thaw lakes lie on the flats, in basins wider than themselves; the rivers are where the valleys are deepest.
        basin = self._waves("lakes", 2_600, winding) + 0.45 * self._waves("bays", 800, position) + 1.5 * flat - 2.5
        meander = np.abs(forms.valley + 0.05 * self._waves("meanders", 1_700, position, 6))
        stream = np.abs(forms.side_valley)
        depth = np.maximum(basin, np.maximum(12 * (0.022 - meander), 8 * (0.012 - stream)))
        water = ramp(depth, -0.02, 0.04)
        deep = water * ramp(depth, 0.15, 0.6)
        bars = ramp(-meander, -0.075, -0.035) * ramp(fine + 1.4 * self._waves("bars", 900, winding, 6), 0.0, 1.8)
        gravel = (1 - water) * bars

        wet = ramp(basin, -0.9, -0.1) + 0.8 * ramp(-stream, -0.12, -0.02) + 0.6 * ramp(-forms.crease, -0.25, -0.05)
        dry = (
            0.55 * self._waves("soils", 3_200, winding)
            + 0.45 * self._waves("patches", 700, position)
            + 0.22 * fine
            + 2.0 * facing
            + 1.3 * (forms.upland - 0.55)
            + 0.9 * (np.abs(forms.gully) - 0.7)
            - 0.9 * wet
        )
        land = 1 - water - gravel
        bare = land * ramp(dry, 1.0, 2.6)
        shrub = (land - bare) * (1 - ramp(dry, -1.9, 0.3))
        tussock = land - bare - shrub
        shares = {
            "shrub": shrub,
            "tussock": tussock,
            "bare": bare,
            "gravel": gravel,
            "shallow": water - deep,
            "deep": deep,
        }
        # On the flats, a net of wet troughs between polygons is darker than their centres.
        troughs = flat * (1 - ramp(np.abs(polygons), 0.0, 0.6))
        light = (1 + _TAN_ZENITH * facing) / np.sqrt(1 + facing**2) + 0.04 * fine - 0.16 * troughs
        light = 1 + (1 - water) * (np.clip(light, 0.35, 1.7) - 1)
        shelter = -5.0 * water - 4.0 * facing + 0.8 * (0.7 - np.abs(forms.gully)) + 0.8 * ramp(-forms.crease, -0.4, 0.0)
        return Ground(shares, forms.height, light, shelter)

    def _forms(self, position: Floats, bend: Floats) -> _Forms:
        """The relief: valleys of three sizes, each a crease where a field changes sign, and the ground between them."""
        winding = position + bend
        valley = self._waves("rivers", 17_000, winding, 6)
        side = self._waves("valleys", 5_200, winding)
        gully = self._waves("gullies", 1_700, position + 0.3 * bend)
        crease = np.abs(self._waves("creases", 560, position))
        upland = _rounded(valley, 0.3)
        rugged = np.minimum(upland + 0.08, 1.2)
        height = 230 * upland + rugged * (150 * _rounded(side, 0.08) + 62 * _rounded(gully, 0.1))
        height += (2.0 + 13 * rugged) * _rounded(crease, 0.15) + 3.0 * self._waves("knolls", 260, position)
        return _Forms(height, upland, valley, side, gully, crease)

    def _waves(self, name: str, wavelength: float, position: Floats, count: int = 8) -> Floats:
        return Waves(self.seed, name, wavelength, count)(position)


@dataclass(frozen=True, eq=False)
class _Forms:
    """Height in metres, and the fields that it consists of; ``upland`` is 0 in the main valleys."""

    height: Floats
    upland: Floats
    valley: Floats
    side_valley: Floats
    gully: Floats
    crease: Floats


def _rounded(field: Floats, floor: float) -> Floats:
    """The absolute value, with a floor about ``floor`` wide instead of the crease at 0."""
    return np.sqrt(field**2 + floor**2) - floor
