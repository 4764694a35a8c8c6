"""The bytes of a product: manifest and metadata first, then only the bands asked for and SCL.

Every file is checked against the manifest (size and MD5 or SHA3-256), written under a temporary name and renamed. Files
that are there and right are not downloaded again. What came of a file before the connection broke, or the process was
killed, is kept: if the server gives parts of files, the rest alone is asked for.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import requests
import urllib3
from requests.auth import AuthBase

from s2sr_core import stopping
from s2sr_core.disk_space import explained, is_full_disk
from s2sr_core.errors import ProductError, Step
from s2sr_core.products.bands import SCL
from s2sr_core.products.checked_files import CheckedFiles
from s2sr_core.products.manifest import HASHES, MANIFEST, METADATA, ListedFile, read_safe_manifest
from s2sr_core.products.metadata import is_of_another_product
from s2sr_core.sources.cdse.http import CdseError, Http, TransientError
from s2sr_core.sources.cdse.partial_files import open_partial, partial_file, remove_orphans
from s2sr_core.sources.cdse.road import Road
from s2sr_core.sources.cdse.shared_folder import completing
from s2sr_core.sources.cdse.slots import Slots
from s2sr_core.sources.source import RemoteProduct

_CHUNK = 1 << 18
#: A manifest has about 70 kB; what is much larger is not one.
LARGEST_MANIFEST = 8 * 1024**2
_PARTIAL = 206
_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d{1,18})-\d{1,18}/(?P<size>\d{1,18}|\*)")
#: A try that brings at least this share of a file does not count as one that failed.
_STEPS = 100


@dataclass(frozen=True)
class Downloader:
    """Fetches products of one account into a folder of .SAFE trees.

    Attributes
    ----------
    road: to the bytes.
    folder: ``imagery_raw``.
    """

    http: Http
    road: Road
    slots: Slots
    folder: Path

    def download(self, product: RemoteProduct, bands: Sequence[str], checked: CheckedFiles | None = None) -> int:
        """Complete the product's folder with SCL and ``bands``, roles of files; returns how many bytes were downloaded.

        Files that are there are read to compare them, unless they are ``checked``, where what is right is noted.

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
                return self._complete(product, target, bands, checked)
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
        self, product: RemoteProduct, target: Path, bands: Sequence[str], checked: CheckedFiles | None
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
                else:
                    total += self._fetch(product, file.href, file, path)
                if checked is not None and not is_known and _digest(file) is not None:
                    checked.remember(str(product.name), path, file.checksum)
                if file.role == METADATA:
                    _check_metadata(product, target)
            except TransientError:
                if file.role == METADATA:  # the manifest may be of a product with the same tile and sensing time
                    manifest_path.unlink(missing_ok=True)
                raise
        return total

    def _fetch(self, product: RemoteProduct, href: str, expected: ListedFile | None, path: Path) -> int:
        """Download one file, trying again after transient failures; returns how many bytes came."""
        permission = self.road.permission()
        with partial_file(path, may_continue=_may_continue(expected)) as part:
            reception = _Reception(self.http, self.road.address(product, href), expected, part)

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
                if expected is None:
                    _check_manifest(product, part)

            self.http.retries.run(attempt)
        return reception.received


