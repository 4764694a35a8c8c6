"""The bytes of a product: manifest and metadata first, then only the 20 m bands asked for and SCL.

Every file is checked against the manifest (size and MD5 or SHA3-256), written under a temporary name and renamed. Files
that are there and right are not downloaded again.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import requests

from s2sr_core import stopping
from s2sr_core.disk_space import explained, is_full_disk
from s2sr_core.errors import ProductError, Step
from s2sr_core.files import written_atomically
from s2sr_core.products.bands import SCL
from s2sr_core.products.manifest import MANIFEST, METADATA, ListedFile, read_safe_manifest
from s2sr_core.products.metadata import is_of_another_product
from s2sr_core.sources.cdse.auth import TokenSource
from s2sr_core.sources.cdse.catalogue import is_uuid
from s2sr_core.sources.cdse.http import CdseError, Http, TransientError
from s2sr_core.sources.cdse.slots import Slots
from s2sr_core.sources.source import RemoteProduct

_PATH = "/odata/v1/Products({id})"
_CHUNK = 1 << 18
#: A manifest has about 70 kB; what is much larger is not one.
_LARGEST_MANIFEST = 8 * 1024**2
_HASHES = {"md5": hashlib.md5, "sha3-256": hashlib.sha3_256}


@dataclass(frozen=True)
class Downloader:
    """Fetches products of one account into a folder of .SAFE trees.

    Attributes
    ----------
    url: base URL of the download host.
    folder: ``imagery_raw``.
    """

    http: Http
    url: str
    tokens: TokenSource
    slots: Slots
    folder: Path

    def download(self, product: RemoteProduct, bands: Sequence[str]) -> int:
        """Complete the product's folder; returns how many bytes were downloaded.

        Raises
        ------
        ProductError
            If the product is gone, a file of it cannot be had whole, or its manifest is not one.
        InputError
            If the account is refused.
        """
        name = str(product.name)
        if not is_uuid(product.id):  # it becomes part of an address
            raise ProductError(
                name, f"its id {product.id[:40]!r} is not a UUID; run --stage query again", step=Step.DOWNLOAD
            )
        target = self.folder / product.name.folder
        try:
            return self._complete(product, target, bands)
        except TransientError as error:
            raise ProductError(name, str(error), step=Step.CONNECTION) from error
        except CdseError as error:
            gone = " (deleted or replaced since the query)" if error.status == 404 else ""
            raise ProductError(name, f"{error}{gone}", step=Step.DOWNLOAD) from error
        except OSError as error:
            reason = explained(error, self.folder) if is_full_disk(error) else f"cannot be written: {error}"
            raise ProductError(name, reason, step=Step.DOWNLOAD) from error

    def _complete(self, product: RemoteProduct, target: Path, bands: Sequence[str]) -> int:
        manifest_path = target / MANIFEST
        total = 0
        for here, _, names in os.walk(target):
            for name in fnmatch.filter(names, ".*.part"):
                Path(here, name).unlink()  # of a process that was killed while it received
        try:
            _check_manifest(product, manifest_path)
            _check_metadata(product, target)
        except TransientError:
            total += self._fetch(product, MANIFEST, None, manifest_path)
        for file in _wanted(read_safe_manifest(product.name, manifest_path), bands):
            path = target / file.href
            try:
                if not _is_whole(path, file):
                    total += self._fetch(product, file.href, file, path)
                if file.role == METADATA:
                    _check_metadata(product, target)
            except TransientError:
                if file.role == METADATA:  # the manifest may be of a product with the same tile and sensing time
                    manifest_path.unlink(missing_ok=True)
                raise
        return total

    def _fetch(self, product: RemoteProduct, href: str, expected: ListedFile | None, path: Path) -> int:
        """Download one file, trying again after transient failures; returns how many bytes it has."""
        nodes = "".join(f"/Nodes({quote(part, safe='')})" for part in (product.name.folder, *PurePosixPath(href).parts))
        url = f"{self.url}{_PATH.format(id=product.id)}{nodes}/$value"
        rejected = ""
        for attempt in self.http.retries.retrying():
            with attempt:
                token = rejected
                try:
                    with self.slots.taken(), written_atomically(path) as temporary:
                        token = self.tokens.token(rejected)
                        size = self._receive(url, token, expected, temporary)
                        if expected is None:
                            _check_manifest(product, temporary)
                        return size
                except CdseError as error:
                    if error.status == 401 and token != rejected and "expired" in str(error).lower():
                        rejected = token
                        raise TransientError(str(error), error.status) from error
                    raise
        raise AssertionError("unreachable")

    def _receive(self, url: str, token: str, expected: ListedFile | None, temporary: Path) -> int:
        digest = None if expected is None else _digest(expected)
        limit = _LARGEST_MANIFEST if expected is None or expected.size is None else expected.size
        size = 0
        with self.http.request("GET", url, token=token, stream=True) as response, temporary.open("wb") as file:
            try:
                for chunk in response.iter_content(_CHUNK):
                    stopping.check()
                    size += len(chunk)
                    if size > limit:
                        raise TransientError(
                            f"{temporary.name}: more bytes were received than the manifest says ({limit})"
                        )
                    file.write(chunk)
                    if digest is not None:
                        digest.update(chunk)
            except requests.RequestException as error:
                raise TransientError(f"{url}: the connection broke after {size} bytes") from error
            length = response.headers.get("Content-Length", "")
        if length.isdecimal() and size != int(length):
            raise TransientError(f"{url}: {size} of {length} bytes were received")
        if expected is not None:
            if expected.size is not None and size != expected.size:
                raise TransientError(f"{url}: {size} bytes were received, the manifest says {expected.size}")
            if digest is not None and digest.hexdigest() != _hex(expected):
                raise TransientError(f"{url}: its {expected.checksum.partition(':')[0]} is not the manifest's")
        return size


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


def _is_whole(path: Path, file: ListedFile) -> bool:
    if not path.is_file() or (file.size is not None and path.stat().st_size != file.size):
        return False
    digest = _digest(file)
    if digest is None:
        return file.size is not None
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == _hex(file)


def _digest(file: ListedFile) -> hashlib._Hash | None:
    make = _HASHES.get(file.checksum.partition(":")[0])
    return None if make is None else make()


def _hex(file: ListedFile) -> str:
    return file.checksum.partition(":")[2]
