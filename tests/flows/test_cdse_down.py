"""Hosts of CDSE that are down, through the whole flow: waited for, said on the screen, and the end of a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import shapely
from prefect import State
from support.scenes import parameters_for
from support.waiting import DEADLINE

from flows.pipeline import pipeline
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.files import read_record
from s2sr_core.parameters import RunParameters
from s2sr_core.sources.cdse import breaker
from s2sr_core.workspace import Workspace
from s2sr_sandbox.archive import make_archive
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.server import Fault, Sandbox, SandboxSettings, running

pytestmark = pytest.mark.usefixtures("short_pauses", "workers_here")
ROOT = Path(__file__).resolve().parents[2]
PLACES = {"w": -149.6, "e": -140.6}
CELLS = [Gridcell(name, shapely.box(x, 68.628, x + 0.01, 68.632)) for name, x in PLACES.items()]
KEPT = "what is complete is kept, and the same command continues from there"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Products of one date at two places."""
    folder = tmp_path_factory.mktemp("places")
    for number, longitude in enumerate(PLACES.values()):
        make_archive(folder, Grid.utm(longitude, 68.63, 60), dates=1, seed=number, bands=["B04"])
    return folder


def parameters(tmp_path: Path, **changes: Any) -> RunParameters:
    fields = {"bbox": (-150, 68, -140, 69), "start": "2019-06-01", "end": "2025-01-01", "workers": 1}
    one_by_one = {"download_connections": 1, "scl_first": False}
    return parameters_for(tmp_path, None, CELLS, **(fields | one_by_one | changes))


def go(chosen: RunParameters) -> State:
    return pipeline(**dict(chosen), return_state=True)


@pytest.fixture
def point_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Leads runs to a sandbox. With pauses this short, an answer of five seconds ago says nothing."""
    monkeypatch.setattr(breaker, "_RECENT", 0.0)

    def point(server: Sandbox, patience: float, **others: str) -> None:
        for variable, value in (server.environment() | others).items():
            monkeypatch.setenv(variable, value)
        monkeypatch.setenv("S2SR_OUTAGE_PATIENCE", str(patience))

    return point


def test_a_download_host_that_goes_down_ends_the_run_and_the_next_one_continues(
    tmp_path: Path, archive: Path, point_at: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """All that the western cell needs has come, manifest, metadata, SCL and band of each product; then comes 503."""
    chosen = parameters(tmp_path)
    workspace = Workspace(chosen.work_dir)
    zone = {name: f"_T{int((x + 180) // 6) + 1:02}" for name, x in PLACES.items()}
    with running(archive, SandboxSettings(connections=1)) as server:
        point_at(server, patience=1.5)
        state = go(chosen.model_copy(update={"stage": "query"}))
        assert state.is_completed(), state.message
        wanted = [line for line in workspace.query_manifest.read_text().splitlines() if ",selected," in line]
        western = [line for line in wanted if zone["w"] in line]
        assert 0 < len(western) < len(wanted)
        server.faults.add(Fault.error(r"/\$value$", 503, "", "maintenance", host="download", skip=4 * len(western)))
        state = go(chosen)
        host = server.download_url.removeprefix("http://")
        assert state.is_failed()
        assert str(state.message).startswith(f"{host} is down (HTTP 503: ")
        assert str(state.message).endswith(KEPT)
        said = f"{host} is down (HTTP 503: "
        assert capfd.readouterr().err.count(said) >= 1
        assert workspace.log(0).read_text().count("the run waits for it, up to") == 1
        record = read_record(workspace.record("w", "B04"))
        assert record is not None
        assert len(record["inputs"]["scenes"]) == len(western)
        assert not workspace.record("e", "B04").exists()
        index = workspace.scene_index.read_text()
        assert all(line.partition(",")[0] in index for line in western)

        server.faults.clear()
        server.clear_requests()
        state = go(chosen)
        asked = [request.path for request in server.byte_requests()]
    assert state.name == "Completed", state.message
    assert "1 written, 1 kept" in str(state.message)
    assert asked
    assert not [path for path in asked if zone["w"] in path]


def test_a_catalogue_and_an_identity_host_that_are_down_and_downloads_that_all_break_off(
    tmp_path: Path, archive: Path, point_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens at the discard port; the command line says so in one sentence and ends with code 1."""
    from prefect.settings import PREFECT_API_URL

    chosen = parameters(tmp_path)
    with running(archive, plans=["identity-down"]) as server:
        point_at(server, 1.0)
        assert go(chosen.model_copy(update={"stage": "query"})).is_completed()
        state = go(chosen.model_copy(update={"stage": "download"}))
        host = server.identity_url.removeprefix("http://")
        assert state.is_failed()
        assert str(state.message).startswith(f"{host} is down (HTTP 503: ")
        assert not server.byte_requests()

        with running(archive, plans=["broken-bodies"]) as breaking:
            point_at(breaking, 1.0)
            state = go(chosen.model_copy(update={"stage": "download"}))
        host = breaking.download_url.removeprefix("http://")
        assert state.is_failed()
        assert str(state.message).startswith(f"{host} is down (the connection broke after 100 bytes) and")
        assert str(state.message).endswith(KEPT)

        point_at(server, 1.0, S2SR_CATALOGUE_URL="http://127.0.0.1:9")
        monkeypatch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
        words = ["--bbox", *map(str, chosen.bbox), "--grid-csv", str(chosen.grid_csv), "--stage", "query"]
        words += ["--work-dir", str(tmp_path / "other"), "--start", "2019-06-01", "--end", "2025-01-01"]
        done = subprocess.run(
            [sys.executable, str(ROOT / "s2sr_pipeline.py"), *words],
            env=os.environ | {"PREFECT_HOME": str(tmp_path / "prefect")},
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
        )
    assert done.returncode == 1, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0] == "127.0.0.1:9 is down (ConnectionError (Connection refused)); the run waits for it, up to 1 s"
    assert lines[-1].startswith("s2sr-pipeline: Failed: 127.0.0.1:9 is down (ConnectionError (Connection refused)) and")
    assert lines[-1].endswith(KEPT)
    assert "Traceback" not in done.stderr


def test_a_short_outage_of_each_host_is_waited_through(
    tmp_path: Path, archive: Path, point_at: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(archive, plans=["short-outage"]) as server:
        point_at(server, 600.0)
        state = go(parameters(tmp_path, download_connections=2))
        hosts = [
            url.removeprefix("http://") for url in (server.catalogue_url, server.identity_url, server.download_url)
        ]
    assert state.name == "Completed", state.message
    said = capfd.readouterr().err
    for host in hosts:
        assert f"{host} is down (HTTP 503: " in said
        assert f"{host} answers again, after " in said
