"""A process killed at any moment loses nothing that was complete, and the next run ends as an undisturbed one does."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from support.core_run import run_in_a_process
from support.scenes import parameters_for, pixels

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.verify import Condition, verify
from s2sr_core.parameters import RunParameters
from s2sr_core.workspace import Workspace
from s2sr_sandbox.archive import make_archive
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.server import SandboxSettings, running

CELLS = [
    Gridcell("a", shapely.box(-149.61, 68.626, -149.60, 68.634)),
    Gridcell("b", shapely.box(-149.60, 68.626, -149.59, 68.634)),
]
SEEDS = 40


@dataclass(frozen=True)
class Killed:
    """What the runs that are killed begin with.

    Attributes
    ----------
    parameters: of the runs, whose folder is that of an undisturbed one.
    earlier: a finished run of fewer products.
    steps: of an undisturbed run in an empty folder.
    """

    archive: Path
    parameters: RunParameters
    earlier: Path
    steps: int


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    folder = tmp_path_factory.mktemp("kills")
    archive = folder / "archive"
    make_archive(archive, Grid.utm(-149.6, 68.63, 60), seed=3, bands=["B03", "B04"])
    with running(archive, SandboxSettings(connections=2)) as sandbox, pytest.MonkeyPatch.context() as patch:
        for variable, value in sandbox.environment().items():
            patch.setenv(variable, value)
        parameters = parameters_for(folder, None, CELLS, bands=["B03", "B04"], count=True)
        code, output = run_in_a_process(parameters)
        assert code == 0, output
        fewer = parameters.model_copy(update={"work_dir": folder / "earlier", "months": [6, 7]})
        assert run_in_a_process(fewer)[0] == 0
        yield Killed(archive, parameters, fewer.work_dir, int(output.splitlines()[-1]))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_run_killed_at_a_seeded_moment(tmp_path: Path, killed: Killed, seed: int) -> None:
    chance = random.Random(seed)
    parameters = killed.parameters.model_copy(update={"work_dir": tmp_path / "run"})
    begins_with = chance.choice(["nothing", "fewer products", "all, to be computed again"])
    if begins_with == "fewer products":
        shutil.copytree(killed.earlier, parameters.work_dir)
    elif begins_with != "nothing":
        shutil.copytree(killed.parameters.work_dir, parameters.work_dir)
        parameters = parameters.model_copy(update={"overwrite": True})
    before = complete_files(parameters.work_dir)
    code, output = run_in_a_process(parameters, kill_at=chance.randint(1, killed.steps))
    assert code in (-signal.SIGKILL, 0), output
    check_what_is_there(killed, parameters, before)

    code, output = run_in_a_process(parameters.model_copy(update={"overwrite": False}))
    assert code == 0, output
    check_same(parameters, killed.parameters)


def complete_files(work_dir: Path) -> set[Path]:
    """Files under their final names, except what is of the run alone, and tables."""
    paths = (path.relative_to(work_dir) for path in work_dir.rglob("*") if path.is_file())
    return {path for path in paths if path.parts[0] in ("composites", "imagery_raw") and path.name[0] != "."}


def check_what_is_there(killed: Killed, parameters: RunParameters, before: set[Path]) -> None:
    """After the kill: every file with a final name is whole, and at most the composite under way is not there."""
    workspace = Workspace(parameters.work_dir)
    for path in complete_files(parameters.work_dir):
        if path.parts[0] == "imagery_raw":
            original = killed.archive.joinpath(*path.parts[1:])
            assert (parameters.work_dir / path).read_bytes() == original.read_bytes(), path
    for path in parameters.work_dir.rglob("*.json"):
        assert isinstance(json.loads(path.read_text(encoding="utf-8")), dict | list), path
    for path in workspace.indices.rglob("*.csv"):
        assert len(pd.read_csv(path)) > 0, path
    if workspace.composites.is_dir():
        wrong = [finding for finding in verify(workspace).findings if finding.condition != Condition.INCOMPLETE]
        assert wrong == []
    lost = before - complete_files(parameters.work_dir)
    assert not [path for path in lost if path.parts[0] == "imagery_raw"]
    assert len({str(path).rpartition("_B")[2][:2] + path.parts[1] for path in lost}) <= 1, lost


def check_same(parameters: RunParameters, undisturbed: RunParameters) -> None:
    """After the next run: pixels, tables and files are those of a run that nobody disturbed."""
    workspace, expected = Workspace(parameters.work_dir), Workspace(undisturbed.work_dir)
    assert complete_files(workspace.work_dir) == complete_files(expected.work_dir)
    assert verify(workspace).findings == ()
    assert not list(workspace.work_dir.rglob(".*.part*"))
    rasters = sorted(path.relative_to(expected.composites) for path in expected.composites.rglob("*.tif"))
    assert len(rasters) == 2 * len(CELLS) * len(undisturbed.bands)
    for path in rasters:
        np.testing.assert_array_equal(pixels(workspace.composites / path), pixels(expected.composites / path))
    tables = [pd.read_csv(each.composite_index).drop(columns="status") for each in (workspace, expected)]
    pd.testing.assert_frame_equal(*tables)
