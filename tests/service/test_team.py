"""The files of a team's set-up: checked by their own tools, and run with PostgreSQL and a proxy from Debian."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from support.serving import PATIENCE, ROOT
from support.waiting import until

TEAM = ROOT / "deployments" / "team"
BIN = Path(sys.executable).parent
#: Where Debian keeps the programs of PostgreSQL that only administrators call.
_POSTGRESQL = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/none"))


def tool(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:{_POSTGRESQL}")
    if found is None:
        pytest.skip(f"{name} (Debian's package {package}) is not installed")
    return found


def call(*words: object, **options: object) -> str:
    done = subprocess.run(
        [str(word) for word in words], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=PATIENCE, **options,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def documented(beginning: str) -> list[str]:
    """The lines of the section in docs/service.md that begin so."""
    text = (ROOT / "docs" / "service.md").read_text()
    section = text[text.index("## A service for a team") : text.index("### Where workers run")]
    lines = [line for line in section.splitlines() if line.startswith(beginning)]
    assert lines
    return lines


def started_by(unit: Path) -> list[str]:
    """The words of the command of a unit of systemd."""
    (command,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    return shlex.split(command)


def settings(file: Path, **changed: str) -> dict[str, str]:
    """The variables of an environment file, some of them changed; the file is changed too."""
    lines = file.read_text().splitlines()
    found = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    assert set(changed) <= set(found)
    file.write_text("".join(f"{name}={value}\n" for name, value in (found | changed).items()))
    return found | changed


# ------------------------------------------------------------------------------------------------- by their own tools


def test_the_compose_files_and_the_containerfile_are_valid() -> None:
    files = [TEAM / "compose.yaml", TEAM / "compose.sandbox.yaml"]
    call(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files)
    call(BIN / "hadolint", TEAM / "Containerfile")
    services = yaml.safe_load(files[0].read_text())["services"]
    assert services["server"]["ports"] == ["127.0.0.1:4200:4200"]
    build = services["server"]["build"]
    assert (TEAM / build["context"] / build["dockerfile"]).resolve() == TEAM / "Containerfile"


def test_the_units_are_valid(tmp_path: Path) -> None:
    verify = tool("systemd-analyze", "systemd")
    for unit in TEAM.glob("*.service"):
        text = unit.read_text()
        program = started_by(unit)[0]
        assert program.startswith("/opt/s2sr/.venv/bin/")
        (tmp_path / unit.name).write_text(text.replace(program, str(BIN / Path(program).name)))
        assert "Unknown" not in call(verify, "verify", tmp_path / unit.name)


def test_the_image_has_what_its_commands_need(tmp_path: Path) -> None:
    """The steps of the image in a folder instead of a container: what is copied, and each RUN of uv."""
    steps = re.findall(r"^(COPY|RUN) (.*)$", (TEAM / "Containerfile").read_text(), re.MULTILINE)
    copied = [words.split()[:-1] for step, words in steps if step == "COPY"]
    assert copied[-1] == ["."]
    for name in copied[0]:
        shutil.copy(ROOT / name, tmp_path)
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not on the PATH")
    commands = [
        command for step, words in steps if step == "RUN" for command in words.split(" && ") if "uv sync" in command
    ]
    assert len(commands) == 2
    for number, command in enumerate(commands):
        if number:  # COPY . .
            tracked = call("git", "-C", ROOT, "ls-files").splitlines()
            for name in tracked:
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, tmp_path / name)
        plan = [uv, *command.replace("--no-cache", "--dry-run").split()[1:]]
        call(*plan, cwd=tmp_path, env=os.environ | {"UV_PROJECT_ENVIRONMENT": str(tmp_path / ".venv")})


def test_deployments_of_other_pools_are_valid_once_their_comment_signs_are_removed() -> None:
    text = (ROOT / "prefect.yaml").read_text()
    uncommented = re.sub(r"^#  ?", "  ", text[text.index("#  - name: docker") :], flags=re.MULTILINE)
    deployments = yaml.safe_load(text[: text.index("# Other kinds")] + uncommented)["deployments"]
    pools = {one["name"]: one["work_pool"]["name"] for one in deployments}
    assert (pools["docker"], pools["kubernetes"], pools["local"]) == ("s2sr-docker", "s2sr-kubernetes", "s2sr")
    assert all(schedule["active"] is False for one in deployments for schedule in one.get("schedules", ()))


# ------------------------------------------------------------------------------------------------------- as documented


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    words: Sequence[object], folder: Path, environment: Mapping[str, str], *, user: str | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "output.txt").open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in words], cwd=folder, env=environment, stdout=output, stderr=output, user=user
        )
        try:
            yield process
        finally:
            family = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            process.wait(timeout=PATIENCE)
            for member in psutil.wait_procs(family, timeout=20)[1]:
                member.kill()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """PostgreSQL with the documented role and database; gives the connection's address."""
    initdb, server, psql = (tool(name, "postgresql") for name in ("initdb", "postgres", "psql"))
    account = pwd.getpwnam("postgres").pw_name if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    home = Path("/tmp") / f"s2sr-postgresql-{tmp_path.name}-{os.getpid()}"  # its user must reach it
    home.mkdir(mode=0o755)
    shutil.chown(home, account)
    try:
        options = {"user": account, "cwd": home, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}}
        call(initdb, "--pgdata", home / "data", "--auth", "trust", "--username", "postgres", **options)
        port = free_port()
        words = [server, "-D", home / "data", "-p", port, "-c", "listen_addresses=127.0.0.1", "-k", home]
        with running(words, tmp_path, options["env"], user=account):
            sql = [psql, "--host", "127.0.0.1", "--port", port, "--username", "postgres", "--command"]
            until(
                lambda: subprocess.run([*map(str, sql), "SELECT 1"], capture_output=True, check=False).returncode == 0
            )
            for line in documented("sudo -u postgres "):
                name, *words = shlex.split(line)[3:]
                call(tool(name, "postgresql"), *sql[1:-1], *words)
            yield f"127.0.0.1:{port}"
    finally:
        shutil.rmtree(home)


