"""The sandbox CDSE as a server on loopback: each host on its own port, all in one thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from s2sr_core.errors import InputError
from s2sr_sandbox.server.app import HOSTS, State, applications
from s2sr_sandbox.server.certificate import server_context
from s2sr_sandbox.server.fault_plans import faults_of_plans, settings_of_plans
from s2sr_sandbox.server.faults import Fault, Faults, Host
from s2sr_sandbox.server.log import Request, RequestLog
from s2sr_sandbox.server.products import Catalogue
from s2sr_sandbox.server.proxy import CDSE_HOSTS, Proxy
from s2sr_sandbox.server.settings import SandboxSettings

_LOOPBACK = "127.0.0.1"
_START_SECONDS = 30.0
# Seconds that unfinished answers get when the server stops.
_GRACE = 1


class Sandbox:
    """A running sandbox CDSE.

    Attributes
    ----------
    catalogue_url, identity_url, download_url, s3_url: base URLs, without ``/odata/v1``, ``/auth`` or ``/eodata``.
    catalogue: its products, which can be added, removed and changed.
    faults: what is to go wrong; ``faults.add(Fault.close(…))``.
    settings: as given.
    password_file: holds the password, mode 0600.
    keys_file: holds the S3 keys, mode 0600.
    proxy_url: of the HTTPS proxy behind which CDSE's own hosts are this sandbox; None unless the settings ask for it.
    certificate_file: the authority (PEM) to be trusted behind the proxy; None without one.
    """

    def __init__(self, state: State, folder: Path, proxy: _StandIn | None) -> None:
        self._state = state
        self.catalogue_url = state.urls["catalogue"]
        self.identity_url = state.urls["identity"]
        self.download_url = state.urls["download"]
        self.s3_url = state.urls["s3"]
        self.catalogue: Catalogue = state.catalogue
        self.faults: Faults = state.faults
        self.settings = state.settings
        self.password_file = _private_file(folder / "password", f"{state.settings.password.get_secret_value()}\n")
        self.keys_file = _private_file(folder / "s3_keys", _keys(state.settings))
        self.proxy_url = None if proxy is None else proxy.url
        self.certificate_file = None if proxy is None else proxy.certificate_file

    def environment(self) -> dict[str, str]:
        """The variables that point S2SR at this sandbox; without ``trusted``, at CDSE's own host names."""
        account = {"CDSE_USERNAME": self.settings.username, "CDSE_PASSWORD_FILE": str(self.password_file)}
        if not self.settings.trusted:
            return account
        return account | {
            "S2SR_CATALOGUE_URL": self.catalogue_url,
            "S2SR_IDENTITY_URL": self.identity_url,
            "S2SR_DOWNLOAD_URL": self.download_url,
            "S2SR_S3_URL": self.s3_url,
            "S2SR_REDIRECT_HOSTS": self._state.urls["zipper"].removeprefix("http://"),
        }

    def s3_environment(self) -> dict[str, str]:
        """As :meth:`environment`, with S3 keys in place of the account."""
        account = ("CDSE_USERNAME", "CDSE_PASSWORD_FILE")
        where = {name: value for name, value in self.environment().items() if name not in account}
        return {"CDSE_S3_KEYS_FILE": str(self.keys_file), **where}

    def proxy_environment(self) -> dict[str, str]:
        """The variables that point clients with fixed host names here; empty without a proxy."""
        if self.proxy_url is None:
            return {}
        if not self.settings.trusted:
            return {"HTTPS_PROXY": self.proxy_url}
        trusted = str(self.certificate_file)
        return {
            "HTTPS_PROXY": self.proxy_url,
            "REQUESTS_CA_BUNDLE": trusted,
            "CURL_CA_BUNDLE": trusted,
            "SSL_CERT_FILE": trusted,
        }

    @property
    def requests(self) -> list[Request]:
        """Every request so far, in the order they arrived."""
        return self._state.log.snapshot()

    def byte_requests(self) -> list[Request]:
        """The requests for files and whole products, including refused ones."""
        gets = [request for request in self.requests if request.method == "GET"]
        return [
            request
            for request in gets
            if request.host == "s3" or (request.host in ("download", "zipper") and request.path.endswith("/$value"))
        ]

    def clear_requests(self) -> None:
        """Forget the requests so far."""
        self._state.log.clear()

    @property
    def logins(self) -> int:
        """How many password logins succeeded: sessions opened."""
        return self._state.identity.logins

    @property
    def renewals(self) -> int:
        """How many refresh grants succeeded."""
        return self._state.identity.renewals

    @property
    def refusals(self) -> int:
        """How many token requests were refused."""
        return self._state.identity.refusals

    @property
    def connections_high_water(self) -> int:
        """The most downloads that the account had open at once."""
        return self._state.connections.high_water

    def expire_access_tokens(self) -> None:
        """Expire all access tokens issued so far."""
        self._state.mint.expire_access_tokens()


