"""What the files of a product say about its one granule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath

from s2sr_core.products.names import ProductName
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.orbit import absolute_orbit


@dataclass(frozen=True)
class Granule:
    """One product's granule, without its pixels.

    Attributes
    ----------
    name: the product.
    grid: the grid of its pixels.
    bands: the reflectance bands it holds, in order.
    scan_start: when its first line was seen, UTC; the name's sensing time is the datatake's, some seconds earlier.
    footprint: closed ring of (longitude, latitude), degrees.
    class_counts: how many pixels there are of each SCL class, 0 first.
    bands_10m: the reflectance bands of which it also has images of 10 m.
    """

    name: ProductName
    grid: Grid
    bands: tuple[str, ...]
    scan_start: datetime
    footprint: Sequence[tuple[float, float]]
    class_counts: tuple[int, ...]
    bands_10m: tuple[str, ...] = ()

    @property
    def orbit(self) -> int:
        """The absolute orbit number."""
        return absolute_orbit(self.name)

    @property
    def folder(self) -> PurePosixPath:
        """The granule's folder inside the product."""
        return PurePosixPath("GRANULE", f"L2A_T{self.name.tile}_A{self.orbit:06d}_{self.scan_start:%Y%m%dT%H%M%S}")

    def image(self, band: str, resolution: int = 20) -> PurePosixPath:
        """The file of a band (or SCL) inside the product."""
        stem = f"T{self.name.tile}_{self.name.sensing_time:%Y%m%dT%H%M%S}"
        return self.folder / "IMG_DATA" / f"R{resolution}m" / f"{stem}_{band}_{resolution}m.jp2"

    @property
    def images(self) -> dict[str, PurePosixPath]:
        """Every image file of 20 m, SCL last."""
        return {band: self.image(band) for band in (*self.bands, "SCL")}

    @property
    def images_10m(self) -> dict[str, PurePosixPath]:
        """Every image file of 10 m."""
        return {band: self.image(band, 10) for band in self.bands_10m}

    @property
    def footprint_text(self) -> str:
        """The footprint as products write it: latitude before longitude, all on one line, with a space at the end."""
        return "".join(f"{lat:.9g} {lon:.10g} " for lon, lat in self.footprint)

    def percentage(self, classes: Iterable[int]) -> str:
        """The share of some SCL classes in the pixels that are not nodata, in percent."""
        return f"{100 * sum(self.class_counts[scl] for scl in classes) / max(sum(self.class_counts[1:]), 1):.6f}"

    @property
    def nodata_percentage(self) -> str:
        """The share of nodata (SCL 0) in all pixels, in percent."""
        return f"{100 * self.class_counts[0] / sum(self.class_counts):.6f}"


def scan_start(name: ProductName, along: float) -> datetime:
    """When a granule of which the part from the fraction ``along`` southward was seen came into view."""
    # The datatake begins before the granule; 110 km pass below in 16 s.
    return name.sensing_time + timedelta(seconds=3 + round(16 * along))
