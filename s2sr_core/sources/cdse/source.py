"""Copernicus Data Space as a source: what its catalogue lists, fetched with an account."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import shapely
from shapely import Polygon

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.fields import Stage
from s2sr_core.products.bands import RESOLUTION, role_at
from s2sr_core.products.safe import Product, read_product
from s2sr_core.sources.cdse import client
from s2sr_core.sources.cdse.catalogue import Catalogue
from s2sr_core.sources.source import FoundProduct, RemoteProduct, UnusableEntry


@dataclass(frozen=True, slots=True)
class Cdse:
    """Copernicus Data Space, by the addresses and the account of the environment.

    Attributes
    ----------
    folder: where products are downloaded to.
    connections: byte connections at once, at most.
    resolution: of the bands that are wanted, metres.
    """

    folder: Path
    connections: int
    resolution: int = RESOLUTION

    @property
    def fetches(self) -> bool:
        return True

    def check(self, stage: Stage) -> None:
        """Look at the addresses and, unless ``stage`` only queries, at the account: see :func:`client.check_account`.

        Raises
        ------
        InputError
            If one of them is missing or malformed, or the account is refused.
        """
        client.endpoints()
        if stage != "query":
            client.check_account()

    def find(
        self, cells: Sequence[Gridcell], start: datetime, end: datetime
    ) -> Iterator[FoundProduct[RemoteProduct] | UnusableEntry]:
        """Every entry that the catalogue gives for the area of ``cells`` and the window, each once.

        Raises
        ------
        SourceError
            If the catalogue refuses the query (with what it said), or keeps failing.
        """
        client.begin_query()
        return found_in(client.catalogue(), cells, start, end)

    def begin(self, products: Sequence[RemoteProduct]) -> None:
        """Learn which products can be asked for if one fails, to see whether the host is down or the product bad."""
        client.begin_downloads(self.folder, self.connections, products)

    def fetch(self, product: RemoteProduct, bands: Sequence[str]) -> int:
        """Download what is missing of the product; returns the bytes that came.

        Raises
        ------
        ProductError
            If the product is gone, or a file of it cannot be had whole.
        InputError
            If the account is refused.
        SourceDownError
            If a host is down for longer than the run waits.
        """
        return client.downloader(self.folder, self.connections).download(
            product, [role_at(band, self.resolution) for band in bands]
        )

    def open(self, product: RemoteProduct) -> Product:
        return read_product(self.folder / product.name.folder)


def found_in(
    catalogue: Catalogue, cells: Sequence[Gridcell], start: datetime, end: datetime
) -> Iterator[FoundProduct[RemoteProduct] | UnusableEntry]:
    """What ``catalogue`` gives for the area of ``cells`` and the window, each entry once."""
    seen: set[str] = set()
    for area in envelopes(cells):
        for entry in catalogue.search(area, start, end):
            if entry.id in seen:
                continue
            seen.add(entry.id)
            yield entry if isinstance(entry, UnusableEntry) else _found(entry)


def _found(product: RemoteProduct) -> FoundProduct[RemoteProduct]:
    unavailable = "" if product.online else "its bytes are not online at CDSE"
    return FoundProduct(str(product.name), lambda: product, name=product.name, unavailable=unavailable)


def envelopes(cells: Sequence[Gridcell]) -> list[Polygon]:
    """The box around all cells; two if that is shorter across the antimeridian, one on each side of it."""
    bounds = shapely.bounds([cell.polygon for cell in cells])
    west, east = bounds[bounds[:, 2] <= 0], bounds[bounds[:, 0] >= 0]
    if len(west) + len(east) == len(bounds) and len(west) and len(east):
        around = 360 - (east[:, 0].min() - west[:, 2].max())
        if around < bounds[:, 2].max() - bounds[:, 0].min():
            return [_box(west), _box(east)]
    return [_box(bounds)]


def _box(bounds: Any) -> Polygon:
    xmin, ymin = bounds[:, :2].min(axis=0)
    xmax, ymax = bounds[:, 2:].max(axis=0)
    return shapely.box(float(xmin), float(ymin), float(xmax), float(ymax))
