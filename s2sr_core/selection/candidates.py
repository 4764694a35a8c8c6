"""Products found: whether each counts, and why not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from shapely import MultiPolygon, Polygon

from s2sr_core.products.names import ProductName
from s2sr_core.products.safe import Product

Status = Literal["selected", "filtered", "offline", "duplicate", "twin", "no cell", "not needed", "failed"]


class Described(Protocol):
    """What selection asks of a product, wherever it was described: on disk, or in the catalogue."""

    @property
    def name(self) -> ProductName: ...
    @property
    def cloud_cover(self) -> float | None: ...
    @property
    def footprint(self) -> Polygon | MultiPolygon | None: ...


@dataclass(frozen=True, slots=True)
class Candidate[P: Described]:
    """A product found, whether it counts, and why not.

    Attributes
    ----------
    title: the product's name, or what stands in its place.
    product: None where it was not described: its name was enough to leave it out, or it could not be read.
    step: what failed, where that is its status.
    name: None where it is no product's.
    path: its folder, None where it was found in the catalogue.
    """

    title: str
    product: P | None
    status: Status
    reason: str = ""
    step: str = ""
    name: ProductName | None = None
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Download:
    """One product after its download: as a candidate like those of an archive, and the bytes that came for it."""

    candidate: Candidate[Product]
    size: int
