"""A Prefect server that lives as long as a run, if none is configured.

Prefect would start one by itself, but one for each worker's process as well. This one listens on loopback, and workers
on other machines reach it over TLS. It answers only requests with a secret, which is made for the run and sent with
tasks. Its database is on a disk of this machine, and it ends with the run's process, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from prefect.context import refresh_global_settings_context
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL

from deployments.clusters.network import LOOPBACK
from deployments.server.server_folder import record_server, server_folder
from deployments.server.tls_door import tls_door
from s2sr_core import stopping
from s2sr_core.account import account_hidden
from s2sr_core.errors import InstallationError
from s2sr_core.import_path import environment_of_child
from s2sr_core.proxies import exempt_from_proxies

#: Seconds within which the server must answer, also on a machine that is busy, and between attempts.
_START, _PAUSE = 600.0, 0.2
#: What the user says of the folder and the log is meant for every server.
_KEPT = ("PREFECT_HOME", "PREFECT_LOGGING_", "PREFECT_SERVER_ANALYTICS_ENABLED")
#: The server of one run needs no user interface and no services for deployments.
SETTINGS = {
    "PREFECT_UI_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_ENABLED": "false",
}


_own = False


def is_server_of_run() -> bool:
    """Whether the API of this process is that of a server which ends with the run."""
    return _own


class ServerError(InstallationError):
    """The run's own Prefect server did not start."""


@contextlib.contextmanager
def server_of_run(host: str, shared: Path) -> Iterator[None]:
    """Give the flows of this block an API; ``host`` is the address at which workers reach this machine.

    On a network it speaks TLS; the certificate that workers are to trust is then in ``shared``, a folder that they see.
    A configured API (``PREFECT_API_URL``, or that of a profile) is used as it is.

    Raises
    ------
    ServerError
        If the server does not start.
    """
    global _own
    if PREFECT_API_URL.value():
        yield
        return
    exempt_from_proxies(host)
    with contextlib.ExitStack() as held:
        url, secret = held.enter_context(_started(LOOPBACK))
        settings = {"PREFECT_API_AUTH_STRING": secret}
        if host != LOOPBACK:
            url, certificate = held.enter_context(tls_door(host, urlsplit(url).port or 0, shared))
            url, settings["PREFECT_API_SSL_CERT_FILE"] = f"{url}/api", str(certificate)
        held.enter_context(_configured(PREFECT_API_URL=url, **settings))
        held.callback(
            APILogHandler().flush
        )  # later there is no server, which Prefect would say after the last sentence
        _own = True
        try:
            yield
        finally:
            _own = False


@contextlib.contextmanager
def _configured(**variables: str) -> Iterator[None]:
    """Set Prefect's settings in the environment, where every thread of Prefect and Dask finds them.

    Those of the user are for another server, and are left out meanwhile.
    """
    before = {name: value for name, value in os.environ.items() if name.startswith("PREFECT_")}
    _replace(before, _without_users_settings(before) | variables)
    try:
        yield
    finally:
        _replace(variables, before)


def _replace(old: Mapping[str, str], new: Mapping[str, str]) -> None:
    for name in old:
        os.environ.pop(name, None)
    os.environ.update(new)
    refresh_global_settings_context()


def _without_users_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` without settings that a user has made for another Prefect server, in variables or in a profile.

    An address of a database, a certificate or a default storage would be applied to the server of the run, too.
    """
    kept = {name: value for name, value in environment.items() if name.startswith(_KEPT) or name[:8] != "PREFECT_"}
    return {**kept, "PREFECT_PROFILES_PATH": os.devnull}


@contextlib.contextmanager
def _started(host: str) -> Iterator[tuple[str, str]]:
    """A server on ``host``: the URL of its API, and the secret."""
    with socket.create_server((host, 0)) as free:
        port = free.getsockname()[1]
    secret = f"s2sr:{secrets.token_urlsafe(24)}"
    with server_folder() as folder:
        words = [sys.executable, "-P", "-m", "deployments.server.own_server", str(folder)]
        with account_hidden():
            environment = {
                **_without_users_settings(environment_of_child()),
                **SETTINGS,
                "PREFECT_HOME": str(folder),  # the database is there
                "PREFECT_SERVER_API_AUTH_STRING": secret,
            }
            process = subprocess.Popen(  # noqa: S603
                [*words, "--host", host, "--port", str(port)],
                env=environment,
                stdin=subprocess.PIPE,  # its end is the end of this process
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # no signal of a terminal reaches it
            )
        try:
            record_server(folder, process.pid)
            url = f"http://{host}:{port}/api"
            _wait(process, url)
            yield url, secret
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    """Wait until the server answers."""
    ends = time.monotonic() + _START
    while time.monotonic() < ends and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", trust_env=False).status_code in (200, 401):
                return
        stopping.pause(_PAUSE)
    raise ServerError(
        "the run's own Prefect server did not start; start one with: prefect server start, and set PREFECT_API_URL"
    )
