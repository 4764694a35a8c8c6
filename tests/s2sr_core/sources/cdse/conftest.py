"""A sandbox CDSE over a small archive, and this project's client of it that gives up soon."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from s2sr_core.fields import DownloadMode
from s2sr_core.sources.cdse.auth import TokenSource
from s2sr_core.sources.cdse.catalogue import Catalogue
from s2sr_core.sources.cdse.download import Downloader
from s2sr_core.sources.cdse.http import Http, RetryPolicy
from s2sr_core.sources.cdse.road import ODataRoad, Road
from s2sr_core.sources.cdse.settings import Credentials
from s2sr_core.sources.cdse.slots import Slots
from s2sr_core.sources.source import RemoteProduct
from s2sr_sandbox.archive import make_archive
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.server import Sandbox, SandboxSettings, running

QUICK = RetryPolicy(attempts=4, first_wait=0.01, longest_wait=0.05)


@dataclass(frozen=True)
class Client:
    """This project's client, pointed at a sandbox."""

    sandbox: Sandbox
    http: Http
    tokens: TokenSource
    folder: Path

    def catalogue(self, **limits: int) -> Catalogue:
        return Catalogue(self.http, self.sandbox.catalogue_url, **limits)

    def downloader(self, connections: int = 4, road: Road | None = None, mode: DownloadMode = "whole") -> Downloader:
        slots = Slots(self.folder / "slots", connections)
        by_account = ODataRoad(self.sandbox.download_url, self.tokens)
        return Downloader(self.http, road or by_account, slots, self.folder / "imagery_raw", mode)

    def url(self, number: int = 0) -> str:
        """The address of the manifest of the ``number``-th product."""
        product = self.product(number)
        return (
            f"{self.sandbox.download_url}/odata/v1/Products({product.id})/Nodes({product.name.folder})"
            "/Nodes(manifest.safe)/$value"
        )

    def product(self, number: int = 0) -> RemoteProduct:
        """The ``number``-th product of the sandbox by name, as its catalogue describes it."""
        from s2sr_core.sources.cdse.catalogue import parse_entries

        entries = sorted(self.sandbox.catalogue, key=lambda entry: entry.name)
        [product] = parse_entries([entries[number].document(attributes=True, assets=False)])
        assert isinstance(product, RemoteProduct)
        return product


type Connect = Callable[..., Client]


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine products with every oddity, of 64 × 64 pixels in two bands."""
    folder = tmp_path_factory.mktemp("archive")
    make_archive(folder, Grid.utm(-149.6, 68.63, 64), seed=3, bands=["B03", "B04"])
    return folder


@pytest.fixture
def connect(archive: Path, tmp_path: Path) -> Iterator[Connect]:
    with contextlib.ExitStack() as stack:

        def make(
            source: object = None, retries: RetryPolicy = QUICK, plans: Sequence[str] = (), **settings: object
        ) -> Client:
            sandbox = stack.enter_context(running(source or archive, SandboxSettings(**settings), plans=plans))
            urls = (sandbox.catalogue_url, sandbox.identity_url, sandbox.download_url, sandbox.s3_url)
            allowed = sandbox.environment().get("S2SR_REDIRECT_HOSTS", "")
            http = Http(urls, retries, redirect_hosts=allowed)
            credentials = Credentials(sandbox.settings.username, sandbox.password_file)
            return Client(sandbox, http, TokenSource(http, sandbox.identity_url, credentials), tmp_path)

        yield make
