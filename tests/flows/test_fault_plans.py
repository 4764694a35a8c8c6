"""Whatever CDSE does, a run ends; each product is used as it is or recorded with a reason; the next run completes."""

from __future__ import annotations

import functools
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from prefect import State
from support.pauses import shorten_pauses
from support.scenes import parameters_for, pixels, run

from flows.pipeline import pipeline
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.records import scenes_in
from s2sr_core.files import read_record
from s2sr_core.parameters import RunParameters
from s2sr_core.sources.cdse import client
from s2sr_core.workspace import Workspace
from s2sr_sandbox.archive import make_archive
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.server import Fault, Sandbox, SandboxSettings, running
from s2sr_sandbox.server.fault_plans import PLANS

pytestmark = pytest.mark.usefixtures("workers_here")
CELL = Gridcell("a", shapely.box(-149.61, 68.626, -149.60, 68.634))
SLOW_SEEDS, LONG_SEEDS = range(10), range(10, 60)
#: These need a sandbox of their own, or minutes.
_APART = {"totp", "wrong-audience", "untrusted-certificate", "stall", "slow-count"}
_PATHS = (
    *(r"/token$", r"/Products$", r"/\$value$", r"manifest\.safe\)/\$value$", r"MTD_MSIL2A\.xml\)/\$value$"),
    *(r"_SCL_20m\.jp2\)/\$value$", r"_B04_20m\.jp2\)/\$value$", r"_20m\.jp2\)/\$value$"),
)
_STATUSES = (200, 204, 302, 400, 401, 403, 404, 408, 410, 413, 416, 418, 429, 500, 502, 503, 504)
_BODIES = (
    "",
    "{}",
    "[]",
    "<html></html>",
    '{"detail": "Unauthorized"}',
    '{"value": 3}',
    '{"access_token": 1}',
    "\0" * 99,
)


