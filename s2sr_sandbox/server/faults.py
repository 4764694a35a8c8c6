"""What can go wrong at CDSE, on demand: wrong answers, and downloads that stop, wait or change."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Literal, Self

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

type Host = Literal["identity", "catalogue", "download", "zipper", "s3"]
#: Where a redirect can lead: another host of the service, or the same port under a name that is not the service's.
type Elsewhere = Literal["zipper", "foreign"]
#: What the identity host can forget: the access tokens issued so far, or these with their sessions.
type Revoked = Literal["access", "sessions"]

_HTML = "<html><head><title>Service unavailable</title></head><body><h1>We will be back soon</h1></body></html>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong with requests whose path matches; made by the class methods.

    Attributes
    ----------
    path: regular expression, searched in the decoded path.
    host: ``identity``, ``catalogue``, ``download``, ``zipper`` or ``s3``; None: any.
    method: ``GET``, ``HEAD`` or ``POST``; None: any.
    query: regular expression, searched in the query string as it came (form-encoded); None: any.
    ranged: whether the request asks for a part of a file (Range); None: either.
    times: how many requests it affects; None: all.
    skip: how many requests pass first.
    status, body, headers: the answer instead of the true one; None: the true one, changed by the attributes below.
    retry_after_date: the answer's Retry-After, as an HTTP date that many seconds from then.
    redirect_to: the answer is a redirect (302) to the same path there.
    revoke: tokens that are no longer valid from this request on.
    delay: wait this long before the answer, seconds.
    rewrite: what a JSON answer becomes.
    gzipped: the body is compressed, and Content-Length is that of the compressed one: ``accepted`` if the client
        accepts that, ``always`` also if it does not.
    close_after: close the connection after this many bytes of the body.
    stall_after, stall_seconds: after this many bytes, wait this long, then continue.
    corrupt_at: flip the bits of the byte there.
    """

    path: str
    host: Host | None = None
    method: str | None = None
    query: str | None = None
    ranged: bool | None = None
    times: int | None = None
    skip: int = 0
    status: int | None = None
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    retry_after_date: float | None = None
    redirect_to: Elsewhere | None = None
    revoke: Revoked | None = None
    delay: float = 0.0
    rewrite: Callable[[Any], Any] | None = None
    gzipped: Literal["", "accepted", "always"] = ""
    close_after: int | None = None
    stall_after: int | None = None
    stall_seconds: float = 0.0
    corrupt_at: int | None = None

    @classmethod
    def answer(
        cls,
        path: str,
        status: int,
        body: str = "",
        *,
        headers: dict[str, str] | None = None,
        host: Host | None = None,
        method: str | None = None,
        times: int | None = None,
        skip: int = 0,
    ) -> Self:
        """An answer instead of the true one, of type text/plain unless ``headers`` say otherwise."""
        headers = {"content-type": "text/plain"} | (headers or {})
        return cls(
            path=path, status=status, body=body, headers=headers, host=host, method=method, times=times, skip=skip
        )

    @classmethod
    def error(
        cls,
        path: str,
        status: int,
        code: str = "",
        message: str = "",
        *,
        retry_after: int | None = None,
        host: Host | None = None,
        times: int | None = None,
        skip: int = 0,
    ) -> Self:
        """An error in the download host's JSON; with status 200 it looks like success."""
        headers = {"content-type": "application/json"}
        if retry_after is not None:
            headers["retry-after"] = str(retry_after)
        body = json.dumps({"trace-id": "0" * 32, "code": code, "message": message})
        return cls.answer(path, status, body, headers=headers, host=host, times=times, skip=skip)

    @classmethod
    def html(cls, path: str, status: int = 200, *, host: Host | None = None, times: int | None = None) -> Self:
        """A web page, although the client expects JSON or a file."""
        return cls.answer(path, status, _HTML, headers={"content-type": "text/html"}, host=host, times=times)

    @classmethod
    def close(cls, path: str, after: int, *, host: Host | None = None, times: int | None = None) -> Self:
        """The connection closes after ``after`` bytes, whatever Content-Length said."""
        return cls(path=path, close_after=after, host=host, method="GET", times=times)

    @classmethod
    def stall(
        cls, path: str, after: int, seconds: float, *, host: Host | None = None, times: int | None = None
    ) -> Self:
        """The download pauses for ``seconds`` after ``after`` bytes."""
        return cls(path=path, stall_after=after, stall_seconds=seconds, host=host, method="GET", times=times)

    @classmethod
    def corrupt(cls, path: str, at: int = 0, *, host: Host | None = None, times: int | None = None) -> Self:
        """One wrong byte, so that the size is right and the checksum is not."""
        return cls(path=path, corrupt_at=at, host=host, method="GET", times=times)


