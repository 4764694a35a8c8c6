"""Fetching a product, with what went wrong as a result like any other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2sr_core.errors import ProductError, Step
from s2sr_core.geo.lattice import Window
from s2sr_core.products.names import ProductName
from s2sr_core.products.safe import Product
from s2sr_core.scenes.occupancy import Occupancy
from s2sr_core.selection.candidates import Candidate
from s2sr_core.sources.source import ProductDescription, Source

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Download:
    """One product after its download: as a candidate like those of an archive, and the bytes that came for it."""

    candidate: Candidate[Product]
    size: int


def download[P: ProductDescription](
    source: Source[P], product: P, bands: Sequence[str], occupancy: Path | None = None
) -> Download:
    """Fetch metadata, SCL and ``bands`` of ``product``, and read what its files say; a fault of it is in the result.

    ``occupancy`` is the file that says which pixels of the bands count; None if that is not known.

    Raises
    ------
    InputError
        If no product can be had, because of what the user gave.
    """
    name, size = product.name, 0
    try:
        size = source.fetch(product, bands, _windows_of(occupancy))
        there = _opened(source, product)
    except ProductError as error:
        return failed_download(source, name, error.reason, error.step, size)
    return Download(Candidate(str(name), there, "selected", name=name, path=there.path), size)


def _opened[P: ProductDescription](source: Source[P], product: P) -> Product:
    try:
        return source.open(product)
    except OSError as error:
        raise ProductError(str(product.name), f"cannot be read: {error}", step=Step.READ) from error


def _windows_of(occupancy: Path | None) -> tuple[Window, ...] | None:
    """The pixels that count; None, for whole images, also if a network filesystem does not show the file yet."""
    if occupancy is None:
        return None
    try:
        return Occupancy.read_parts(occupancy)
    except OSError as error:
        _logger.info("%s cannot be read (%s): whole images are downloaded", occupancy.name, error.strerror)
        return None


def failed_download(source: Source[Any], name: ProductName, reason: str, step: Step, size: int = 0) -> Download:
    """A product of ``source`` that did not come, or came unusable."""
    path = source.folder / name.folder
    return Download(Candidate(str(name), None, "failed", reason, step, name, path), size)
