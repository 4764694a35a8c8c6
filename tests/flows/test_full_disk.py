"""A disk that is full while a run works on it, from the flow to its tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.disks import fill, small_disk
from support.scenes import parameters_for, pixels, run

from flows.pipeline import pipeline
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.workspace import Workspace


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small") as folder:
        yield folder


@pytest.mark.usefixtures("workers_here")
def test_a_run_on_a_full_disk_says_so_and_the_next_one_is_whole(
    tmp_path: Path, archive: Path, cells: list[Gridcell], small: Path
) -> None:
    """Composites have no space: their folder is on the full disk. Tables and the record of the run have."""
    expected = run(parameters_for(tmp_path, archive, cells, bands=["B04"], work_dir=tmp_path / "elsewhere"))
    parameters = parameters_for(tmp_path, archive, cells, bands=["B04"], workers=1)
    workspace = Workspace(parameters.work_dir)
    workspace.composites.parent.mkdir()
    workspace.composites.symlink_to(small)
    ballast = fill(small)
    state = pipeline(**dict(parameters), return_state=True)
    assert state.is_failed()
    assert "2 failed" in str(state.message)
    errors = pd.read_csv(workspace.phase2_errors).set_index("cell_id")
    assert sorted(errors.index) == ["a", "b"]
    for reason in errors["reason"]:
        assert reason.startswith("no space left on ")
        assert "; free 1 MB or more there, or use another disk, and run the same again" in reason
    assert [path for path in small.rglob("*") if path.is_file()] == [ballast]

    ballast.unlink()
    state = pipeline(**dict(parameters), return_state=True)
    assert state.name == "Completed"
    assert not workspace.phase2_errors.exists()
    for cell_id in ("a", "b"):
        outcome = expected[cell_id, "B04"]
        assert np.array_equal(pixels(workspace.composite(cell_id, "B04")), pixels(outcome.path))
