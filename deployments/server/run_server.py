"""A Prefect server for the length of a run, where none is configured.

Prefect would start one by itself, but in each worker's process too, and on 127.0.0.1 alone. This one listens where the
workers can reach it, and answers only to whoever knows a secret made for the run, which travels with the tasks.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
from prefect.context import refresh_global_settings_context
from prefect.settings import PREFECT_API_URL

from deployments.process.account import account_hidden
from deployments.process.signals import ctrl_c_held
from s2sr_core.errors import S2SRError

_START = 180.0
_PAUSE = 0.2
#: What a server of one run has no use for: its interface, and the care of deployments.
_SETTINGS = {
    "PREFECT_UI_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_ENABLED": "false",
}


class ServerError(S2SRError):
    """The run's own Prefect server did not come up."""


@contextlib.contextmanager
def server_of_run(host: str) -> Iterator[None]:
    """See that flows of this block have an API; ``host`` is where workers reach this machine.

    A configured API (``PREFECT_API_URL``, or a profile's) is used as it is.

    Raises
    ------
    ServerError
        Where no server comes up.
    """
    if PREFECT_API_URL.value():
        yield
        return
    with _started(host) as (url, secret), _configured(PREFECT_API_URL=url, PREFECT_API_AUTH_STRING=secret):
        yield


@contextlib.contextmanager
def _configured(**variables: str) -> Iterator[None]:
    """Settings by the environment, so that every thread of Prefect's and Dask's has them."""
    os.environ.update(variables)
    refresh_global_settings_context()
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        refresh_global_settings_context()


@contextlib.contextmanager
def _started(host: str) -> Iterator[tuple[str, str]]:
    """A server on ``host``: its API's URL and the secret it asks for."""
    with socket.create_server((host, 0)) as free:
        port = free.getsockname()[1]
    secret = f"s2sr:{secrets.token_urlsafe(24)}"
    words = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port)]
    with ctrl_c_held(), account_hidden():
        environment = {**os.environ, **_SETTINGS, "PREFECT_SERVER_API_AUTH_STRING": secret}
        process = subprocess.Popen(  # noqa: S603
            words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    try:
        url = f"http://{host}:{port}/api"
        _wait(process, url)
        yield url, secret
    finally:
        with ctrl_c_held():
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    """Until the server answers."""
    ends = time.monotonic() + _START
    while time.monotonic() < ends and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", trust_env=False).status_code in (200, 401):
                return
        time.sleep(_PAUSE)
    raise ServerError("the run's own Prefect server did not start; start one and set PREFECT_API_URL")
