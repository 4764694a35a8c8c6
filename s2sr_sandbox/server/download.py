"""The download host: listings of nodes for everybody, files and whole products for clients with a token."""

from __future__ import annotations

import asyncio
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send
from zipstream import ZipStream

from s2sr_sandbox.server.connections import Connections, Slot
from s2sr_sandbox.server.errors import detail, refusal
from s2sr_sandbox.server.nodes import PathError, Place, listing, parse_path, resolve
from s2sr_sandbox.server.products import Catalogue, Entry, zipped
from s2sr_sandbox.server.settings import AUDIENCE, SandboxSettings
from s2sr_sandbox.server.tokens import TokenError, TokenMint

_BLOCK = 1 << 16
_RANGE = re.compile(r"bytes=(?P<first>\d{0,18})-(?P<last>\d{0,18})")


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that the answers of the download host depend on."""

    catalogue: Catalogue
    mint: TokenMint
    connections: Connections
    settings: SandboxSettings
    base_url: str

    def answer(self, request: Request, path: str) -> Response:
        """The answer to a request for ``path`` below ``/odata/v1/``."""
        try:
            place = parse_path(path)
        except PathError as error:
            return refusal(error.status, error.code, str(error))
        entry = self.catalogue.by_id(place.product)
        if place.wanted == "$value":
            return self._bytes(request, place, entry)
        if entry is None or entry.name in self.settings.deleted:
            return detail(404, "Product not found")
        nodes = place.nodes if place.wanted else place.nodes[:-1]
        found = listing(entry, nodes, self.base_url)
        if found is None:
            return detail(404, "Node not found")
        if not place.wanted:
            last = place.nodes[-1:]
            found = {"result": [node for node in found["result"] if node["Name"] in last]}
        return JSONResponse(found) if place.wanted or found["result"] else detail(404, "Node not found")

    def _bytes(self, request: Request, place: Place, entry: Entry | None) -> Response:
        given = _token(request)
        if given is None:
            return refusal(401, "DAT-ZIP-604", "Missing token")
        try:
            token = self.mint.read(given, "Bearer")
        except TokenError as error:
            return detail(401, "Expired signature!" if error.expired else "Invalid token!")
        request.state.account = token.account
        if token.audience != AUDIENCE:
            return refusal(401, "DAT-ZIP-609", "Token of the wrong audience")
        if entry is None or entry.name in self.settings.deleted or not entry.online:
            return detail(404, "Product not found")
        if entry.name in self.settings.forbidden:
            return refusal(403, "DAT-ZIP-608", "Forbidden")
        source = file_bytes(entry, place.nodes) if place.nodes else _zip(entry)
        if source is None:
            return detail(404, "Node not found")
        if request.method == "HEAD":
            return source.headers_only()
        slot = self.connections.slot(token.account)
        if slot is None:
            retry_after = self.settings.retry_after
            headers = None if retry_after is None else {"Retry-After": str(retry_after)}
            return refusal(429, "DAT-ZIP-100", "Max session number exceeded", headers)
        span = None
        takes_ranges = self.settings.ranges and isinstance(source, FileBytes)
        if takes_ranges:
            span = span_of(request, source)
        return ByteStream(source, slot, self.settings, span, takes_ranges=takes_ranges)


def download_app(desk: Desk) -> FastAPI:
    """The application of the download host."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)

    @app.api_route("/odata/v1/{path:path}", methods=["GET", "HEAD"])
    async def odata(request: Request, path: str) -> Response:
        return desk.answer(request, path)

    return app


# ----------------------------------------------------------------------------------------------------------- sources


@dataclass(frozen=True, slots=True)
class Source(ABC):
    """Content to send: its size, file name and media type."""

    size: int
    name: str
    kind: str

    @abstractmethod
    def blocks(self, first: int, last: int) -> Iterator[bytes]:
        """The bytes from ``first`` to ``last``, both included."""

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Content-Type": self.kind,
            "Content-Length": str(self.size),
            "Content-Disposition": f'attachment; filename="{self.name}"',
        }

    def headers_only(self) -> Response:
        return Response(None, 200, self.headers)


