"""The Prefect server of a run: a real one."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from support.intruder import ports
from support.traps import lay_traps, trapped
from support.waiting import DEADLINE, until

from deployments.server import run_server
from deployments.server.run_server import ServerError, server_of_run
from deployments.server.server_folder import end_orphan, record_server

OWN_SERVER = ["-m", "deployments.server.own_server"]
#: A run that has a server, says so, and waits to be killed. Like the program's own, it is one that hears signals.
RUN = """
import sys
from pathlib import Path
import prefect
from deployments.server.run_server import server_begun, server_of_run
from s2sr_core.signals import signals_heard
with signals_heard(), server_begun(copied=bool(sys.argv[1:])) as begun:
    with server_of_run("127.0.0.1", Path("nowhere"), begun):
        print("it answers", flush=True)
        sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def no_server_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither in the environment nor by other tests of this process."""
    for name in list(os.environ):
        if name.startswith("PREFECT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "local"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "local").mkdir()
    with temporary_settings(restore_defaults={PREFECT_API_URL, PREFECT_API_AUTH_STRING}):
        yield


def servers() -> list[psutil.Process]:
    """Prefect servers among the children of this process."""
    return [child for child in psutil.Process().children() if child.cmdline()[2:4] == OWN_SERVER]


def test_it_answers_only_who_knows_the_secret_and_ends_with_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is started lie modules that it must not import."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(lay_traps(folder))
    monkeypatch.setenv("PYTHONPATH", ":")
    monkeypatch.setenv("CDSE_PASSWORD", "hunter2")
    with server_of_run("127.0.0.1", tmp_path):
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
        (its_folder,) = (tmp_path / "local").glob("s2sr-server-*")
        assert (its_folder / "prefect.db").exists()
    assert list((tmp_path / "local").glob("s2sr-server-*")) == []
    assert not (tmp_path / "prefect" / "prefect.db").exists()
    assert not [process for process in family if process.is_running()]
    assert not {"PREFECT_API_URL", "PREFECT_API_AUTH_STRING"} & set(os.environ)
    assert trapped(folder) == []
    until(lambda: not servers())


def test_one_that_is_configured_is_used(tmp_path: Path) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), server_of_run("127.0.0.1", tmp_path):
        assert PREFECT_API_URL.value() == "http://127.0.0.1:9/api"
        assert servers() == []


@pytest.mark.parametrize("copied", [[], ["copied"]], ids=["new", "copied"])
def test_it_ends_with_a_run_that_is_killed_and_leaves_no_file(tmp_path: Path, copied: list[str]) -> None:
    """Whether it is a new program, or a copy of the run's process: that knows the account, and the server does not."""
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, *copied],
        env=os.environ | {"CDSE_PASSWORD": "hunter2"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with run:
        assert run.stdout is not None
        assert run.stdout.readline() == "it answers\n"
        (server,) = family = psutil.Process(run.pid).children(recursive=True)
        assert (server.cmdline()[2:4] == OWN_SERVER) is not bool(copied)
        assert "CDSE_" not in str(server.environ())
        assert ports([server]) != set()
        run.kill()
    until(lambda: not [process for process in family if process.is_running()])
    assert list((tmp_path / "local").glob("s2sr-server-*")) == []


def test_the_next_run_ends_a_server_whose_run_is_dead_and_no_other(tmp_path: Path) -> None:
    """Of three: one whose run is dead; one whose run is this process; one whose number another process has now."""
    folders = [tmp_path / name for name in ("dead", "alive", "reused")]
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(subprocess.Popen(["sleep", "600"])) for _ in folders]
        stack.callback(lambda: [server.kill() for server in servers])
        for folder, server in zip(folders, servers, strict=True):
            folder.mkdir()
            record_server(folder, server.pid)
        for folder, process in ((folders[0], "run"), (folders[2], "run"), (folders[2], "server")):
            path = folder / "run.json"
            record = json.loads(path.read_text())
            path.write_text(json.dumps(record | {process: [record[process][0], 1.0]}))
        for folder in folders:
            end_orphan(folder)
        servers[0].wait(DEADLINE)
        assert [server.poll() for server in servers[1:]] == [None, None]
        assert [folder.exists() for folder in folders] == [False, True, False]


def test_one_that_does_not_start_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run_server.SETTINGS, "PREFECT_SERVER_DATABASE_TIMEOUT", "soon")
    with (
        pytest.raises(
            ServerError, match=r"^the run's own Prefect server did not start; start one with: prefect server"
        ),
        server_of_run("127.0.0.1", tmp_path),
    ):
        raise AssertionError("it started")
    assert servers() == []
    assert "PREFECT_API_URL" not in os.environ


#: A process on another machine: it knows the address, the secret and the certificate.
ELSEWHERE = """
from prefect import flow, get_client

@flow
def nothing():
    return 5

assert nothing() == 5
with get_client(sync_client=True) as client:
    print([run.state.type.value for run in client.read_flow_runs()])
"""


@pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2"])
def test_on_a_network_it_speaks_tls_and_listens_on_loopback_alone(tmp_path: Path) -> None:
    """Its certificate is in the folder that all machines see, and gone afterwards; its key is in no file."""
    with server_of_run("127.0.0.2", tmp_path / "run" / "tmp"):
        url = os.environ["PREFECT_API_URL"]
        assert url.startswith("https://127.0.0.2:")
        (certificate,) = (tmp_path / "run" / "tmp").iterdir()
        assert os.environ["PREFECT_API_SSL_CERT_FILE"] == str(certificate)
        assert "PRIVATE" not in certificate.read_text()
        strict = ssl.create_default_context(cafile=str(certificate))
        strict.verify_flags |= ssl.VERIFY_X509_STRICT
        assert httpx.get(f"{url}/admin/version", verify=strict, timeout=60).status_code == 401
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{url.replace('https', 'http')}/admin/version", timeout=60)
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{url}/admin/version", timeout=60)
        (server,) = servers()
        assert {ip for ip, _ in ports([server, *server.children(recursive=True)])} == {"127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, timeout=200, check=False
        )
        assert done.stdout == "['COMPLETED']\n", done.stderr
    assert not (tmp_path / "run" / "tmp").exists()
