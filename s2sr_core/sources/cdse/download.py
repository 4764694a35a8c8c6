"""The bytes of a product: manifest and metadata first, then only the bands asked for and SCL.

Every file is checked against the manifest (size and MD5 or SHA3-256), written under a temporary name and renamed. Files
that are there and right are not downloaded again. What came of a file before the connection broke, or the process was
killed, is kept: if the server gives parts of files, the rest alone is asked for. Of a band, those tiles alone may come
that hold a pixel that counts.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from s2sr_core.disk_space import explained, is_full_disk
from s2sr_core.errors import ProductError, Step
from s2sr_core.fields import DownloadMode
from s2sr_core.geo.codestream import LayoutError
from s2sr_core.geo.lattice import Window
from s2sr_core.products.bands import SCL, resolution_of
from s2sr_core.products.baselines import lists_tiles
from s2sr_core.products.checked_files import CheckedFiles
from s2sr_core.products.manifest import MANIFEST, METADATA, ListedFile, read_safe_manifest
from s2sr_core.products.metadata import is_of_another_product
from s2sr_core.products.partial_images import MOST_SEARCHED, WHOLE_FROM, remove_tiles, tiles_path
from s2sr_core.sources.cdse.http import CdseError, Http, TransientError
from s2sr_core.sources.cdse.image_tiles import fetch_tiles
from s2sr_core.sources.cdse.partial_files import open_partial, partial_file, remove_orphans
from s2sr_core.sources.cdse.ranges import RangesRefusedError, RangeSupport, Span, may_save
from s2sr_core.sources.cdse.reception import Reception, digest_of, hashed, hex_of, may_continue
from s2sr_core.sources.cdse.road import Road
from s2sr_core.sources.cdse.shared_folder import completing
from s2sr_core.sources.cdse.slots import Slots
from s2sr_core.sources.source import RemoteProduct

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Downloader:
    """Fetches products of one account into a folder of .SAFE trees.

    Attributes
    ----------
    road: to the bytes.
    folder: ``imagery_raw``.
    mode: whether images may come in part.
    ranges: whether the host gives ranges of bytes.
    """

    http: Http
    road: Road
    slots: Slots
    folder: Path
    mode: DownloadMode = "whole"
    ranges: RangeSupport = field(default_factory=RangeSupport, compare=False)

    def download(
        self,
        product: RemoteProduct,
        bands: Sequence[str],
        checked: CheckedFiles | None = None,
        windows: Sequence[Window] | None = None,
    ) -> int:
        """Complete the product's folder with SCL and ``bands``, roles of files; returns how many bytes were downloaded.

        Files that are there are read to compare them, unless they are ``checked``, where what is right is noted.
        ``windows`` are those pixels of the bands that are wanted; None wants whole images.

        Raises
        ------
        ProductError
            If the product is gone, a file of it cannot be had whole, or its manifest is not one.
        InputError
            If the account is refused.
        """
        name = str(product.name)
        self.road.address(product, MANIFEST)
        target = self.folder / product.name.folder
        try:
            with completing(self.folder, product.name):
                return self._complete(product, target, bands, checked, windows)
        except TransientError as error:
            raise ProductError(name, str(error), step=Step.CONNECTION) from error
        except CdseError as error:
            gone = " (deleted or replaced since the query)" if error.status == 404 else ""
            raise ProductError(name, f"{error}{gone}", step=Step.DOWNLOAD) from error
        except OSError as error:
            if is_full_disk(error):
                reason = explained(error, self.folder, needed=_missing_bytes(product, target, bands))
            else:
                reason = f"cannot be written: {error}"
            raise ProductError(name, reason, step=Step.DOWNLOAD) from error

    def _complete(
        self,
        product: RemoteProduct,
        target: Path,
        bands: Sequence[str],
        checked: CheckedFiles | None,
        windows: Sequence[Window] | None,
    ) -> int:
        manifest_path = target / MANIFEST
        total = 0
        try:
            _check_manifest(product, manifest_path)
            _check_metadata(product, target)
        except TransientError:
            total += self._fetch(product, MANIFEST, None, manifest_path)
        for file in _wanted(read_safe_manifest(product.name, manifest_path), bands):
            path = target / file.href
            try:
                is_known = checked is not None and checked.knows(str(product.name), path, file.checksum)
                if is_known or _is_whole(path, file):
                    remove_orphans(path)
                    remove_tiles(path)
                elif file.role in bands:
                    total += self._fetch_image(product, file, path, windows)
                else:
                    total += self._fetch(product, file.href, file, path)
                if checked is not None and not is_known and digest_of(file) is not None:
                    checked.remember(str(product.name), path, file.checksum)
                if file.role == METADATA:
                    _check_metadata(product, target)
            except TransientError:
                if file.role == METADATA:  # the manifest may be of a product with the same tile and sensing time
                    manifest_path.unlink(missing_ok=True)
                raise
        return total

    def _fetch_image(
        self, product: RemoteProduct, file: ListedFile, path: Path, windows: Sequence[Window] | None
    ) -> int:
        """The tiles of an image that hold a pixel of ``windows``, if they can be asked for; else all of it."""
        received, always = 0, self.mode == "ranges"
        wanted = None if self.mode == "whole" else windows
        most = MOST_SEARCHED if not lists_tiles(product.name.baseline) else 1.0 if always else WHOLE_FROM
        may_save_bytes = wanted is not None and may_save(file.size or 0, wanted, resolution_of(file.role), most)
        if self.ranges.works is not False and (may_save_bytes or tiles_path(path).exists()):
            ranges = _Ranges(self, product, file)
            try:
                if fetch_tiles(path, file, wanted, ranges.receive, always=always) == "there":
                    return ranges.received
            except (RangesRefusedError, LayoutError) as reason:
                _logger.info("%s of %s comes whole: %s", path.name, product.name, reason)
            received = ranges.received
        received += self._fetch(product, file.href, file, path)
        remove_tiles(path)
        return received

    def _fetch(self, product: RemoteProduct, href: str, expected: ListedFile | None, path: Path) -> int:
        """Download one file, trying again after transient failures; returns how many bytes came."""
        with partial_file(path, may_continue=may_continue(expected)) as part:
            address = self.road.address(product, href)
            reception = Reception(self.http, address, expected, partial(open_partial, part))
            check = None if expected is not None else partial(_check_manifest, product, part)
            self.receive(reception, check)
        return reception.received

    def receive(self, reception: Reception, check: Callable[[], None] | None = None) -> None:
        """Ask for a file, or a part of one, until it is there; ``check`` looks at it each time."""
        permission = self.road.permission()

        def attempt() -> None:
            permission.prepare()
            with self.slots.taken():
                auth = permission.auth()
                try:
                    reception.receive(auth)
                except CdseError as error:
                    if (meaning := permission.meaning_of(error)) is error:
                        raise
                    raise meaning from None
                finally:
                    if reception.is_accepted:
                        permission.accepted()
            if check is not None:
                check()

        self.http.retries.run(attempt)


class _Ranges:
    """Ranges of one image.

    Attributes
    ----------
    received: bytes that came.
    """

    def __init__(self, downloader: Downloader, product: RemoteProduct, file: ListedFile) -> None:
        self._downloader, self._file = downloader, file
        self._url = downloader.road.address(product, file.href)
        self._etag = ""
        self.received = 0

    def receive(self, span: Span, file: BinaryIO) -> None:
        """Write a span to ``file``.

        Raises
        ------
        RangesRefusedError
            If the host does not give it.
        """
        ours = self._downloader
        reception = Reception(ours.http, self._url, self._file, lambda: contextlib.nullcontext(file), span, self._etag)
        try:
            ours.ranges.ask(lambda: ours.receive(reception))
        finally:
            self.received += reception.received
            self._etag = reception.etag


def _check_manifest(product: RemoteProduct, path: Path) -> None:
    """Check that a manifest lists what all list: nothing tells its size, and error pages come with status 200 too."""
    try:
        roles = {file.role for file in read_safe_manifest(product.name, path)}
    except ProductError as error:
        raise TransientError(f"the file received as manifest.safe is not one: {error.reason}") from error
    if not {METADATA, SCL} <= roles:
        raise TransientError("the file received as manifest.safe lists no metadata or no SCL at 20 m")


def _check_metadata(product: RemoteProduct, folder: Path) -> None:
    """Check that the metadata in a folder, if there is any, names no other product: it may match its manifest."""
    if is_of_another_product(product.name, folder):
        raise TransientError("the metadata received belongs to another product")


def _wanted(listed: Sequence[ListedFile], bands: Sequence[str]) -> list[ListedFile]:
    """Metadata, SCL and bands, in this order; phase 1 reports a band that is not listed."""
    by_role = {file.role: file for file in listed}
    return [by_role[role] for role in (METADATA, SCL, *bands) if role in by_role]


def _missing_bytes(product: RemoteProduct, target: Path, bands: Sequence[str]) -> int | None:
    """How many bytes of a product are to be downloaded yet, as its manifest says; None if that is not here."""
    try:
        files = _wanted(read_safe_manifest(product.name, target / MANIFEST), bands)
        return sum(file.size or 0 for file in files if not (target / file.href).is_file())
    except (ProductError, OSError):
        return None


def _is_whole(path: Path, file: ListedFile) -> bool:
    if not path.is_file() or (file.size is not None and path.stat().st_size != file.size):
        return False
    digest = digest_of(file)
    if digest is None:
        return file.size is not None
    with path.open("rb") as stream:
        return hashed(stream, digest) == hex_of(file)
