"""A Prefect server that lives as long as a run, if none is configured.

Prefect would start one by itself, but one for each worker's process as well. This one listens on loopback, and workers
on other machines reach it over TLS. It answers only requests with a secret, which is made for the run and sent with
tasks. Its database is on a disk of this machine, and it ends with the run's process, however that ends.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from deployments.clusters.network import LOOPBACK
from deployments.process.copies import copy_of_this_process
from deployments.server import own_server
from deployments.server.server_folder import record_server, server_folder
from s2sr_core import stopping
from s2sr_core.account import account_hidden
from s2sr_core.errors import InstallationError
from s2sr_core.import_path import environment_of_child
from s2sr_core.proxies import exempt_from_proxies

#: Seconds within which the server must answer, also on a machine that is busy, and between attempts.
_START, _PAUSE = 600.0, 0.1
#: Seconds for one answer.
_ANSWER = 10.0
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
    "PREFECT_SERVER_SERVICES_CLEANUP_RECONCILER_ENABLED": "false",
    # The tables are there, and no run uses blocks: to register them imports every collection, Dask's with Dask.
    "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
}
#: All that it knows is removed with it: it need not store task runs and events, which nobody asks it for.
_UNREAD = {
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_REPOSSESSOR_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED": "false",
}
#: Its clients are of this installation, and it has no pages in which a foreign script could make requests.
_OF_CLIENTS = {
    "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
}


_own = False


def is_server_of_run() -> bool:
    """Whether the API of this process is that of a server which ends with the run."""
    return _own


class ServerError(InstallationError):
    """The run's own Prefect server did not start."""


@dataclass(frozen=True, slots=True)
class OwnServer:
    """A server of this run, which may not answer yet.

    Attributes
    ----------
    secret: user and password that it asks for.
    folder: on a disk of this machine; removed with the server.
    """

    process: psutil.Process
    port: int
    secret: str
    folder: Path

    def wait(self) -> None:
        """Wait until it answers.

        Raises
        ------
        ServerError
            If it has ended, or takes too long.
        StoppedError
            If this process shall stop.
        """
        ends = time.monotonic() + _START
        while time.monotonic() < ends and not self._has_ended():
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=_ANSWER)
                with contextlib.closing(connection):
                    connection.request("GET", "/api/health")
                    if connection.getresponse().status in (200, 401):
                        return
            stopping.pause(_PAUSE)
        raise ServerError(
            "the run's own Prefect server did not start; start one with: prefect server start, and set PREFECT_API_URL"
        )

    def _has_ended(self) -> bool:
        with contextlib.suppress(psutil.TimeoutExpired):
            self.process.wait(0)
            return True
        return False


@contextlib.contextmanager
def server_of_run(host: str, shared: Path, begun: OwnServer | None = None) -> Iterator[None]:
    """Give the flows of this block an API; ``host`` is the address at which workers reach this machine.

    On a network it speaks TLS; the certificate that workers are to trust is then in ``shared``, a folder that they see.
    A configured API (``PREFECT_API_URL``, or that of a profile) is used as it is. ``begun`` is a server that was
    started before; without one it is started here.

    Raises
    ------
    ServerError
        If the server does not start.
    """
    from prefect.logging.handlers import APILogHandler
    from prefect.settings import PREFECT_API_URL

    from deployments.clusters.security import certificate_and_key
    from deployments.server.tls_door import tls_door

    global _own
    if PREFECT_API_URL.value():
        yield
        return
    exempt_from_proxies(host)
    with contextlib.ExitStack() as held:
        server = begun or held.enter_context(server_begun())
        settings = {**_OF_CLIENTS, "PREFECT_API_AUTH_STRING": server.secret}
        if host != LOOPBACK:
            url, certificate = held.enter_context(tls_door(host, server.port, shared))
        else:
            url, certificate = f"http://{LOOPBACK}:{server.port}", server.folder / "certificate.pem"
            # There is no TLS. But each of Prefect's many clients reads what it would trust, and all authorities take it
            # longer than its request.
            certificate.write_text(certificate_and_key()[0], encoding="utf-8")
        settings |= {"PREFECT_API_URL": f"{url}/api", "PREFECT_API_SSL_CERT_FILE": str(certificate)}
        server.wait()
        held.enter_context(_configured(**settings))
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

    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


def _without_users_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` without settings that a user has made for another Prefect server, in variables or in a profile.

    An address of a database, a certificate or a default storage would be applied to the server of the run, too.
    """
    kept = {name: value for name, value in environment.items() if name.startswith(_KEPT) or name[:8] != "PREFECT_"}
    return {**kept, "PREFECT_PROFILES_PATH": os.devnull}


@contextlib.contextmanager
def server_begun(*, copied: bool = False) -> Iterator[OwnServer]:
    """Start a server that listens on loopback, without waiting for it; it ends with the block.

    It is a new program; or, ``copied``, a copy of this process, which has imported a part of what the server needs: see
    :func:`copy_of_this_process` for when.
    """
    with socket.create_server((LOOPBACK, 0)) as free:
        port = free.getsockname()[1]
    secret = f"s2sr:{secrets.token_urlsafe(24)}"
    with server_folder() as folder:
        end, held_open = os.pipe()  # when this process is gone, however it ended, the server reads the end
        with account_hidden():
            environment = {
                **_without_users_settings(environment_of_child()),
                **SETTINGS,
                **_UNREAD,
                "PREFECT_HOME": str(folder),  # the database is there
                "PREFECT_SERVER_API_AUTH_STRING": secret,
            }
            process = (_copied if copied else _started)(environment, end, folder, port)
        os.close(end)
        try:
            record_server(folder, process.pid)
            yield OwnServer(process, port, secret, folder)
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()  # all that it knows is removed with it
            process.wait()
            os.close(held_open)


def _started(environment: Mapping[str, str], end: int, folder: Path, port: int) -> psutil.Process:
    words = [sys.executable, "-P", "-m", own_server.__name__, str(folder), LOOPBACK, str(port)]
    return psutil.Popen(
        words,
        env=environment,
        stdin=end,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # no signal of a terminal reaches it
    )


def _copied(environment: Mapping[str, str], end: int, folder: Path, port: int) -> psutil.Process:
    def serve() -> None:
        os.setsid()
        os.dup2(end, 0)
        with Path(os.devnull).open("wb") as nowhere:
            for number in (1, 2):
                os.dup2(nowhere.fileno(), number)
        os.environ.clear()
        os.environ.update(environment)
        own_server.serve(folder, LOOPBACK, port)

    return psutil.Process(copy_of_this_process(serve, keeping=[end]))
