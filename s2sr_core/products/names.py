"""The name of a Sentinel-2 L2A product, taken apart.

Naming convention: Sentinel-2 Products Specification Document (S2-PDGS-TAS-DI-PSD), "Compact naming convention":
``MMM_MSIL2A_YYYYMMDDHHMMSS_Nxxyy_ROOO_Txxxxx_<discriminator>.SAFE``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from s2sr_core.errors import ProductError, Step

_PATTERN = re.compile(
    r"(?P<mission>S2[A-Z])_MSI(?P<level>L1C|L2A)_(?P<sensing>2\d{7}T\d{6})_N(?P<baseline>\d{4})"
    r"_R(?P<orbit>\d{3})_T(?P<tile>\d{2}[A-Z]{3})_(?P<discriminator>2\d{7}T\d{6})",
    re.ASCII,
)
_FIELDS = ((0, 4), (4, 6), (6, 8), (9, 11), (11, 13), (13, 15))
_TILE = re.compile(r"(0[1-9]|[1-5]\d|60)[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V]", re.ASCII)


def is_tile(text: str) -> bool:
    """Whether ``text`` is an MGRS tile as Sentinel-2 writes it without the T (``05WPM``)."""
    return _TILE.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, order=True)
class ProductName:
    """One product's name; ``str()`` gives it back without ``.SAFE``.

    Attributes
    ----------
    mission: ``S2A``, ``S2B``, ``S2C`` …
    sensing_time: start of sensing, UTC, to the second.
    baseline: processing baseline as ``05.09``.
    relative_orbit: 1 … 143.
    tile: MGRS tile without the T, ``05WPM``.
    discriminator: product discriminator, UTC; newer is later processing.
    """

    mission: str
    sensing_time: datetime
    baseline: str
    relative_orbit: int
    tile: str
    discriminator: datetime
    _text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Made once: a plan needs the texts of a hundred thousand names, many times each.
        text = (
            f"{self.mission}_MSIL2A_{_digits(self.sensing_time)}_N{self.baseline.replace('.', '')}"
            f"_R{self.relative_orbit:03d}_T{self.tile}_{_digits(self.discriminator)}"
        )
        object.__setattr__(self, "_text", text)

    @classmethod
    def parse(cls, name: str) -> Self:
        """Take ``name`` (with or without ``.SAFE``) apart.

        Raises
        ------
        ProductError
            If the name is not that of a Level-2A product.
        """
        match = _PATTERN.fullmatch(name.removesuffix(".SAFE"))
        if match is None:
            raise ProductError(name, "is not named like a Sentinel-2 Level-2A product", step=Step.NAME)
        if match["level"] != "L2A":
            raise ProductError(name, "is Level-1C; only Level-2A has SCL", step=Step.NAME)
        if not is_tile(match["tile"]):
            raise ProductError(name, f"T{match['tile']} is not an MGRS tile", step=Step.NAME)
        if not 1 <= int(match["orbit"]) <= 143:
            raise ProductError(name, f"R{match['orbit']} is not a relative orbit (001 to 143)", step=Step.NAME)
        try:
            sensing, discriminator = _time(match["sensing"]), _time(match["discriminator"])
        except ValueError as error:
            raise ProductError(name, f"holds no valid time ({error})", step=Step.NAME) from error
        baseline = f"{match['baseline'][:2]}.{match['baseline'][2:]}"
        return cls(match["mission"], sensing, baseline, int(match["orbit"]), match["tile"], discriminator)

    def __str__(self) -> str:
        return self._text

    @property
    def folder(self) -> str:
        """The name of the product's folder, ``….SAFE``."""
        return f"{self}.SAFE"


# Without strptime, which would take most of the time of a plan that parses and writes a hundred thousand names.


def _time(text: str) -> datetime:
    """``20190701T214529`` as UTC."""
    year, month, day, hour, minute, second = (text[start:stop] for start, stop in _FIELDS)
    return datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)


def _digits(time: datetime) -> str:
    return time.isoformat(timespec="seconds")[:19].replace("-", "").replace(":", "")
