import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import requests
from pydantic import ValidationError
from support.waiting import DEADLINE

from s2sr_core.errors import InputError
from s2sr_sandbox.__main__ import main
from s2sr_sandbox.server import SandboxSettings, running


def test_the_environment_leads_here(archive: Path, names: list[str]) -> None:
    with running(archive) as sandbox:
        variables = sandbox.environment()
        password = Path(variables["CDSE_PASSWORD_FILE"])
        assert password.read_text().strip() == sandbox.settings.password.get_secret_value()
        assert password.stat().st_mode & 0o777 == 0o600
        assert variables["CDSE_USERNAME"] == "sandbox"
        urls = [variables[f"S2SR_{host}_URL"] for host in ("CATALOGUE", "IDENTITY", "DOWNLOAD")]
        assert urls == [sandbox.catalogue_url, sandbox.identity_url, sandbox.download_url]
        assert len({url.rpartition(":")[2] for url in urls}) == 3
        assert all(url.startswith("http://127.0.0.1:") for url in urls)
        assert sandbox.proxy_environment() == {}
        for url in urls:
            assert requests.get(url, timeout=10).status_code == 404
        assert [entry.name for entry in sandbox.catalogue] == sorted(names)
    assert not password.exists()
    for url in urls:
        with pytest.raises(requests.exceptions.ConnectionError):
            requests.get(url, timeout=10)
    assert not [thread for thread in threading.enumerate() if thread.name == "sandbox-cdse"]


def test_it_stops_under_open_connections(serve: Any, archive: Path, names: list[str]) -> None:
    session = requests.Session()
    with running(archive, SandboxSettings(bandwidth=1_000)) as sandbox:
        session.get(f"{sandbox.catalogue_url}/odata/v1/Products", timeout=10)
        form = {"client_id": "cdse-public", "grant_type": "password"}
        form |= {"username": "sandbox", "password": "sandbox-password"}
        token_url = f"{sandbox.identity_url}/auth/realms/CDSE/protocol/openid-connect/token"
        token = session.post(token_url, data=form, timeout=10).json()["access_token"]
        url = f"{sandbox.download_url}/odata/v1/Products({sandbox.catalogue[names[0]].id})/$value"
        answer = session.get(url, headers={"Authorization": f"Bearer {token}"}, stream=True, timeout=10)
        assert answer.status_code == 200
    answer.close()
    session.close()


def test_the_log_holds_every_request_and_no_secret(archive: Path, names: list[str], tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    with running(archive, SandboxSettings(request_log=file)) as sandbox:
        token_url = f"{sandbox.identity_url}/auth/realms/CDSE/protocol/openid-connect/token"
        secrets = ["sandbox-password", "wrong-password"]
        for secret in reversed(secrets):
            form = {"client_id": "cdse-public", "grant_type": "password", "username": "sandbox", "password": secret}
            answer = requests.post(token_url, data=form, timeout=10)
        requests.get(token_url, params={"password": "sandbox-password"}, timeout=10)
        secrets += [answer.json()["access_token"], answer.json()["refresh_token"]]
        requests.get(f"{sandbox.catalogue_url}/odata/v1/Products?$filter=Online eq true&$top=2", timeout=10)
        base = f"{sandbox.download_url}/odata/v1/Products({sandbox.catalogue[names[0]].id})"
        path = f"{base}/Nodes({names[0]})/Nodes(manifest.safe)/$value"
        requests.get(path, headers={"Authorization": f"Bearer {secrets[2]}"}, timeout=10)
        requests.get(path, params={"token": secrets[2]}, timeout=10)
        logged = sandbox.requests
        sandbox.clear_requests()
        assert sandbox.requests == []
    assert [(item.host, item.method, item.status, item.account, item.connections) for item in logged] == [
        ("identity", "POST", 401, None, 0),
        ("identity", "POST", 200, None, 0),
        ("identity", "GET", 405, None, 0),
        ("catalogue", "GET", 200, None, 0),
        ("download", "GET", 200, "sandbox", 1),
        ("download", "GET", 200, "sandbox", 1),
    ]
    assert logged[3].query == "$filter=Online+eq+true&$top=2"
    size = (archive / names[0] / "manifest.safe").stat().st_size
    assert [item.bytes for item in logged[4:]] == [size, size]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["host"], line["path"], line["status"], line["bytes"]) for line in lines] == [
        (item.host, item.path, item.status, item.bytes) for item in logged
    ]
    assert all(line["seconds"] >= 0 for line in lines)
    assert not [secret for secret in secrets if secret in file.read_text() or secret in repr(logged)]


def test_bad_settings_are_refused(archive: Path, tmp_path: Path) -> None:
    for bad in ({"connections": 0}, {"bandwidth": 0}, {"identity_port": 70_000}, {"unheard_of": 1}, {"username": ""}):
        with pytest.raises(ValidationError):
            SandboxSettings(**bad)
    with pytest.raises(InputError, match="is not a folder"), running(tmp_path / "nothing"):
        pass
    with pytest.raises(InputError, match="is not a product"), running(archive, SandboxSettings(offline={"x.SAFE"})):
        pass
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match="download_port"), running(archive, SandboxSettings(download_port=port)):
            pass
    assert "sandbox-password" not in repr(SandboxSettings())


# ------------------------------------------------------------------------------------------------------- command line


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_the_command_line_serves_a_folder(archive: Path, tmp_path: Path, end: int) -> None:
    log = tmp_path / "requests.jsonl"
    command = [
        sys.executable,
        "-m",
        "s2sr_sandbox",
        "--serve",
        "--folder",
        str(archive),
        "--request-log",
        str(log),
    ]
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        variables, line = {}, ""
        while not line.startswith("#"):
            line = process.stdout.readline()
            assert line, process.stderr.read()
            if line.startswith("export "):
                name, _, value = shlex.split(line)[1].partition("=")
                variables[name] = value
        url = f"{variables['S2SR_CATALOGUE_URL']}/odata/v1/Products?$count=True"
        assert requests.get(url, timeout=10).json()["@odata.count"] == 9
        assert Path(variables["CDSE_PASSWORD_FILE"]).read_text()
        process.send_signal(end)
        assert process.wait(DEADLINE) == 0
        assert process.stderr.read() == ""
    assert not Path(variables["CDSE_PASSWORD_FILE"]).exists()
    assert len(log.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--folder ARCHIVE", "folder"),
        ("--out OUT --connections 3", "connections"),
        ("--folder ARCHIVE --serve --connections 0", "connections"),
        ("--folder ARCHIVE --serve --bandwidth fast", "bandwidth"),
        ("--folder ARCHIVE --serve --download-port 99999", "download_port"),
        ("--folder OUT --serve", "folder"),
        ("--folder ARCHIVE --serve --request-log OUT/x/y", "request_log"),
    ],
)
def test_bad_options_are_told_on_one_line(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, named: str
) -> None:
    out = tmp_path / "out"
    words = options.replace("ARCHIVE", str(archive)).replace("OUT", str(out)).split()
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{named} = ")
    assert not out.exists()


def test_out_and_folder_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--serve", "--out", "a", "--folder", "b"])
    assert "--out and --folder exclude each other" in capsys.readouterr().err


def test_without_a_folder_scenes_are_made_and_served(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s2sr_sandbox", "--size", "48", "--bands", "B04", "--dates", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        lines = []
        while not lines or not lines[-1].startswith("#"):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0
    assert len(list((tmp_path / "sandbox-cdse").glob("*.SAFE"))) == 1
    assert any(line.startswith("export S2SR_CATALOGUE_URL=") for line in lines)