@dataclass(frozen=True)
class Served:
    """A sandbox over an archive, and what an undisturbed run of it gives."""

    sandbox: Sandbox
    archive: Path
    parameters: RunParameters

    @functools.cached_property
    def selected(self) -> set[str]:
        manifest = pd.read_csv(Workspace(self.parameters.work_dir).query_manifest)
        return set(manifest.loc[manifest["status"].isin(["selected", "not needed"]), "product"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Nine products, seven of which count; every pause is short."""
    folder = tmp_path_factory.mktemp("plans")
    archive = folder / "archive"
    make_archive(archive, Grid.utm(-149.6, 68.63, 60), seed=3, bands=["B04"])
    settings = SandboxSettings(connections=2, ranges=True)
    with running(archive, settings) as sandbox, pytest.MonkeyPatch.context() as patch:
        for variable, value in sandbox.environment().items():
            patch.setenv(variable, value)
        patch.setenv("S2SR_OUTAGE_PATIENCE", "3")  # some seeds draw a host that never comes back
        shorten_pauses(patch)
        parameters = parameters_for(folder, archive, [CELL]).model_copy(
            update={"source": None, "workers": 1, "download_connections": 2}
        )
        state = go(parameters)
        assert state.name == "Completed", state.message
        yield Served(sandbox, archive, parameters)


def go(parameters: RunParameters) -> State:
    return pipeline(**dict(parameters), return_state=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW_SEEDS)
def test_a_seeded_fault_plan(tmp_path: Path, served: Served, seed: int) -> None:
    check(tmp_path, served, seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_more_seeded_fault_plans(tmp_path: Path, served: Served, seed: int) -> None:
    check(tmp_path, served, seed)


def seeded_faults(chance: random.Random) -> list[Fault]:
    """Some of what clients met, and some that nobody has met yet."""
    plans = chance.sample(sorted(set(PLANS) - _APART), chance.randint(0, 3))
    faults = [fault for plan in plans for fault in PLANS[plan].faults]
    faults += [_invented(chance) for _ in range(chance.randint(1, 4))]
    chance.shuffle(faults)
    return faults


def _invented(chance: random.Random) -> Fault:
    path, times, skip = chance.choice(_PATHS), chance.choice([1, 1, 2, 3, 5, 9, None]), chance.randint(0, 6)
    kinds: list[Callable[[], Fault]] = [
        lambda: Fault.answer(path, chance.choice(_STATUSES), chance.choice(_BODIES), times=times, skip=skip),
        lambda: Fault(path=path, close_after=chance.choice([0, 1, 100, 3000]), times=times, skip=skip),
        lambda: Fault(path=path, corrupt_at=chance.choice([0, 10, 200, 2000]), times=times, skip=skip),
        lambda: Fault(path=path, stall_after=10, stall_seconds=0.1, times=times, skip=skip),
        lambda: Fault(path=path, redirect_to=chance.choice(["zipper", "foreign"]), times=times, skip=skip),
        lambda: Fault(path=path, revoke=chance.choice(["access", "sessions"]), times=times, skip=skip),
        lambda: Fault(path=path, gzipped=chance.choice(["accepted", "always"]), times=times, skip=skip),
    ]
    return chance.choice(kinds)()


def check(tmp_path: Path, served: Served, seed: int) -> None:
    parameters = served.parameters.model_copy(update={"work_dir": tmp_path / "run"})
    for cached in (client._http, client._tokens, client._downloader):
        cached.cache_clear()
    faults = seeded_faults(random.Random(seed))
    for fault in faults:
        served.sandbox.faults.add(fault)
    try:
        state = go(parameters)
    finally:
        served.sandbox.faults.clear()
    assert state.is_final()
    assert state.message, faults
    assert "Traceback" not in state.message
    check_disturbed(tmp_path, served, parameters, is_down=" is down (" in state.message)

    for cached in (client._http, client._tokens, client._downloader):
        cached.cache_clear()
    state = go(parameters)
    assert state.name == "Completed", (state.message, faults)
    check_as_undisturbed(served, parameters)


def check_disturbed(tmp_path: Path, served: Served, parameters: RunParameters, *, is_down: bool) -> None:
    """Each product that counts is in the composite or in the table of errors; the pixels are those of the former.

    A run that ended because a host ``is_down`` has not come to every product.
    """
    workspace = Workspace(parameters.work_dir)
    check_files(served, workspace)
    if not workspace.scene_index.exists():  # the catalogue or the login failed, which the run's state says
        assert not list(workspace.composites.rglob("*.tif"))
        return
    record = read_record(workspace.record("a", "B04")) or {}
    used = set(scenes_in(record.get("inputs", {})))
    failed: dict[str, str] = {}
    if workspace.phase1_errors.exists():
        table = pd.read_csv(workspace.phase1_errors, keep_default_na=False)
        failed = dict(zip(table["product"], table["reason"], strict=True))
    assert all(failed.values())
    assert used.isdisjoint(failed)
    assert is_down or served.selected <= used | set(failed), served.selected - used - set(failed)
    if not used:
        assert not workspace.composite("a", "B04").exists()
        return
    for name in used:
        shutil.copytree(served.archive / f"{name}.SAFE", tmp_path / "used" / f"{name}.SAFE")
    changes = {"source": tmp_path / "used", "work_dir": tmp_path / "of the used"}
    [outcome] = run(parameters.model_copy(update=changes)).values()
    np.testing.assert_array_equal(pixels(workspace.composite("a", "B04")), pixels(outcome.path))


def check_as_undisturbed(served: Served, parameters: RunParameters) -> None:
    workspace, expected = Workspace(parameters.work_dir), Workspace(served.parameters.work_dir)
    check_files(served, workspace)
    assert not workspace.phase1_errors.exists()
    np.testing.assert_array_equal(pixels(workspace.composite("a", "B04")), pixels(expected.composite("a", "B04")))
    records = [read_record(each.record("a", "B04")) or {} for each in (workspace, expected)]
    assert records[0]["key"] == records[1]["key"]


def check_files(served: Served, workspace: Workspace) -> None:
    """What has its final name is as it was sent."""
    for path in workspace.imagery_raw.rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            original = served.archive / path.relative_to(workspace.imagery_raw)
            assert path.read_bytes() == original.read_bytes(), path