def test_a_team_set_up_runs_behind_a_proxy_with_tls_on_postgresql(database: str, tmp_path: Path) -> None:
    nginx, openssl = tool("nginx", "nginx-light"), tool("openssl", "openssl")
    behind, port = free_port(), free_port()
    address, url = f"https://localhost:{port}", f"https://localhost:{port}/api"
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    call(
        openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate,
    )  # fmt: skip
    for name in ("server", "worker", "proxy", "checkout"):
        (tmp_path / name).mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "CDSE_", "S2SR_"))}
    etc = tmp_path / "etc"
    for name in ("systemd/system", "nginx/sites-enabled"):
        (etc / name).mkdir(parents=True)
    for line in documented("install "):
        call("sh", "-c", line.replace(" /etc/", f" {etc}/"), cwd=ROOT)
    file = etc / "s2sr" / "server.env"
    connection = settings(file)["PREFECT_API_DATABASE_CONNECTION_URL"].replace("localhost", database)
    server = clean | settings(file, PREFECT_API_DATABASE_CONNECTION_URL=connection, PREFECT_SERVER_UI_API_URL=url)
    server |= {"PREFECT_HOME": str(tmp_path / "server"), "PREFECT_SERVER_API_PORT": str(behind)}
    home = {"PREFECT_HOME": str(tmp_path / "worker"), "PREFECT_API_SSL_CERT_FILE": str(certificate)}
    worker = clean | settings(etc / "s2sr" / "worker.env", PREFECT_API_URL=url) | home

    site = (etc / "nginx" / "sites-enabled" / "s2sr").read_text()
    changes = {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "prefect.example.org;": "localhost;",
        "/etc/ssl/s2sr/fullchain.pem": str(certificate),
        "/etc/ssl/s2sr/privkey.pem": str(key),
        "http://127.0.0.1:4200": f"http://127.0.0.1:{behind}",
    }
    for old, new in changes.items():
        assert site.count(old) == 1
        site = site.replace(old, new)
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = tmp_path / "nginx.conf"
    # Its workers write bodies of more than 16 kB to files, here in a folder that only this user may enter.
    user = "user root;" if os.geteuid() == 0 else ""
    head = f"daemon off; {user} pid {tmp_path}/nginx.pid; error_log stderr; events {{}}"
    configuration.write_text(f"{head} http {{ access_log off; {temporary} {site} }}")

    program, *start = started_by(etc / "systemd" / "system" / "s2sr-server.service")
    assert program == "/opt/s2sr/.venv/bin/python"
    with (
        httpx.Client(verify=ssl.create_default_context(cafile=str(certificate)), timeout=60) as trusting,
        running([sys.executable, *start], tmp_path / "server", server),
        running([nginx, "-c", configuration], tmp_path / "proxy", clean),
    ):

        def healthy() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return trusting.get(f"{url}/health").is_success
            return False

        until(healthy, PATIENCE)
        pages = trusting.get(f"{address}/dashboard", headers={"Accept": "text/html"}, follow_redirects=True)
        assert pages.is_success
        assert "/v2" not in str(pages.url)
        assert pages.headers["content-security-policy"] == "connect-src 'self'"
        shown = trusting.get(f"{address}/ui-settings").json()
        assert (shown["api_url"], shown["default_ui"], shown["auth"]) == (url, "v1", "BASIC")
        assert trusting.post(f"{url}/flows/filter", json={}).status_code == 401
        trusting.auth = ("NAME", "PASSWORD")

        checkout = tmp_path / "checkout"
        shutil.copy(ROOT / "prefect.yaml", checkout)
        (variables,), (set_up,) = documented("set -a "), documented(".venv/bin/python ")
        steps = variables.replace("/etc/", f"{etc}/"), set_up.replace(".venv/bin/python", f"{sys.executable} -P")
        call("sh", "-ec", "\n".join(steps), cwd=checkout, env=clean | home)
        (season,) = trusting.get(f"{url}/deployments/name/season-update/season-update").json()["schedules"]
        assert not season["active"]
        _, *start = started_by(etc / "systemd" / "system" / "s2sr-worker.service")
        with running([BIN / "prefect", *start], checkout, worker):
            grid = trusting.get(f"{url}/deployments/name/make-grid/make-grid").json()["id"]
            body = {"parameters": {"out": "cells.csv"}, "state": {"type": "SCHEDULED"}}
            run = trusting.post(f"{url}/deployments/{grid}/create_flow_run", json=body).json()["id"]
            until(lambda: trusting.get(f"{url}/flow_runs/{run}").json()["state"]["type"] == "COMPLETED", PATIENCE)
        assert len((checkout / "cells.csv").read_text().splitlines()) == 5
    tables = call(
        tool("psql", "postgresql"), "--host", "127.0.0.1", "--port", database.rpartition(":")[2],
        "--username", "prefect", "--tuples-only", "--command", "SELECT count(*) FROM flow_run", "prefect",
    )  # fmt: skip
    assert int(tables) >= 1
