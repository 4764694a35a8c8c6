"""The name of a Sentinel-2 L2A product, taken apart.

Naming convention: Sentinel-2 Products Specification Document (S2-PDGS-TAS-DI-PSD), "Compact naming convention":
``MMM_MSIL2A_YYYYMMDDHHMMSS_Nxxyy_ROOO_Txxxxx_<discriminator>.SAFE``.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from s2sr_core.errors import OtherKindError, ProductError, Step

_PATTERN = re.compile(
    r"(?P<mission>S2[A-Z])_MSI(?P<level>L1C|L2A)_(?P<sensing>2\d{7}T\d{6})_N(?P<baseline>\d{4})"
    r"_R(?P<orbit>\d{3})_T(?P<tile>\d{2}[A-Z]{3})_(?P<discriminator>2\d{7}T\d{6})",
    re.ASCII,
)
_ANYWHERE = re.compile(_PATTERN.pattern, re.ASCII | re.IGNORECASE)
_SAFE = re.compile(r"\.safe", re.IGNORECASE)
#: An L2A product in another format than .SAFE.
_OTHER_FORMAT = re.compile(rf"{_PATTERN.pattern}(?:\.SAFE)?(?P<format>\.(?!(?i:safe))\w+|_COG)(?:\.SAFE)?", re.ASCII)
#: Products of Sentinel-2 at another level, or in the naming before 2017 that does not say Level-2A; of other Sentinels.
_OTHER_SENTINEL = re.compile(
    r"S2[A-Z]_(?:MSIL(?!2A)\d[A-Z]_|(?:OPER|USER)_(?!.*L2A)).+|S[13-6][A-Z_]_[A-Z0-9]{2,4}_.+", re.ASCII
)
_TILE = re.compile(r"(0[1-9]|[1-5]\d|60)[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V]", re.ASCII)


def is_tile(text: str) -> bool:
    """Whether ``text`` is an MGRS tile as Sentinel-2 writes it without the T (``05WPM``)."""
    return _TILE.fullmatch(text) is not None


def without_suffix(name: str) -> str:
    """``name`` without ``.SAFE``, in capital letters or small ones."""
    return name[:-5] if _SAFE.fullmatch(name[-5:]) else name


def looks_like_product(name: str) -> bool:
    """Whether ``name`` (with or without ``.SAFE``) is built like that of a Sentinel-2 Level-1C or Level-2A product."""
    return _PATTERN.fullmatch(without_suffix(name)) is not None


def product_named_in(name: str) -> str | None:
    """The name of a product, in capital letters, that ``name`` holds, as those of copies do (``X (1)``, ``x.safe``)."""
    match = _ANYWHERE.search(name)
    return None if match is None else match[0].upper()


def is_zarr(name: str) -> bool:
    """Whether ``name`` is that of a Sentinel-2 product in the format zarr."""
    match = _OTHER_FORMAT.fullmatch(name)
    return match is not None and match["format"].lower() == ".zarr"


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
    _parsed: str = field(default="", init=False, repr=False, compare=False)

    @classmethod
    def parse(cls, name: str) -> Self:
        """Take ``name`` (with or without ``.SAFE``) apart.

        Raises
        ------
        OtherKindError
            If it is the name of a product of another kind: another level, mission or format.
        ProductError
            If it is not the name of a product.
        """
        text = without_suffix(name)
        match = _PATTERN.fullmatch(text)
        if match is None:
            if other := _OTHER_FORMAT.fullmatch(name):
                reason = f"has the suffix {other['format']}; only .SAFE products are used"
                raise OtherKindError(name, reason, step=Step.NAME)
            if _OTHER_SENTINEL.fullmatch(name):
                raise OtherKindError(name, "is not a Sentinel-2 Level-2A product", step=Step.NAME)
            raise ProductError(name, "is not named like a Sentinel-2 Level-2A product", step=Step.NAME)
        mission, level, sensing, baseline, orbit, tile, discriminator = match.groups()
        if level != "L2A":
            raise OtherKindError(name, "is Level-1C; only Level-2A has SCL", step=Step.NAME)
        if not is_tile(tile):
            raise ProductError(name, f"T{tile} is not an MGRS tile", step=Step.NAME)
        if not 1 <= int(orbit) <= 143:
            raise ProductError(name, f"R{orbit} is not a relative orbit (001 to 143)", step=Step.NAME)
        try:
            times = _time(sensing), _time(discriminator)
        except ValueError as error:
            raise ProductError(name, f"holds no valid time ({error})", step=Step.NAME) from error
        mission, tile = sys.intern(mission), sys.intern(tile)  # one text for all products of a tile
        parsed = cls(mission, times[0], sys.intern(f"{baseline[:2]}.{baseline[2:]}"), int(orbit), tile, times[1])
        # A plan needs the texts of a hundred thousand names, many times each.
        object.__setattr__(parsed, "_parsed", text)
        return parsed

    def __str__(self) -> str:
        return self._parsed or (
            f"{self.mission}_MSIL2A_{_digits(self.sensing_time)}_N{self.baseline.replace('.', '')}"
            f"_R{self.relative_orbit:03d}_T{self.tile}_{_digits(self.discriminator)}"
        )

    @property
    def observation(self) -> str:
        """Sensing time and tile, ``20190701T214529_T05WPS``: products that share them show one observation."""
        return f"{str(self)[11:26]}_T{self.tile}"

    @property
    def datatake(self) -> str:
        """Satellite, start and orbit of the datatake, which all tiles of one pass share."""
        return f"{self.mission}_{str(self)[11:26]}_R{self.relative_orbit:03d}"

    @property
    def folder(self) -> str:
        """The name of the product's folder, ``….SAFE``."""
        return f"{self}.SAFE"


# Without strptime and strftime, which would take most of the time of a plan that parses and writes a hundred thousand
# names.


def _time(text: str) -> datetime:
    """``20190701T214529`` as UTC."""
    return datetime.fromisoformat(f"{text}+00:00")


def _digits(time: datetime) -> str:
    return time.isoformat(timespec="seconds")[:19].replace("-", "").replace(":", "")
