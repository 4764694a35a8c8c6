"""The request log: each request, its account and its answer. It never holds a password or token."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from s2sr_sandbox.server.faults import Host


@dataclass(frozen=True, slots=True)
class Request:
    """One request and its answer.

    Attributes
    ----------
    time: when it arrived, UTC.
    host: ``identity``, ``catalogue``, ``download``, or ``zipper``, to which downloads can be redirected.
    method: ``GET`` …
    path: decoded, without the query string.
    query: the query string; only OData's own options keep their values.
    status: of the answer; 0 until there is one.
    bytes: of the answer's body, as far as it was sent.
    account: of its token; None without a valid one.
    connections: open downloads of that account when the answer began, this one included.
    range: the Range header, if any.
    seconds: until the answer was complete or the client disconnected; None while it is under way.
    """

    time: str
    host: Host
    method: str
    path: str
    query: str
    range: str | None = None
    status: int = 0
    bytes: int = 0
    account: str | None = None
    connections: int = 0
    seconds: float | None = None


class RequestLog:
    """Requests in the order they arrived, and as lines of JSON in a file in the order they ended."""

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._file = None if path is None else path.open("a", encoding="utf-8")

    def snapshot(self) -> list[Request]:
        """All requests so far, those under way included."""
        with self._lock:
            return list(self._requests)

    def clear(self) -> None:
        """Forget the requests so far; the file keeps them, and so do those under way."""
        with self._lock:
            self._requests.clear()

    def began(self, request: Request) -> Callable[..., None]:
        """Log a request; returns the function that changes its entry (``seconds`` last)."""
        with self._lock:
            self._requests.append(request)
        current = request

        def change(**changes: Any) -> None:
            nonlocal current
            with self._lock:
                changed = replace(current, **changes)
                for place, listed in enumerate(self._requests):
                    if listed is current:
                        self._requests[place] = changed
                        break
                current = changed
                if "seconds" in changes and self._file is not None:
                    self._file.write(json.dumps(asdict(current)) + "\n")
                    self._file.flush()

        return change

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class LoggedApp:
    """An application whose requests are logged; ``connections`` counts an account's open downloads."""

    def __init__(self, app: ASGIApp, log: RequestLog, host: Host, connections: Callable[[str], int]) -> None:
        self._app = app
        self._log = log
        self._host = host
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, state = time.monotonic(), scope.setdefault("state", {})
        change = self._log.began(_request(self._host, scope))
        sent = 0

        async def counted(message: Message) -> None:
            nonlocal sent
            # Logged before it is sent, so a client that has the answer finds it in the log.
            if message["type"] == "http.response.start":
                account = state.get("account")
                open_now = 0 if account is None else self._connections(account)
                change(status=message["status"], account=account, connections=open_now)
            elif body := message.get("body"):
                sent += len(body)
                change(bytes=sent)
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            change(seconds=round(time.monotonic() - began, 6))


def _request(host: Host, scope: Scope) -> Request:
    ranges = [value.decode("latin-1") for name, value in scope["headers"] if name == b"range"]
    return Request(
        time=datetime.now(UTC).isoformat(),
        host=host,
        method=scope["method"],
        path=scope["path"],
        query=_redacted(scope["query_string"].decode("latin-1")),
        range=ranges[0] if ranges else None,
    )


def _redacted(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    return urlencode([(name, value if name.startswith("$") else "***") for name, value in pairs], safe="$/,:()*'")
