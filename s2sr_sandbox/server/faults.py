"""What can go wrong at CDSE, on demand: wrong answers, and downloads that stop, wait or change."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from dataclasses import dataclass, field
from typing import Literal, Self

from starlette.types import ASGIApp, Message, Receive, Scope, Send

type Host = Literal["identity", "catalogue", "download"]

_HTML = "<html><head><title>Service unavailable</title></head><body><h1>We will be back soon</h1></body></html>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong with requests whose path matches; made by the class methods.

    Attributes
    ----------
    path: regular expression, searched in the decoded path.
    host: ``identity``, ``catalogue`` or ``download``; None: any.
    method: ``GET``, ``HEAD`` or ``POST``; None: any.
    times: how many requests it affects; None: all.
    skip: how many requests pass first.
    status, body, headers: the answer instead of the true one; None: the true one, changed by the attributes below.
    close_after: close the connection after this many bytes of the body.
    stall_after, stall_seconds: after this many bytes, wait this long, then continue.
    corrupt_at: flip the bits of the byte there.
    """

    path: str
    host: Host | None = None
    method: str | None = None
    times: int | None = None
    skip: int = 0
    status: int | None = None
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
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

    def meeting(self, host: Host, method: str, path: str) -> Fault | None:
        """The fault that affects this request, if any."""
        with self._lock:
            for fault, met in self._met:
                if fault.host not in (None, host) or fault.method not in (None, method):
                    continue
                if re.search(fault.path, path) is None:
                    continue
                met[0] += 1
                if met[0] > fault.skip and (fault.times is None or met[0] <= fault.skip + fault.times):
                    return fault
        return None


class _ConnectionClosedError(Exception):
    """The fault has closed the connection."""


class FaultyApp:
    """An application whose requests are affected by the faults of one host."""

    def __init__(self, app: ASGIApp, faults: Faults, host: Host) -> None:
        self._app = app
        self._faults = faults
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self._faults.meeting(self._host, scope["method"], scope["path"])
        if fault is None:
            await self._app(scope, receive, send)
        elif fault.status is not None:
            await _answer(fault, scope["method"], send)
        else:
            try:
                await self._app(scope, receive, _FaultySend(fault, send))
            except _ConnectionClosedError:
                return  # without the end of the answer, so the server closes the connection


async def _answer(fault: Fault, method: str, send: Send) -> None:
    body = fault.body.encode()
    headers = {**fault.headers, "content-length": str(len(body))}
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": fault.status, "headers": encoded})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


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
