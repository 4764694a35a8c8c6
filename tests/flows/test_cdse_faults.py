"""What clients met at CDSE, through the whole flow: a run gets through what passes, and says what does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
from prefect import State
from prefect.client.orchestration import get_client
from support.scenes import parameters_for, pixels, run

from flows.pipeline import pipeline
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.parameters import RunParameters
from s2sr_core.workspace import Workspace
from s2sr_sandbox.archive import make_archive
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.server import Sandbox, SandboxSettings, running

pytestmark = pytest.mark.usefixtures("short_pauses", "workers_here")
CELL = Gridcell("a", shapely.box(-149.61, 68.626, -149.60, 68.634))
#: Header and claims of a JSON Web Token.
TOKEN = re.compile(r"eyJ[\w-]+\.eyJ[\w-]+")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine products of six dates, seven of which count."""
    folder = tmp_path_factory.mktemp("cdse")
    make_archive(folder, Grid.utm(-149.6, 68.63, 80), seed=3, bands=["B04"])
    return folder


@pytest.fixture
def serve(archive: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Starts a sandbox with fault plans, to which the environment leads."""
    with ExitStack() as stack:

        def start(*plans: str, **settings: Any) -> Sandbox:
            fields = {"connections": 2, "password": "marker-of-the-password"} | settings
            server = stack.enter_context(running(archive, SandboxSettings(**fields), plans=plans))
            for variable, value in (server.environment() | server.proxy_environment()).items():
                monkeypatch.setenv(variable, value)
            return server

        yield start


def parameters(tmp_path: Path, **changes: Any) -> RunParameters:
    period = {"start": "2019-06-01", "end": "2025-01-01"}
    return parameters_for(tmp_path, None, [CELL], **(period | {"workers": 1, "download_connections": 2} | changes))


def go(chosen: RunParameters) -> State:
    return pipeline(**dict(chosen), return_state=True)


def assert_no_secret(chosen: RunParameters, printed: str, *secrets: str) -> None:
    """Neither a token nor one of ``secrets`` is in a file of the run, in Prefect's records or on the screen."""
    with get_client(sync_client=True) as api:
        known = [each.model_dump_json() for each in (*api.read_flow_runs(), *api.read_task_runs())]
        known += [each.model_dump_json() for each in api.read_logs()]
    written = [path.read_bytes().decode("latin-1") for path in chosen.work_dir.rglob("*") if path.is_file()]
    for text in (*known, *written, printed):
        assert not TOKEN.search(text)
        assert not [secret for secret in secrets if secret in text]


def assert_as_from_the_archive(chosen: RunParameters, archive: Path, tmp_path: Path) -> None:
    """The composite is that of the products themselves, and nothing half is left where they were downloaded to."""
    plain = run(chosen.model_copy(update={"source": archive, "work_dir": tmp_path / "archive run"}))
    for (cell_id, band), outcome in plain.items():
        assert np.array_equal(pixels(Workspace(chosen.work_dir).composite(cell_id, band)), pixels(outcome.path))
    for path in Workspace(chosen.work_dir).imagery_raw.rglob("*"):
        if path.is_file():
            assert path.suffix != ".part"
            relative = path.relative_to(Workspace(chosen.work_dir).imagery_raw)
            assert path.read_bytes() == (archive / relative).read_bytes()


def statuses(sandbox: Sandbox, *hosts: str) -> list[int]:
    return [request.status for request in sandbox.requests if request.host in hosts]


def test_what_passes_is_waited_for(
    tmp_path: Path, archive: Path, serve: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """A session that ends, and right credentials that are then refused; a firewall, a proxy and cut connections."""
    sandbox = serve("request-timeout", "login-refused-later", "firewall-page", "cut-ranges", "gzip")
    chosen = parameters(tmp_path)
    state = go(chosen)
    assert state.name == "Completed", state.message
    assert_as_from_the_archive(chosen, archive, tmp_path)
    answers = statuses(sandbox, "download")
    assert [answers.count(status) for status in (403, 408)] == [2, 1]
    assert 1 <= answers.count(401) <= 2  # one per connection
    assert statuses(sandbox, "catalogue")[:4] == [408, 403, 403, 200]
    assert statuses(sandbox, "identity") == [408, 200, 401, 401, 401, 200]
    # Each image that broke off after 1000 bytes was continued there, also if it broke again. Some of the three cuts may
    # hit the requests that find out whether the host is down; those need no rest.
    rest = [(request.range, request.status) for request in sandbox.byte_requests() if request.range]
    assert 1 <= len(rest) <= 3
    assert set(rest) <= {("bytes=1000-", 206), ("bytes=2000-", 206), ("bytes=3000-", 206)}
    assert_no_secret(chosen, "".join(capfd.readouterr()), "marker-of-the-password")


@pytest.mark.long
def test_an_image_that_stalls_is_asked_for_again(tmp_path: Path, archive: Path, serve: Any) -> None:
    """Its server is silent for longer than anybody waits, which is two minutes."""
    sandbox = serve("stall")
    chosen = parameters(tmp_path)
    state = go(chosen)
    assert state.name == "Completed", state.message
    assert_as_from_the_archive(chosen, archive, tmp_path)
    paths = [request.path for request in sandbox.byte_requests()]
    assert len(paths) == len(set(paths)) + 1


def test_redirects_within_the_service_are_followed_and_keys_can_be_rotated(
    tmp_path: Path, archive: Path, serve: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    plans = ("keys-rotated", "unauthorized", "not-found-once", "retry-after-date", "ranges-refused", "corrupt")
    sandbox = serve(*plans, "redirect")
    chosen = parameters(tmp_path)
    state = go(chosen)
    assert state.name == "Completed", state.message
    assert_as_from_the_archive(chosen, archive, tmp_path)
    answers = statuses(sandbox, "download")
    assert [answers.count(status) for status in (404, 429)] == [1, 2]
    assert statuses(sandbox, "zipper").count(200) >= 25  # three files of seven products, and the bands that are needed
    assert statuses(sandbox, "catalogue")[:2] == [404, 200]
    assert sandbox.logins <= 2
    refused = [request.status for request in sandbox.byte_requests() if request.range]
    assert refused.count(416) == 1
    assert set(refused) <= {401, 416, 400}
    assert_no_secret(chosen, "".join(capfd.readouterr()), "marker-of-the-password")


def test_what_does_not_pass_ends_the_run_at_once_with_its_reason(
    tmp_path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    serve()
    assert go(parameters(tmp_path, stage="query")).is_completed()
    chosen = parameters(tmp_path, stage="download")
    secrets = ("marker-of-the-password", "918273")

    refused = "CDSE_USERNAME = 'sandbox': CDSE refuse"
    for plan, problem in (
        ("account-disabled", f"{refused}s this account: Account disabled; ask CDSE's support"),
        ("account-not-set-up", f"{refused}s this account: Account is not fully set up; log in by browser once"),
        ("totp", f"{refused}d this name with its password (Invalid user credentials); check both"),
    ):
        sandbox = serve(plan)
        state = go(chosen)
        assert state.is_failed()
        assert str(state.message).startswith(problem)
        assert len(statuses(sandbox, "identity")) == 1
        assert sandbox.byte_requests() == []
    assert "if the account has a second factor, set CDSE_TOTP to its code" in str(state.message)

    # No other token helps: one login, and each product is tried once.
    sandbox = serve("wrong-audience")
    state = go(chosen)
    assert state.is_failed()
    assert str(state.message).endswith("9 products failed")
    assert (statuses(sandbox, "identity"), statuses(sandbox, "download")) == ([200], [401] * 9)
    reasons = pd.read_csv(Workspace(chosen.work_dir).phase1_errors)["reason"]
    assert reasons.str.contains("HTTP 401: .*DAT-ZIP-609").all()

    # A code that is wrong, then the one of the moment: both are used before any work.
    sandbox = serve("totp", totp="918273")
    monkeypatch.setenv("CDSE_TOTP", "111111")
    state = go(chosen)
    assert str(state.message).startswith(f"{refused}d this name")
    assert statuses(sandbox, "identity") == [401]
    assert_no_secret(chosen, "".join(capfd.readouterr()), *secrets, "111111")
    sandbox = serve("totp", totp="918273")
    monkeypatch.setenv("CDSE_TOTP", "918273")
    state = go(chosen)
    assert state.is_completed(), state.message
    assert statuses(sandbox, "identity") == [200]
    assert_no_secret(chosen, "".join(capfd.readouterr()), *secrets)
    monkeypatch.delenv("CDSE_TOTP")

    for variable in ("S2SR_CATALOGUE_URL", "S2SR_IDENTITY_URL", "S2SR_DOWNLOAD_URL", "S2SR_REDIRECT_HOSTS"):
        monkeypatch.delenv(variable)
    sandbox = serve("untrusted-certificate")
    state = go(parameters(tmp_path, stage="query"))
    assert state.is_failed()
    assert re.match(
        r"REQUESTS_CA_BUNDLE = '': no trusted TLS connection to catalogue\.dataspace\.copernicus\.eu is possible "
        r"\(.*certificate.*\); .* set REQUESTS_CA_BUNDLE or SSL_CERT_FILE",
        str(state.message),
    )
    assert sandbox.requests == []


def test_no_token_follows_a_redirect_to_another_service(
    tmp_path: Path, serve: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    sandbox = serve("redirect-foreign")
    chosen = parameters(tmp_path, stage="download")
    assert go(parameters(tmp_path, stage="query")).is_completed()
    state = go(chosen)
    assert state.is_failed()
    assert "9 products failed" in str(state.message)
    errors = pd.read_csv(Workspace(chosen.work_dir).phase1_errors)
    assert len(errors) == 9
    assert errors["reason"].str.contains("refused to follow CDSE to http://localhost:").all()
    assert statuses(sandbox, "zipper") == []
    assert len(statuses(sandbox, "download")) == 9  # nothing is tried again
    assert_no_secret(chosen, "".join(capfd.readouterr()), "marker-of-the-password")
