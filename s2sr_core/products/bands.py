"""The images of an L2A product."""

from __future__ import annotations

from dataclasses import dataclass

#: The reflectance bands that L2A products hold at 20 m in every baseline (PSD, "L2A product: image data").
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12")
#: Those that they hold at 10 m: of B08 there is no image of 20 m.
BANDS_10M = ("B02", "B03", "B04", "B08")
#: Red, green and blue.
TRUE_COLOUR = ("B04", "B03", "B02")
#: The scene classification, which they hold at 20 m.
SCL = "SCL"
#: Metres per pixel of the images that are used unless others are asked for, and of SCL in any case.
RESOLUTION = 20
#: Rows and columns of the JPEG 2000 tiles of bands, by metres per pixel.
TILE_SIDE = {20: 640, 10: 1024}


def bands_at(resolution: int) -> tuple[str, ...]:
    """The reflectance bands of which products hold images of ``resolution`` metres, 10 or 20."""
    return BANDS_10M if resolution == 10 else BANDS


def role_at(band: str, resolution: int) -> str:
    """What the image of a band is called among a product's files: ``B04`` at 20 m, ``B04_10m`` at 10 m."""
    return band if band == SCL or resolution == RESOLUTION else f"{band}_{resolution}m"


def resolution_of(role: str) -> int:
    """Metres per pixel of the image of a role."""
    return 10 if role.endswith("_10m") else RESOLUTION


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Where a band lies in the spectrum.

    Attributes
    ----------
    centre, width: central wavelength and full width at half maximum, micrometres.
    common_name: as STAC's electro-optical extension calls such bands.
    """

    centre: float
    width: float
    common_name: str


#: The nominal values of all satellites (ESA, Sentinel-2 User Handbook, issue 1 revision 2, 2015, section 1.4: spectral
#: bands). Each satellite's own, in the metadata of its products, differ by some nm; a composite holds several's.
SPECTRA = {
    "B02": Spectrum(0.490, 0.065, "blue"),
    "B03": Spectrum(0.560, 0.035, "green"),
    "B04": Spectrum(0.665, 0.030, "red"),
    "B05": Spectrum(0.705, 0.015, "rededge"),
    "B06": Spectrum(0.740, 0.015, "rededge"),
    "B07": Spectrum(0.783, 0.020, "rededge"),
    "B08": Spectrum(0.842, 0.115, "nir"),
    "B8A": Spectrum(0.865, 0.020, "nir08"),
    "B11": Spectrum(1.610, 0.090, "swir16"),
    "B12": Spectrum(2.190, 0.180, "swir22"),
}
#: Every band that composites are made of, at either resolution.
ALL_BANDS = tuple(SPECTRA)
