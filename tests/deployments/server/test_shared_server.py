"""What Prefect's server for many runs does otherwise than ``prefect server start``."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prefect.server.database.configurations import AioSqliteConfiguration

from deployments.server.shared_server import folder_of_pages, with_policy, writers_wait_when_they_begin


async def two_writers(database: Path, *, reader_waits: bool) -> int:
    """One reads before it writes, and another writes in between, or shall; returns the rows in the end."""
    configuration = AioSqliteConfiguration(f"sqlite+aiosqlite:///{database}")
    engine = await configuration.engine()
    insert, count, asked = sa.text("INSERT INTO rows VALUES (1)"), sa.text("SELECT count(*) FROM rows"), asyncio.Event()

    async def write() -> None:
        async with await configuration.session(engine) as session:
            asked.set()
            async with configuration.begin_transaction(session):
                await session.execute(insert)

    async with await configuration.session(engine) as session, configuration.begin_transaction(session):
        await session.execute(sa.text("CREATE TABLE rows (one INTEGER)"))
    async with await configuration.session(engine) as session:
        async with configuration.begin_transaction(session):
            await session.execute(count)
            other = asyncio.create_task(write())
            await (other if reader_waits else asked.wait())
            await session.execute(insert)
        await other
        rows = (await session.execute(count)).scalar_one()
    await engine.dispose()
    return int(rows)


def test_a_transaction_that_reads_before_it_writes_is_refused_by_prefects_sqlite(tmp_path: Path) -> None:
    """If it is not any more, ``writers_wait_when_they_begin`` may go."""
    with pytest.raises(sa.exc.OperationalError, match="database is locked"):
        asyncio.run(two_writers(tmp_path / "records.db", reader_waits=True))


def test_two_that_may_write_come_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AioSqliteConfiguration, "begin_transaction", AioSqliteConfiguration.begin_transaction)
    writers_wait_when_they_begin()
    assert asyncio.run(two_writers(tmp_path / "records.db", reader_waits=False)) == 2


def test_pages_are_put_together_in_prefects_home_if_its_own_folder_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in the image, where another user has installed it: Prefect's server would have no pages."""
    assert folder_of_pages() is None
    monkeypatch.setattr("prefect.__ui_static_subpath__", "/proc/none/ui_build")
    assert folder_of_pages() == f"{os.environ['PREFECT_HOME']}/pages"


def test_each_answer_says_what_pages_may_connect_to() -> None:
    sent: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"page"})

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(with_policy(application)({"type": "http"}, None, send))  # type: ignore[arg-type]
    assert sent[0]["headers"] == [(b"a", b"b"), (b"content-security-policy", b"connect-src 'self'")]
    assert sent[1]["body"] == b"page"
