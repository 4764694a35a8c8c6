"""A run is killed, with its workers, or interrupted at a seeded moment; the next one ends as an undisturbed one."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import shapely
from support.scenes import parameters_for, pixels
from support.waiting import DEADLINE, until

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.verify import Condition, verify
from s2sr_core.parameters import RunParameters
from s2sr_core.workspace import Workspace
from s2sr_sandbox.archive import make_archive
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.server import SandboxSettings, running

ROOT = Path(__file__).resolve().parents[2]
CELLS = [
    Gridcell("a", shapely.box(-149.61, 68.626, -149.60, 68.634)),
    Gridcell("b", shapely.box(-149.60, 68.626, -149.59, 68.634)),
]
SEEDS = 12
SLOW_INTERRUPTIONS, LONG_INTERRUPTIONS = range(3), range(3, 20)


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody disturbed, and how many files it had made, one after another."""

    archive: Path
    parameters: RunParameters
    csv: Path
    files: int


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    folder = tmp_path_factory.mktemp("kills")
    archive = folder / "archive"
    make_archive(archive, Grid.utm(-149.6, 68.63, 60), seed=3, bands=["B03", "B04"])
    with running(archive, SandboxSettings(connections=2)) as sandbox, pytest.MonkeyPatch.context() as patch:
        from prefect.settings import PREFECT_API_URL

        patch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
        for variable, value in sandbox.environment().items():
            patch.setenv(variable, value)
        parameters = parameters_for(folder, None, CELLS, bands=["B03", "B04"], workers=2, count=True)
        seen: set[Path] = set()
        process = started(parameters)
        assert ended(process, parameters, seen, at_most=10**6) == 0
        yield Undisturbed(archive, parameters, folder / "cells.csv", len(seen))


def started(parameters: RunParameters, **streams: Any) -> subprocess.Popen[str]:
    """The command of a run, in a session of its own."""
    words = []
    for name in ("bbox", "grid_csv", "start", "end", "work_dir", "bands", "workers"):
        value = getattr(parameters, name)
        values = (
            value if isinstance(value, list | tuple) else [value.isoformat() if name in ("start", "end") else value]
        )
        words += [f"--{name}", *map(str, values)]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "s2sr_pipeline.py"), *words, "--tap", "--count", "--download_connections", "2"],
        **({"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | streams),
        text=True,
        start_new_session=True,
    )


def await_files(process: subprocess.Popen[str], parameters: RunParameters, seen: set[Path], at_most: int) -> None:
    """Wait until the run has ended, or ``at_most`` files were ``seen`` in its folder."""

    def is_over() -> bool:
        with contextlib.suppress(FileNotFoundError):
            seen.update(path for path in parameters.work_dir.rglob("*") if path.is_file())
        return process.poll() is not None or len(seen) >= at_most

    until(is_over, 4 * DEADLINE, what="the end of the run")


def ended(process: subprocess.Popen[str], parameters: RunParameters, seen: set[Path], *, at_most: int) -> int:
    """Wait until the run has ended, or ``at_most`` files were ``seen`` in its folder: then it is killed as a whole."""
    try:
        await_files(process, parameters, seen, at_most)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the session that this test started
    return process.wait(DEADLINE)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_flow_killed_at_a_seeded_moment(tmp_path: Path, undisturbed: Undisturbed, seed: int) -> None:
    parameters = undisturbed.parameters.model_copy(update={"work_dir": tmp_path / "run"})
    workspace = Workspace(parameters.work_dir)
    at_most = random.Random(seed).randint(1, undisturbed.files)
    ended(started(parameters), parameters, set(), at_most=at_most)
    check_nothing_is_half(undisturbed, workspace)
    check_the_next_run_completes(undisturbed, parameters)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW_INTERRUPTIONS)
def test_the_program_interrupted_at_a_seeded_moment(
    tmp_path: Path, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    check_interruption(tmp_path, undisturbed, monkeypatch, seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", LONG_INTERRUPTIONS)
def test_more_interruptions_at_seeded_moments(
    tmp_path: Path, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    check_interruption(tmp_path, undisturbed, monkeypatch, seed)


def check_interruption(tmp_path: Path, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Ctrl-C or SIGTERM, with a Prefect server of the run's own: one sentence, and no process and no half file left."""
    monkeypatch.delenv("PREFECT_API_URL")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    chance = random.Random(seed)
    wanted = chance.choice([signal.SIGINT, signal.SIGTERM])
    parameters = undisturbed.parameters.model_copy(update={"work_dir": tmp_path / "run"})
    output = tmp_path / "output.txt"
    with output.open("w") as file:
        process = started(parameters, stdout=file, stderr=file)
    try:
        await_files(process, parameters, set(), at_most=chance.randint(1, undisturbed.files))
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(wanted)
        code = process.wait(DEADLINE)
    finally:
        process.kill()
    said = output.read_text()
    if code:  # else it had done all its work
        assert code == 128 + wanted, said
        assert said.splitlines()[-1].startswith("s2sr-pipeline: interrupted; "), said
        assert said.count("interrupted") == 1, said
    assert "Traceback" not in said
    until(lambda: not any(map(is_alive, children)), what="the end of all its processes")
    check_nothing_is_half(undisturbed, Workspace(parameters.work_dir))
    check_the_next_run_completes(undisturbed, parameters)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def check_the_next_run_completes(undisturbed: Undisturbed, parameters: RunParameters) -> None:
    """It keeps what is complete, and gives what a run gives that nobody disturbed."""
    workspace, expected = Workspace(parameters.work_dir), Workspace(undisturbed.parameters.work_dir)
    complete = {path: path.read_bytes() for path in workspace.imagery_raw.rglob("*.jp2") if path.name[0] != "."}

    assert ended(started(parameters), parameters, set(), at_most=10**6) == 0
    assert all(path.read_bytes() == content for path, content in complete.items())
    assert verify(workspace).findings == ()
    assert not list(workspace.composites.rglob(".*.part*"))
    rasters = sorted(path.relative_to(expected.composites) for path in expected.composites.rglob("*.tif"))
    assert len(rasters) == 2 * len(CELLS) * len(parameters.bands)
    for path in rasters:
        np.testing.assert_array_equal(pixels(workspace.composites / path), pixels(expected.composites / path))
    tables = [pd.read_csv(each.composite_index).drop(columns="status") for each in (workspace, expected)]
    pd.testing.assert_frame_equal(*tables)
    assert not workspace.phase1_errors.exists()


def check_nothing_is_half(undisturbed: Undisturbed, workspace: Workspace) -> None:
    for path in workspace.imagery_raw.glob("*.SAFE/**/*"):  # next to products, the lock of a killed download stays
        if path.is_file() and path.name[0] != ".":
            original = undisturbed.archive / path.relative_to(workspace.imagery_raw)
            assert path.read_bytes() == original.read_bytes(), path
    for path in workspace.work_dir.rglob("*.json"):
        assert isinstance(json.loads(path.read_text(encoding="utf-8")), dict | list), path
    for path in workspace.indices.rglob("*.csv"):
        assert len(pd.read_csv(path)) > 0, path
    if workspace.composites.is_dir():
        assert {finding.condition for finding in verify(workspace).findings} <= {Condition.INCOMPLETE}
