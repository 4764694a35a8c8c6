from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from deployments.results import results_app


@pytest.fixture
def app(tmp_path: Path) -> Starlette:
    run = tmp_path / "runs" / "lena 1"
    run.mkdir(parents=True)
    (run / "index.csv").write_text("a,b\n")
    (run / "<b>.tif").write_bytes(bytes(range(100)))
    (run / ".lock").write_text("host 1")
    (tmp_path / "secret").write_text("secret")
    (run / "out").symlink_to(tmp_path / "secret")
    return results_app(tmp_path / "runs")


def get(app: Starlette, path: str, **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://results") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(ask())


def test_folders_are_listed_and_files_are_sent(app: Starlette) -> None:
    assert 'href="lena%201/"' in get(app, "/").text
    assert get(app, "/lena 1").headers["location"] == "http://results/lena%201/"
    page = get(app, "/lena 1/").text
    assert 'href="%3Cb%3E.tif"' in page
    assert "&lt;b&gt;.tif" in page
    assert ".lock" not in page
    table = get(app, "/lena 1/index.csv")
    assert (table.text, table.headers["content-type"]) == ("a,b\n", "text/plain; charset=utf-8")
    assert table.headers["content-security-policy"] == "sandbox"
    part = get(app, "/lena 1/%3Cb%3E.tif", Range="bytes=10-12")
    assert (part.status_code, part.content) == (206, bytes([10, 11, 12]))


@pytest.mark.parametrize(
    "path",
    ["/lena 1/.lock", "/lena 1/out", "/none", "/%2e%2e/secret", "/lena 1/%2e%2e/%2e%2e/secret", "//etc/passwd", "/%00"],
)
def test_nothing_else_is(app: Starlette, path: str) -> None:
    assert get(app, path).status_code == 404
