"""A small archive, a sandbox CDSE over it, and a plain client of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from s2sr_sandbox.archive import make_archive
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.server import Entry, Fault, Sandbox, SandboxSettings, running

TOKEN_PATH = "/auth/realms/CDSE/protocol/openid-connect/token"


@dataclass(frozen=True)
class Client:
    """Requests as a plain client makes them, without a retry."""

    sandbox: Sandbox

    def token(self, **fields: str) -> requests.Response:
        form = {"client_id": "cdse-public", **fields}
        return requests.post(self.sandbox.identity_url + TOKEN_PATH, data=form, timeout=10)

    def login(self) -> dict[str, Any]:
        answer = self.token(
            grant_type="password",
            username=self.sandbox.settings.username,
            password=self.sandbox.settings.password.get_secret_value(),
        )
        assert answer.status_code == 200
        body: dict[str, Any] = answer.json()
        return body

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.login()['access_token']}"}

    def products(self, **options: str) -> requests.Response:
        """A query; the options without their dollar."""
        params = {f"${name}": value for name, value in options.items()}
        return requests.get(f"{self.sandbox.catalogue_url}/odata/v1/Products", params=params, timeout=10)

    def names(self, text: str) -> list[str]:
        answer = self.products(filter=text, orderby="ContentDate/Start asc")
        assert answer.status_code == 200, answer.text
        return [product["Name"] for product in answer.json()["value"]]

    def url(self, name: str, *nodes: str, value: str = "/$value") -> str:
        """The address of a file of a product, of a listing with ``value="/Nodes"``."""
        product = self.sandbox.catalogue[name]
        steps = "".join(f"/Nodes({node})" for node in nodes)
        return f"{self.sandbox.download_url}/odata/v1/Products({product.id}){steps}{value}"


type Serve = Callable[..., Client]


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine products, two bands of 60 x 70 pixels each."""
    folder = tmp_path_factory.mktemp("archive")
    make_archive(folder, Grid.utm(-149.6, 68.63, (60, 70)), seed=3, bands=["B03", "B04"])
    return folder


@pytest.fixture(scope="session")
def names(archive: Path) -> list[str]:
    """The products' names in the order of their sensing, then of their ids."""
    entries = [Entry.of_folder(path) for path in archive.iterdir()]
    return [entry.name for entry in sorted(entries, key=lambda entry: (entry.start, entry.id))]


@pytest.fixture(scope="module")
def client(archive: Path) -> Iterator[Client]:
    """A client of a sandbox whose settings are the defaults."""
    with running(archive) as sandbox:
        yield Client(sandbox)


@pytest.fixture
def serve(archive: Path) -> Iterator[Serve]:
    """Starts a sandbox with settings of one's own; gives its client."""
    with ExitStack() as stack:

        def start(*faults: Fault, plans: Sequence[str] = (), **settings: Any) -> Client:
            sandbox = running(archive, SandboxSettings(**settings), faults=faults, plans=plans)
            return Client(stack.enter_context(sandbox))

        yield start