class Faults:
    """The faults in force; they can change while the server runs, from any thread."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._lock = threading.Lock()
        self._met: list[tuple[Fault, list[int]]] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Add a fault; if two match a request, the one added first counts.

        Raises
        ------
        re.error
            If its path is not a regular expression.
        """
        re.compile(fault.path)
        with self._lock:
            self._met.append((fault, [0]))

    def clear(self) -> None:
        with self._lock:
            self._met.clear()

    def meeting(self, host: Host, method: str, path: str, query: str = "", *, ranged: bool = False) -> Fault | None:
        """The fault that affects this request, if any."""
        with self._lock:
            for fault, met in self._met:
                if fault.host not in (None, host) or fault.method not in (None, method):
                    continue
                if re.search(fault.path, path) is None:
                    continue
                if fault.ranged not in (None, ranged):
                    continue
                if fault.query is not None and re.search(fault.query, query) is None:
                    continue
                met[0] += 1
                if met[0] > fault.skip and (fault.times is None or met[0] <= fault.skip + fault.times):
                    return fault
        return None


class _ConnectionClosedError(Exception):
    """The fault has closed the connection."""


class FaultyApp:
    """An application whose requests are affected by the faults of one host.

    Parameters
    ----------
    elsewhere: base URLs to which a redirect can lead.
    revoke: makes tokens invalid.
    """

    def __init__(
        self,
        app: ASGIApp,
        faults: Faults,
        host: Host,
        elsewhere: Mapping[Elsewhere, str],
        revoke: Callable[[Revoked], None],
    ) -> None:
        self._app = app
        self._faults = faults
        self._host = host
        self._elsewhere = elsewhere
        self._revoke = revoke

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = scope["query_string"].decode("latin-1")
        ranged = "range" in Headers(scope=scope)
        fault = self._faults.meeting(self._host, scope["method"], scope["path"], query, ranged=ranged)
        if fault is None:
            await self._app(scope, receive, send)
            return
        if fault.revoke is not None:
            self._revoke(fault.revoke)
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.redirect_to is not None:
            target = scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
            location = f"{self._elsewhere[fault.redirect_to]}{target}"
            await _answer(302, "", {"location": location}, scope["method"], send)
        elif fault.status is not None:
            await _answer(fault.status, fault.body, _headers(fault), scope["method"], send)
        else:
            try:
                await self._app(scope, receive, _changed_send(fault, scope, send))
            except _ConnectionClosedError:
                return  # without the end of the answer, so the server closes the connection


def _headers(fault: Fault) -> dict[str, str]:
    if fault.retry_after_date is None:
        return fault.headers
    return {**fault.headers, "retry-after": formatdate(time.time() + fault.retry_after_date, usegmt=True)}


def _changed_send(fault: Fault, scope: Scope, send: Send) -> Send:
    if fault.rewrite is not None:
        return _RewrittenSend(_json_rewrite(fault.rewrite), {}, send)
    accepts = "gzip" in Headers(scope=scope).get("accept-encoding", "")
    if fault.gzipped == "always" or (fault.gzipped == "accepted" and accepts):
        return _RewrittenSend(gzip.compress, {"content-encoding": "gzip"}, send)
    return _FaultySend(fault, send)


async def _answer(status: int, text: str, headers: Mapping[str, str], method: str, send: Send) -> None:
    body = text.encode()
    headers = {**headers, "content-length": str(len(body))}
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


def _json_rewrite(rewrite: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    return lambda body: json.dumps(rewrite(json.loads(body))).encode()


class _RewrittenSend:
    """A ``send`` that keeps a good answer until it is complete, and sends another body with its own length.

    An answer that is not a success, or is the rest of a file (206), is sent as it is.
    """

    def __init__(self, rewrite: Callable[[bytes], bytes], headers: Mapping[str, str], send: Send) -> None:
        self._rewrite, self._added, self._send = rewrite, headers, send
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] == 200:
                self._start = message
            else:
                await self._send(message)
            return
        if self._start is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        body = self._rewrite(self._body)
        kept = [(name, value) for name, value in self._start["headers"] if name != b"content-length"]
        added = [(name.encode(), value.encode()) for name, value in self._added.items()]
        length = (b"content-length", str(len(body)).encode())
        await self._send({**self._start, "headers": [*kept, *added, length]})
        await self._send({"type": "http.response.body", "body": body})


class _FaultySend:
    """A ``send`` that a fault changes."""

    def __init__(self, fault: Fault, send: Send) -> None:
        self._fault = fault
        self._send = send
        self._at = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] != "http.response.body":
            await self._send(message)
            return
        fault, body, more = self._fault, bytes(message.get("body", b"")), message.get("more_body", False)
        first, self._at = self._at, self._at + len(body)
        if fault.corrupt_at is not None and first <= fault.corrupt_at < self._at:
            at = fault.corrupt_at - first
            body = body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :]
        if fault.close_after is not None and fault.close_after < self._at:
            await self._part(body[: max(0, fault.close_after - first)])
            raise _ConnectionClosedError
        if fault.stall_after is not None and first <= fault.stall_after < self._at:
            cut = fault.stall_after - first
            await self._part(body[:cut])
            await asyncio.sleep(fault.stall_seconds)
            body = body[cut:]
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _part(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
