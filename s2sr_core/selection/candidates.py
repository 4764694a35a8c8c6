"""Products found: whether each counts, and why not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from s2sr_core.errors import Step
from s2sr_core.products.names import ProductName
from s2sr_core.sources.source import ProductDescription

Status = Literal["selected", "filtered", "offline", "duplicate", "twin", "no cell", "no bands", "not needed", "failed"]
#: Statuses of a product whose bands are not needed, because SCL masks them; earlier versions wrote "spared".
NOT_NEEDED = ("not needed", "spared")


@dataclass(frozen=True, slots=True)
class Candidate[P: ProductDescription]:
    """A product found, whether it counts, and why not.

    Attributes
    ----------
    title: the product's name, or what stands in its place.
    product: None if it was not described: its name was enough to leave it out, or it could not be read.
    step: what failed, if that is its status.
    name: None if the title is not a product's name.
    path: its folder, None if it is not on disk.
    copy: its place among copies of one product: 0 is the most complete one.
    """

    title: str
    product: P | None
    status: Status
    reason: str = ""
    step: Step | None = None
    name: ProductName | None = None
    path: Path | None = None
    copy: int = 0


def selected_products[P: ProductDescription](candidates: Iterable[Candidate[P]]) -> list[P]:
    """The products that count, in the order of ``candidates``."""
    return [
        candidate.product
        for candidate in candidates
        if candidate.status == "selected" and candidate.product is not None
    ]


def size_of(candidates: Iterable[Candidate[Any]], at_most: int = 1_000_000_000) -> int:
    """Bytes of the products that count, with all their files; what is more than ``at_most`` is not counted.

    One whose size is not known, or whose folder cannot be read, is taken for as large.
    """
    size = 0
    for candidate in (candidate for candidate in candidates if candidate.status == "selected"):
        if candidate.path is None:
            size += getattr(candidate.product, "size", 0) or at_most
        else:
            size += _size_on_disk(candidate.path) or at_most
        if size >= at_most:
            return at_most
    return size


def _size_on_disk(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except (OSError, RecursionError):
        return 0