class _Reception:
    """One file on its way into a partial file, over several requests.

    Attributes
    ----------
    received: bytes that came.
    is_accepted: whether the server accepted the last request.
    """

    def __init__(self, http: Http, url: str, expected: ListedFile | None, part: Path) -> None:
        self._http, self._url, self._expected, self._part = http, url, expected, part
        self._etag = ""
        self._digest: hashlib._Hash | None = None  # of the whole file, if all of it came in one answer
        self._takes_ranges = _may_continue(expected)
        self.received = 0
        self.is_accepted = False

    def receive(self, auth: AuthBase) -> None:
        """Complete the partial file: with the rest if the server gives that, else from the start.

        Raises
        ------
        TransientError
            If the connection breaks, or the file is not the manifest's in the end.
        CdseError
            If the server refuses.
        """
        with open_partial(self._part) as file:
            self._http.guard(self._url, lambda: self._complete(file, auth))
            self._check(file)

    def _complete(self, file: BinaryIO, auth: AuthBase) -> None:
        """Ask for what is missing, and write it. If the connection breaks in the middle, the host may be down."""
        self.is_accepted, self._digest = False, None
        there = self._there(file)
        if self._expected is not None and there == self._expected.size:
            return  # it was whole when its process was killed
        headers = {"Range": f"bytes={there}-"} | ({"If-Range": self._etag} if self._etag else {}) if there else {}
        try:
            response = self._http.ask("GET", self._url, auth=auth, headers=headers, stream=True)
        except CdseError as error:
            passes = isinstance(error, TransientError) and not error.is_refusal
            if not there or passes or error.status in (401, 408):
                raise
            self._takes_ranges = False
            response = self._http.ask("GET", self._url, auth=auth, stream=True)
        with response:
            self.is_accepted = True
            start = _start(response, self._expected)
            if start not in (0, there):
                self._takes_ranges = False
                raise TransientError(f"{self._url}: other bytes came than were asked for", response.status_code)
            self._take(response, file, start)

    def _there(self, file: BinaryIO) -> int:
        """Bytes of the file that need not come again."""
        size = file.seek(0, os.SEEK_END)
        limit = None if self._expected is None else self._expected.size
        return size if self._takes_ranges and limit is not None and size <= limit else 0

    def _take(self, response: requests.Response, file: BinaryIO, start: int) -> None:
        """Write what comes at ``start``, and nothing beyond the size of the file."""
        expected = self._expected
        limit = LARGEST_MANIFEST if expected is None or expected.size is None else expected.size
        file.seek(start)
        file.truncate()
        self._etag, size = _etag(response), 0
        digest = self._digest = _digest(expected) if expected is not None and start == 0 else None
        try:
            # What has come by now, so that a connection that breaks loses nothing.
            while chunk := response.raw.read1(_CHUNK, decode_content=True):
                stopping.check()
                size += len(chunk)
                if start + size > limit:
                    file.truncate(0)
                    raise TransientError(
                        f"{self._url}: more bytes were received than the manifest says ({limit})", response.status_code
                    )
                file.write(chunk)
                file.flush()
                if digest is not None:
                    digest.update(chunk)
        except urllib3.exceptions.HTTPError as error:
            went_on = response.status_code == _PARTIAL and size * _STEPS >= limit
            raise TransientError(
                f"{self._url}: the connection broke after {start + size} bytes", went_on=went_on
            ) from error
        finally:
            self.received += size
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and "Content-Encoding" not in response.headers and size != int(length):
            raise TransientError(f"{self._url}: {size} of {length} bytes were received")

    def _check(self, file: BinaryIO) -> None:
        """Compare the file with the manifest; one that is not right is emptied."""
        expected = self._expected
        if expected is None:
            return
        size = file.seek(0, os.SEEK_END)
        digest, came = _digest(expected), self._digest
        if expected.size is not None and size != expected.size:
            problem = f"{size} bytes were received, the manifest says {expected.size}"
        elif digest is not None and (came.hexdigest() if came else _hashed(file, digest)) != _hex(expected):
            problem = f"its {expected.checksum.partition(':')[0]} is not the manifest's"
        else:
            return
        file.truncate(0)
        raise TransientError(f"{self._url}: {problem}")


def _may_continue(expected: ListedFile | None) -> bool:
    """Whether bytes of two answers can be put together: only if the whole can be checked."""
    return expected is not None and bool(expected.size) and _digest(expected) is not None


def _start(response: requests.Response, expected: ListedFile | None) -> int:
    """Where in the file the bytes of an answer begin; -1 if they are no use."""
    if response.status_code != _PARTIAL:
        return 0
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None or "Content-Encoding" in response.headers or expected is None:
        return -1
    return int(match["first"]) if match["size"] in ("*", str(expected.size)) else -1


def _etag(response: requests.Response) -> str:
    """The strong validator of an answer, if it has one (RFC 9110, 13.1.5: If-Range takes no other)."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else ""


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
    digest = _digest(file)
    if digest is None:
        return file.size is not None
    with path.open("rb") as stream:
        return _hashed(stream, digest) == _hex(file)


def _hashed(stream: BinaryIO, digest: hashlib._Hash) -> str:
    """The checksum of a file from its first byte, as hexadecimal digits."""
    stream.seek(0)
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def _digest(file: ListedFile) -> hashlib._Hash | None:
    name = HASHES.get(file.checksum.partition(":")[0])
    return None if name is None else hashlib.new(name)


def _hex(file: ListedFile) -> str:
    return file.checksum.partition(":")[2]
