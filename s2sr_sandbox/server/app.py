"""The hosts of the sandbox CDSE, put together from one catalogue, one account and one set of faults."""

from __future__ import annotations

from starlette.types import ASGIApp

from s2sr_sandbox.server.catalogue import catalogue_app
from s2sr_sandbox.server.connections import Connections
from s2sr_sandbox.server.download import Desk, download_app
from s2sr_sandbox.server.faults import Elsewhere, Faults, FaultyApp, Host
from s2sr_sandbox.server.identity import REALM, Identity, identity_app
from s2sr_sandbox.server.log import LoggedApp, RequestLog
from s2sr_sandbox.server.products import Catalogue
from s2sr_sandbox.server.s3 import s3_app
from s2sr_sandbox.server.settings import SandboxSettings
from s2sr_sandbox.server.tokens import TokenMint

HOSTS: tuple[Host, ...] = ("identity", "catalogue", "download", "zipper", "s3")


class State:
    """What the hosts share with each other, and with tests that watch or disturb them."""

    def __init__(
        self, catalogue: Catalogue, settings: SandboxSettings, urls: dict[Host, str], log: RequestLog, faults: Faults
    ) -> None:
        self.catalogue = catalogue
        self.settings = settings
        self.urls = urls
        self.log = log
        self.faults = faults
        self.mint = TokenMint(f"{urls['identity']}{REALM}", settings)
        self.identity = Identity(self.mint, settings)
        self.connections = Connections(settings.connections)


def applications(state: State) -> dict[Host, ASGIApp]:
    """The application of each host, with its log and its faults."""
    urls = state.urls
    desk = Desk(state.catalogue, state.mint, state.connections, state.settings, urls["download"])
    elsewhere: dict[Elsewhere, str] = {
        "zipper": urls["zipper"],
        "foreign": urls["zipper"].replace("127.0.0.1", "localhost"),
    }
    apps: dict[Host, ASGIApp] = {
        "identity": identity_app(state.identity, state.mint, urls["identity"]),
        "catalogue": catalogue_app(state.catalogue, state.settings, urls["catalogue"], urls["download"]),
        "download": download_app(desk),
        "zipper": download_app(desk),
        "s3": s3_app(state.catalogue, state.connections, state.settings, urls["s3"]),
    }
    revoke = state.mint.revoke
    return {
        host: LoggedApp(FaultyApp(app, state.faults, host, elsewhere, revoke), state.log, host, state.connections.open)
        for host, app in apps.items()
    }