@contextlib.contextmanager
def running(
    source: Path | Catalogue,
    settings: SandboxSettings | None = None,
    *,
    faults: tuple[Fault, ...] = (),
    plans: Sequence[str] = (),
) -> Iterator[Sandbox]:
    """Serve the products below a folder (or in a given catalogue) until the block ends.

    ``plans`` are names of fault plans; what ``settings`` say explicitly counts more than a plan.

    Raises
    ------
    InputError
        If there is no such folder or plan, a port is taken, or the settings name a product that does not exist.
    """
    settings = settings_of_plans(plans, settings or SandboxSettings())
    faults += faults_of_plans(plans)
    catalogue = source if isinstance(source, Catalogue) else _catalogue(source, settings)
    with contextlib.ExitStack() as stack:
        sockets = {
            host: stack.enter_context(_listening(f"{host}_port", getattr(settings, f"{host}_port", 0)))
            for host in HOSTS
        }
        urls: dict[Host, str] = {host: _url(listener) for host, listener in sockets.items()}
        log = _opened_log(settings.request_log)
        stack.callback(log.close)
        state = State(catalogue, settings, urls, log, Faults(faults))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sandbox-cdse-")))
        proxy = _StandIn(folder, sockets, stack) if settings.proxy else None
        stack.enter_context(_quiet())
        stack.enter_context(_served(applications(state), sockets, proxy))
        yield Sandbox(state, folder, proxy)


def _catalogue(folder: Path, settings: SandboxSettings) -> Catalogue:
    if not folder.is_dir():
        raise InputError("folder", folder, "is not a folder", "give one that holds .SAFE folders")
    return Catalogue.of_folder(folder, settings)


def _listening(field: str, port: int) -> socket.socket:
    try:
        return socket.create_server((_LOOPBACK, port), backlog=128)
    except OSError as error:
        remedy = "give another port, or 0 for any free one"
        raise InputError(field, port, f"cannot be used ({error.strerror})", remedy) from error


def _opened_log(path: Path | None) -> RequestLog:
    try:
        return RequestLog(path)
    except OSError as error:
        raise InputError("request_log", path, f"cannot be written ({error.strerror})", "give another file") from error


def _private_file(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    return path


def _keys(settings: SandboxSettings) -> str:
    """As AWS's tools have it."""
    secret = settings.s3_secret_key.get_secret_value()
    return f"[cdse]\naws_access_key_id = {settings.s3_access_key}\naws_secret_access_key = {secret}\n"


class _StandIn:
    """The proxy with its address and the certificate that its clients must trust."""

    def __init__(self, folder: Path, sockets: Mapping[Host, socket.socket], stack: contextlib.ExitStack) -> None:
        listener = stack.enter_context(_listening("proxy_port", 0))
        context, self.certificate_file = server_context(list(CDSE_HOSTS.values()), folder)
        self.url = _url(listener)
        self.proxy = Proxy(listener, context, {host: sockets[host].getsockname()[1] for host in HOSTS})


def _url(listener: socket.socket) -> str:
    return f"http://{_LOOPBACK}:{listener.getsockname()[1]}"


@contextlib.contextmanager
def _served(
    apps: Mapping[Host, ASGIApp], sockets: Mapping[Host, socket.socket], stand_in: _StandIn | None
) -> Iterator[None]:
    servers = [
        (
            uvicorn.Server(
                uvicorn.Config(
                    apps[host],
                    loop="asyncio",
                    http="h11",
                    ws="none",
                    lifespan="off",
                    log_config=None,
                    access_log=False,
                    timeout_graceful_shutdown=_GRACE,
                )
            ),
            sockets[host],
        )
        for host in HOSTS
    ]

    async def serve() -> None:
        async with stand_in.proxy.serving() if stand_in is not None else contextlib.nullcontext():
            await asyncio.gather(*(server.serve(sockets=[listener]) for server, listener in servers))

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="sandbox-cdse", daemon=True)
    thread.start()
    try:
        _wait_until_started(thread, [server for server, _ in servers])
        yield
    finally:
        for server, _ in servers:
            server.should_exit = True
        thread.join()


def _wait_until_started(thread: threading.Thread, servers: list[uvicorn.Server]) -> None:
    waiting = threading.Event()
    for _ in range(int(_START_SECONDS / 0.005)):
        if all(server.started for server in servers):
            return
        if not thread.is_alive():
            break
        waiting.wait(0.005)
    raise RuntimeError("the sandbox's server did not start")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress uvicorn's messages about connections that faults or the end of the block closed."""

    def wanted(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(("ASGI callable returned without", "Cancel %s", "Cancel %d"))

    logger = logging.getLogger("uvicorn.error")
    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)
