"""The other roads to the products of CDSE: S3 with keys, and the archive where it is mounted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from prefect import State
from prefect.client.orchestration import get_client
from support.mount import mounted
from support.scenes import parameters_for, pixels, run

from flows.pipeline import pipeline
from s2sr_core.account import ACCOUNT
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.parameters import RunParameters
from s2sr_core.workspace import Workspace
from s2sr_sandbox.archive import make_archive
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.server import SandboxSettings, running

pytestmark = pytest.mark.usefixtures("workers_here")
CELL = Gridcell("a", shapely.box(-149.61, 68.626, -149.60, 68.634))


def test_both_give_the_same_composite_without_an_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither logs in. Of S3 the bands that are needed come; of the mount nothing comes, and its files are checked."""
    archive = tmp_path / "archive"
    make_archive(archive, Grid.utm(-149.6, 68.63, 80), seed=3, bands=["B04"])
    for name in ("plain", "auto", "mount"):
        (tmp_path / name).mkdir()
    expected = pixels(run(parameters_for(tmp_path / "plain", archive, [CELL]))["a", "B04"].path)
    settings = SandboxSettings(connections=2, s3_secret_key="marker-of-the-secret-key")
    with running(archive, settings) as sandbox:
        for name in ACCOUNT:
            monkeypatch.delenv(name, raising=False)
        for name, value in sandbox.s3_environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("S2SR_MOUNT", str(mounted(sandbox.catalogue, archive, tmp_path / "eodata")))
        runs = {access: go(tmp_path / access, access) for access in ("auto", "mount")}
        hosts = {request.host for request in sandbox.byte_requests()}
        bytes_before = len(sandbox.byte_requests())
        again = go(tmp_path / "auto", "s3")[1]
        assert (sandbox.logins, hosts, len(sandbox.byte_requests())) == (0, {"s3"}, bytes_before)
    for chosen, state in (*runs.values(), (runs["auto"][0], again)):
        assert state.name == "Completed", state.message
        assert np.array_equal(pixels(Workspace(chosen.work_dir).composite("a", "B04")), expected)
        for path in chosen.work_dir.rglob("*"):
            assert not path.is_file() or b"marker-of-the-secret-key" not in path.read_bytes(), path
    with get_client(sync_client=True) as api:
        known = [each.model_dump_json() for each in (*api.read_flow_runs(), *api.read_task_runs(), *api.read_logs())]
    assert "marker-of-the-secret-key" not in "".join(known)
    in_place = Workspace(runs["mount"][0].work_dir)
    assert not in_place.imagery_raw.exists()
    assert list(in_place.checked_files("x").parent.glob("*.json")), "compared with the manifest, as in any archive"


def go(folder: Path, access: str) -> tuple[RunParameters, State]:
    chosen = parameters_for(folder, None, [CELL], start="2019-06-01", end="2025-01-01", workers=1, access=access)
    return chosen, pipeline(**json.loads(chosen.model_dump_json()), return_state=True)
