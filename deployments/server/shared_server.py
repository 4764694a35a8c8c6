"""Prefect's server for many runs, whose pages speak to nobody else, and whose SQLite is not locked by its own readers.

    PREFECT_SERVER_API_HOST=127.0.0.1 PREFECT_SERVER_API_PORT=4200 python -P -m deployments.server.shared_server

It is what ``prefect server start`` starts, with the same settings and two changes that no setting makes. The new pages
(V2) set up a client of a company that counts visits, whether or not statistics are on; a header forbids them to connect
to other hosts. And a transaction of SQLite that reads before it writes is refused at once ("database is locked") if
another one wrote in between, whatever its timeout; here each one that may write waits for its turn when it begins.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

#: What pages may connect to: the host that they come from.
POLICY = "connect-src 'self'"

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Application = Callable[[_Message, _Receive, _Send], Awaitable[None]]


def main() -> None:
    """Serve until SIGTERM."""
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import PREFECT_UI_STATIC_DIRECTORY, get_current_settings, temporary_settings

    writers_wait_when_they_begin()
    server = get_current_settings().server
    with temporary_settings(set_defaults={PREFECT_UI_STATIC_DIRECTORY: folder_of_pages()}):
        uvicorn.run(
            with_policy(create_app(final=True)),
            host=server.api.host,
            port=server.api.port,
            timeout_keep_alive=server.api.keepalive_timeout,
            log_level=server.logging_level.lower(),
        )


def folder_of_pages() -> str | None:
    """Where the server puts its pages together: in Prefect's home if it may not write where Prefect is installed.

    It would go on without any page. None is Prefect's own folder.
    """
    import prefect
    from prefect.settings import get_current_settings

    installed = Path(prefect.__ui_static_subpath__).parent
    return None if os.access(installed, os.W_OK) else str(get_current_settings().home / "pages")


def with_policy(application: _Application) -> _Application:
    """An ASGI application with the header of :data:`POLICY` in each answer."""
    header = (b"content-security-policy", POLICY.encode())

    async def restricted(scope: _Message, receive: _Receive, send: _Send) -> None:
        async def answer(message: _Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), header]
            await send(message)

        await application(scope, receive, answer)

    return restricted


def writers_wait_when_they_begin() -> None:
    """Begin each transaction of SQLite with ``BEGIN IMMEDIATE``, as Prefect does where it expects many writers."""
    from prefect.server.database.configurations import AioSqliteConfiguration

    begin = AioSqliteConfiguration.begin_transaction

    @asynccontextmanager
    async def begin_transaction(
        self: AioSqliteConfiguration, session: Any, with_for_update: bool = False
    ) -> AsyncIterator[Any]:
        async with begin(self, session, with_for_update=True) as transaction:
            yield transaction

    AioSqliteConfiguration.begin_transaction = begin_transaction  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
