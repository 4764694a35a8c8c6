"""A file of a product on its way, or a range of its bytes: over as many requests as it takes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import BinaryIO

import requests
import urllib3
from requests.auth import AuthBase

from s2sr_core import stopping
from s2sr_core.products.manifest import HASHES, ListedFile
from s2sr_core.sources.cdse.http import CdseError, Http, TransientError
from s2sr_core.sources.cdse.ranges import RangesRefusedError, Span

CHUNK = 1 << 18
#: A manifest has about 70 kB; what is much larger is not one.
LARGEST_MANIFEST = 8 * 1024**2
_PARTIAL = 206
_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d{1,18})-\d{1,18}/(?P<size>\d{1,18}|\*)")
#: A try that brings at least this share of a file does not count as one that failed.
_STEPS = 100
#: Refusals that concern the account, its keys or the product, and not the range that was asked for.
_NOT_OF_RANGES = (401, 403, 404, 408)


class Reception:
    """One file on its way, or the bytes of ``span`` alone, over several requests.

    Parameters
    ----------
    expected: the file as its manifest lists it; None for the manifest itself.
    opened: opens the file to which its bytes, or those of the span, are written.
    etag: the strong ETag of the answer from which the earlier bytes came; empty if it had none.

    Attributes
    ----------
    received: bytes that came.
    is_accepted: whether the server accepted the last request.
    """

    def __init__(
        self,
        http: Http,
        url: str,
        expected: ListedFile | None,
        opened: Callable[[], AbstractContextManager[BinaryIO]],
        span: Span | None = None,
        etag: str = "",
    ) -> None:
        self._http, self._url, self._expected, self._opened = http, url, expected, opened
        self._span, self.etag = span, etag
        self._digest: hashlib._Hash | None = None  # of the whole file, if all of it came in one answer
        self._takes_ranges = span is not None or may_continue(expected)
        self.received = 0
        self.is_accepted = False

    def receive(self, auth: AuthBase) -> None:
        """Complete the file: with the rest if the server gives that, else from the start; a span by ranges alone.

        Raises
        ------
        TransientError
            If the connection breaks, or the file is not the manifest's in the end.
        RangesRefusedError
            If something else comes than the range of a span.
        CdseError
            If the server refuses.
        """
        with self._opened() as file:
            self._http.guard(self._url, lambda: self._complete(file, auth))
            self._check(file)

    @property
    def _size(self) -> int | None:
        """Bytes that are wanted; None if that is not known."""
        if self._span is not None:
            return self._span.size
        return None if self._expected is None else self._expected.size

    def _complete(self, file: BinaryIO, auth: AuthBase) -> None:
        """Ask for what is missing, and write it. If the connection breaks in the middle, the host may be down."""
        self.is_accepted, self._digest = False, None
        there = self._there(file)
        if self._size is not None and there == self._size:
            return  # it was whole when its process was killed
        with self._answer(there, auth) as response:
            self.is_accepted = True
            offset = 0 if self._span is None else self._span.start
            start = _start(response, self._expected)
            if self._span is not None and (response.status_code != _PARTIAL or start != offset + there):
                raise RangesRefusedError(f"{self._url}: other bytes came than were asked for", response.status_code)
            if start not in (0, offset + there):
                self._takes_ranges = False
                raise TransientError(f"{self._url}: other bytes came than were asked for", response.status_code)
            self._take(response, file, start - offset)

    def _answer(self, there: int, auth: AuthBase) -> requests.Response:
        """The answer to a request for what follows the first ``there`` bytes, or for the whole file."""
        headers = {}
        if self._span is not None:
            headers["Range"] = f"bytes={self._span.start + there}-{self._span.stop - 1}"
        elif there:
            headers["Range"] = f"bytes={there}-"
        if headers and self.etag:
            headers["If-Range"] = self.etag
        try:
            return self._http.ask("GET", self._url, auth=auth, headers=headers, stream=True)
        except CdseError as error:
            passes = isinstance(error, TransientError) and not error.is_refusal
            if not headers or passes or error.status in (401, 408):
                raise
            if self._span is not None:
                if error.status in _NOT_OF_RANGES or not error.status:
                    raise
                raise RangesRefusedError(str(error), error.status, error.answer) from error
            self._takes_ranges = False
            return self._http.ask("GET", self._url, auth=auth, stream=True)

    def _there(self, file: BinaryIO) -> int:
        """Bytes of the file that need not come again."""
        size = file.seek(0, os.SEEK_END)
        limit = self._size
        return size if self._takes_ranges and limit is not None and size <= limit else 0

    def _take(self, response: requests.Response, file: BinaryIO, start: int) -> None:
        """Write what comes at ``start``, and nothing beyond the size of the file."""
        limit = LARGEST_MANIFEST if self._size is None else self._size
        file.seek(start)
        file.truncate()
        self.etag, size = _etag(response), 0
        whole = self._expected if start == 0 and self._span is None else None
        digest = self._digest = None if whole is None else digest_of(whole)
        try:
            # What has come by now, so that a connection that breaks loses nothing.
            while chunk := response.raw.read1(CHUNK, decode_content=True):
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
        expected, size = self._expected, file.seek(0, os.SEEK_END)
        if expected is None:
            return
        if self._span is not None:
            if size != self._span.size:
                raise TransientError(f"{self._url}: {size} of {self._span.size} bytes were received")
            return
        digest, came = digest_of(expected), self._digest
        if expected.size is not None and size != expected.size:
            problem = f"{size} bytes were received, the manifest says {expected.size}"
        elif digest is not None and (came.hexdigest() if came else hashed(file, digest)) != hex_of(expected):
            problem = f"its {expected.checksum.partition(':')[0]} is not the manifest's"
        else:
            return
        file.truncate(0)
        raise TransientError(f"{self._url}: {problem}")


def may_continue(expected: ListedFile | None) -> bool:
    """Whether bytes of two answers can be put together: only if the whole can be checked."""
    return expected is not None and bool(expected.size) and digest_of(expected) is not None


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


def hashed(stream: BinaryIO, digest: hashlib._Hash) -> str:
    """The checksum of a file from its first byte, as hexadecimal digits."""
    stream.seek(0)
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def digest_of(file: ListedFile) -> hashlib._Hash | None:
    """What computes the checksum that a manifest lists; None if it lists none that is known."""
    name = HASHES.get(file.checksum.partition(":")[0])
    return None if name is None else hashlib.new(name)


def hex_of(file: ListedFile) -> str:
    """The checksum that a manifest lists, as hexadecimal digits."""
    return file.checksum.partition(":")[2]
