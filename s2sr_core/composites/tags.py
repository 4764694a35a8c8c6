"""What a GeoTIFF says of itself: metadata that make it understood without its record.

Nothing here depends on when, where or by which engine a composite was computed: equal runs write equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from s2sr_core import __version__
from s2sr_core.periods import Period
from s2sr_core.pixels.statistics import DN_SCALE, DN_UNIT, Statistic
from s2sr_core.products.bands import SPECTRA
from s2sr_core.run_context import RunContext

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Tags:
    """Metadata of a raster with one band, by GDAL's domains.

    Attributes
    ----------
    raster: of the dataset; GDAL writes those named ``TIFFTAG_…`` as TIFF's own tags.
    band: of the band.
    imagery: of the band, in GDAL's domain IMAGERY.
    unit: of the pixels.
    scale: GDAL's, which readers may apply; None if there is none.
    """

    raster: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    band: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    imagery: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    unit: str = ""
    scale: float | None = None


def tags_of(
    context: RunContext,
    cell_id: str,
    band: str,
    statistic: Statistic,
    sensing_times: Sequence[datetime],
    period: Period,
) -> Tags:
    """The metadata of a composite of scenes that were sensed at ``sensing_times``, in ``period``."""
    is_dn, parameters = statistic.unit == DN_UNIT, context.parameters
    raster = {
        "TIFFTAG_SOFTWARE": f"s2sr {__version__}",
        "TIFFTAG_COPYRIGHT": attribution(sensing_times),
        "CELL_ID": cell_id,
        "STATISTIC": statistic.name,
        "SCENES": str(len(sensing_times)),
        "PERIOD": f"{_shown(period.start)}/{_shown(period.end)}",
        "MASK": context.mask.in_words(),
    }
    if period.label:
        raster["PERIOD_LABEL"] = period.label
    if parameters.months is not None:
        raster["MONTHS"] = " ".join(map(str, parameters.months))
    if sensing_times:
        raster |= {"FIRST_ACQUISITION": _shown(min(sensing_times)), "LAST_ACQUISITION": _shown(max(sensing_times))}
    spectrum = SPECTRA[band]
    return Tags(
        raster=raster,
        band={"REFLECTANCE_SCALE": str(DN_SCALE)} if is_dn else {},
        imagery={"CENTRAL_WAVELENGTH_UM": f"{spectrum.centre:.3f}", "FWHM_UM": f"{spectrum.width:.3f}"},
        unit=statistic.unit,
        scale=DN_SCALE if is_dn and parameters.gdal_scale else None,
    )


def attribution(sensing_times: Sequence[datetime]) -> str:
    """The notice that the Sentinel data legal notice asks for on what is made of its data, with the years of sensing.

    Some years in a row are written as a span.
    """
    years = sorted({time.year for time in sensing_times})
    spans: list[list[int]] = []
    for year in years:
        if spans and year == spans[-1][-1] + 1:
            spans[-1].append(year)
        else:
            spans.append([year])
    shown = ", ".join(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans)
    return f"Contains modified Copernicus Sentinel data [{shown}]"


def _shown(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"
