"""Copernicus Data Space as a source: what its catalogue lists, fetched with an account."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.fields import DownloadMode, Stage
from s2sr_core.geo.lattice import Window
from s2sr_core.products.bands import RESOLUTION, role_at
from s2sr_core.products.checked_files import CheckedFiles
from s2sr_core.products.safe import Product, read_product
from s2sr_core.sources.cdse import client
from s2sr_core.sources.cdse.client import RoadName
from s2sr_core.sources.cdse.keys import S3Keys
from s2sr_core.sources.cdse.query import found_in
from s2sr_core.sources.source import FoundProduct, RemoteProduct, UnusableEntry


@dataclass(frozen=True, slots=True)
class Cdse:
    """Copernicus Data Space, by the addresses and the account or keys of the environment.

    Attributes
    ----------
    folder: where products are downloaded to.
    connections: byte connections at once, at most.
    resolution: of the bands that are wanted, metres.
    access: the road to the bytes.
    checked: files that are right, which need not be read again; None if each use is to be checked.
    mode: whether images may come in part.
    """

    folder: Path
    connections: int
    resolution: int = RESOLUTION
    access: RoadName = "odata"
    checked: CheckedFiles | None = None
    mode: DownloadMode = "whole"

    @property
    def fetches(self) -> bool:
        return True

    def check(self, stage: Stage) -> None:
        """Look at the addresses and, unless ``stage`` only queries, at keys or account: :func:`client.check_account`.

        Raises
        ------
        InputError
            If one of them is missing or malformed, or the account is refused.
        """
        client.endpoints()
        if stage != "query":
            if self.access == "s3":
                S3Keys.needed()
            else:
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
        client.begin_downloads(self.access, self.folder, self.connections, products, self.mode)

    def fetch(self, product: RemoteProduct, bands: Sequence[str], windows: Sequence[Window] | None = None) -> int:
        """Download what is missing of the product; returns the bytes that came. Of images, ``windows`` may do.

        Raises
        ------
        ProductError
            If the product is gone, or a file of it cannot be had whole.
        InputError
            If the account or its keys are refused.
        SourceDownError
            If a host is down for longer than the run waits.
        """
        roles = [role_at(band, self.resolution) for band in bands]
        ours = client.downloader(self.access, self.folder, self.connections, self.mode)
        return ours.download(product, roles, self.checked, windows)

    def open(self, product: RemoteProduct) -> Product:
        return read_product(self.folder / product.name.folder)