@dataclass(frozen=True, slots=True)
class FileBytes(Source):
    """A file of a product."""

    path: Path

    @property
    def etag(self) -> str:
        """A strong validator (RFC 9110, 8.8.3): another one as soon as the file is another."""
        status = self.path.stat()
        return f'"{status.st_size:x}-{status.st_mtime_ns:x}"'

    def blocks(self, first: int, last: int) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            file.seek(first)
            left = last + 1 - first
            while left > 0 and (block := file.read(min(_BLOCK, left))):
                left -= len(block)
                yield block


@dataclass(frozen=True, slots=True)
class ZipBytes(Source):
    """A product as a zip; always sent completely."""

    stream: ZipStream

    def blocks(self, first: int, last: int) -> Iterator[bytes]:
        return iter(self.stream)


def file_bytes(entry: Entry, nodes: Sequence[str]) -> FileBytes | None:
    """A file of a product by the names from the product's folder down; None if it does not exist."""
    path = resolve(entry, tuple(nodes))
    if path is None or not path.is_file():
        return None
    return FileBytes(path.stat().st_size, _quotable(path.name), "application/octet-stream", path)


def _zip(entry: Entry) -> Source | None:
    if entry.folder is None:
        return None
    stream = zipped(entry.folder)
    return ZipBytes(len(stream), f"{_quotable(entry.name.removesuffix('.SAFE'))}.zip", "application/zip", stream)


def _quotable(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isprintable() and letter != '"' else "_" for letter in name)


def _token(request: Request) -> str | None:
    """The bearer token of the header, or of the query string (where eodag puts it)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    return request.query_params.get("token") or None


# ----------------------------------------------------------------------------------------------------------- sending

type Span = tuple[int, int]


def span_of(request: Request, source: Source) -> Span | tuple[()] | None:
    """First and last byte of the Range header; empty if the file has none of them, None without such a header.

    A header that is not understood is ignored, as RFC 9110 (14.2) has it, and so is one for another file (If-Range).
    """
    if isinstance(source, FileBytes) and request.headers.get("if-range", source.etag) != source.etag:
        return None
    size = source.size
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if match is None or match["first"] == match["last"] == "":
        return None
    if match["first"] == "":
        first, last = max(0, size - int(match["last"])), size - 1
    else:
        first, last = int(match["first"]), min(int(match["last"] or size), size - 1)
        if match["last"] and int(match["last"]) < first:
            return None
    return (first, last) if first <= last else ()


class ByteStream(Response):
    """A download under way; it holds its slot until the last byte is sent or the client disconnects."""

    def __init__(
        self,
        source: Source,
        slot: Slot,
        settings: SandboxSettings,
        span: Span | tuple[()] | None,
        *,
        takes_ranges: bool,
    ) -> None:
        headers = source.headers
        if takes_ranges and isinstance(source, FileBytes):
            headers |= {"Accept-Ranges": "bytes", "ETag": source.etag}
        status = 200
        if span == ():
            status, headers = 416, {"Content-Range": f"bytes */{source.size}", "Content-Length": "0"}
        elif span:
            status = 206
            headers |= {"Content-Range": f"bytes {span[0]}-{span[1]}/{source.size}"}
            headers |= {"Content-Length": str(span[1] + 1 - span[0])}
        super().__init__(None, status, headers)
        self._source = source
        self._slot = slot
        self._bandwidth = settings.bandwidth
        self._span: Span | tuple[()] = (0, source.size - 1) if span is None else span

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            with self._slot:
                start: Any = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
                await send(start)
                last = await self._send_all_but_last(gone, send) if self._span else b""
            # The last byte is sent after the slot is released, so a client that has it may start the next download.
            await send({"type": "http.response.body", "body": last, "more_body": False})
        finally:
            gone.cancel()

    async def _send_all_but_last(self, gone: asyncio.Future[None], send: Send) -> bytes:
        """Send all bytes but the last, which is returned; empty if the client disconnected."""
        began, sent, kept = time.monotonic(), 0, b""
        for block in self._source.blocks(*self._span):
            if gone.done():
                return b""
            content, kept = kept + block[:-1], block[-1:]
            await send({"type": "http.response.body", "body": content, "more_body": True})
            sent += len(block)
            if self._bandwidth is not None:
                ahead = sent / self._bandwidth - (time.monotonic() - began)
                await asyncio.wait([gone], timeout=max(0.0, ahead))
            else:
                await asyncio.sleep(0)
        return kept


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
