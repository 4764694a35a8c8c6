"""Copernicus Data Space where its archive is mounted: products are read where the catalogue says that they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError, ProductError
from s2sr_core.fields import Stage
from s2sr_core.products.safe import Product, read_product
from s2sr_core.sources.archive import OnDisk
from s2sr_core.sources.cdse import client
from s2sr_core.sources.cdse.query import found_in
from s2sr_core.sources.source import FoundProduct, RemoteProduct, UnusableEntry


@dataclass(frozen=True, slots=True)
class Mounted(OnDisk):
    """The archive of CDSE, whose bucket is mounted as ``folder``; no account is needed."""

    def check(self, stage: Stage) -> None:
        """Look for the mount.

        Raises
        ------
        InputError
            If it is not there, or an address of CDSE is malformed.
        """
        client.endpoints()
        if not (self.folder / "Sentinel-2").is_dir():
            remedy = "mount the bucket there, name another folder in S2SR_MOUNT, or choose --access odata or s3"
            raise InputError("access", "mount", f"finds no folder Sentinel-2 in {self.folder}", remedy)

    def find(
        self, cells: Sequence[Gridcell], start: datetime, end: datetime
    ) -> Iterator[FoundProduct[Product] | UnusableEntry]:
        """Every entry that the catalogue gives; a product is read where the catalogue says that it is.

        Raises
        ------
        SourceError
            If the catalogue refuses the query (with what it said), or keeps failing.
        """
        client.begin_query()
        for found in found_in(client.catalogue(), cells, start, end):
            yield found if isinstance(found, UnusableEntry) else self._mounted(found.describe())

    def _mounted(self, remote: RemoteProduct) -> FoundProduct[Product]:
        path = _path_of(self.folder, remote)
        unavailable = "" if remote.s3_path else "the catalogue names no path of it below the mount"
        return self.found(
            str(remote.name), path, partial(_read, remote, path), name=remote.name, unavailable=unavailable
        )


def _path_of(folder: Path, remote: RemoteProduct) -> Path | None:
    """Below the mount, which stands for the bucket, the first part of the path in S3; None without such a path."""
    return folder.joinpath(*PurePosixPath(remote.s3_path).parts[2:]) if remote.s3_path else None


def _read(remote: RemoteProduct, path: Path | None) -> Product:
    if path is None or not path.is_dir():
        raise ProductError(str(remote.name), f"is not there: {path}")
    return read_product(path)
