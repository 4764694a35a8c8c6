"""The Prefect server of a run: a real one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from support.traps import lay_traps, trapped
from support.waiting import until

from deployments.server.run_server import ServerError, server_of_run


@pytest.fixture(autouse=True)
def no_server_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither in the environment nor by other tests of this process."""
    for name in list(os.environ):
        if name.startswith("PREFECT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    with temporary_settings(restore_defaults={PREFECT_API_URL, PREFECT_API_AUTH_STRING}):
        yield


def servers() -> list[psutil.Process]:
    """Prefect servers among the children of this process."""
    return [child for child in psutil.Process().children() if child.cmdline()[2:5] == ["-m", "prefect", "server"]]


def test_it_answers_only_who_knows_the_secret_and_ends_with_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is started lie modules that it must not import."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(lay_traps(folder))
    monkeypatch.setenv("PYTHONPATH", ":")
    monkeypatch.setenv("CDSE_PASSWORD", "hunter2")
    with server_of_run("127.0.0.1"):
        url = os.environ["PREFECT_API_URL"]
        assert url.startswith("http://127.0.0.1:")
        user, _, password = os.environ["PREFECT_API_AUTH_STRING"].partition(":")
        assert (user, len(password)) == ("s2sr", 32)
        for auth, status in ((None, 401), ((user, "wrong"), 401), ((user, password), 200)):
            assert httpx.get(f"{url}/admin/version", auth=auth, timeout=60).status_code == status
        (server,) = servers()
        family = [server, *server.children(recursive=True)]
        assert "hunter2" not in str([process.environ() for process in family])
        assert os.environ["CDSE_PASSWORD"] == "hunter2"
    assert not [process for process in family if process.is_running()]
    assert not {"PREFECT_API_URL", "PREFECT_API_AUTH_STRING"} & set(os.environ)
    assert trapped(folder) == []
    until(lambda: not servers())


def test_one_that_is_configured_is_used() -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), server_of_run("127.0.0.1"):
        assert PREFECT_API_URL.value() == "http://127.0.0.1:9/api"
        assert servers() == []


def test_one_that_does_not_start_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "prefect").write_text("not a folder")
    with (
        pytest.raises(
            ServerError, match=r"^the run's own Prefect server did not start; start one with: prefect server"
        ),
        server_of_run("127.0.0.1"),
    ):
        raise AssertionError("it started")
    assert servers() == []
    assert "PREFECT_API_URL" not in os.environ
