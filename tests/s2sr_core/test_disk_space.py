"""Full disks: a filesystem of a few megabytes that a file fills, and what Linux offers in its place."""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import shapely
from support.disks import fill, small_disk
from support.scenes import parameters_for, pixels, prepare, product_name, run, write_scene

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import composite_cell
from s2sr_core.disk_space import explained, is_full, is_full_disk
from s2sr_core.errors import InputError, Step
from s2sr_core.logs import logged_to
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.run_context import RunContext
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid

CELL = Gridcell("c", shapely.box(-149.61, 68.625, -149.59, 68.635))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small") as folder:
        yield folder


@pytest.mark.parametrize("left", [0, 4096])
@pytest.mark.parametrize("part", ["tmp", "composites", "."])
def test_a_composite_that_finds_no_space_says_so_and_leaves_nothing(
    tmp_path: Path, small: Path, left: int, part: str
) -> None:
    rng, grid = np.random.default_rng(4), Grid.utm(-149.6, 68.63, 120, zone=5)
    for number in range(3):
        write_scene(tmp_path / "archive", product_name(number), grid, rng, bands=("B03", "B04"))
    work_dir = small if part == "." else tmp_path / "run"
    work_dir.mkdir(exist_ok=True)
    if part != ".":
        (work_dir / part).symlink_to(small)
    parameters = parameters_for(tmp_path, tmp_path / "archive", [CELL], bands=["B03", "B04"], work_dir=work_dir)
    elsewhere = parameters_for(
        tmp_path, tmp_path / "archive", [CELL], bands=["B03", "B04"], work_dir=tmp_path / "elsewhere"
    )
    expected = {band: pixels(outcome.path) for (_, band), outcome in run(elsewhere).items()}

    context = RunContext(parameters, rank=1)
    scenes = [preparation.scene for preparation in prepare(parameters, context) if preparation.scene]
    (cell,) = choose_gridcells(parameters)
    (earlier,) = composite_cell(context, cell, ["B03"], scenes)
    assert earlier.status == "written"

    ballast = fill(small, left)
    kept, failed = composite_cell(context, cell, ["B03", "B04"], scenes)
    assert kept.status == "kept"
    assert np.array_equal(pixels(kept.path), expected["B03"])
    assert failed.status == "failed"
    assert "\n" not in failed.reason
    assert failed.reason.startswith(f"no space left on {work_dir}"), failed.reason
    window = cell.window_on(parameters.lattice_of(cell))
    most = window.width * window.height * 4 * (2 + 1 / 3) + 3 * 120 * 120 * 2  # Float32, twice; three scenes, UInt16
    space = re.search(r"; free (\d+) MB or more there, or use another disk", failed.reason)
    assert space is not None
    assert 1 <= int(space[1]) <= most / 1e6 + 1
    workspace = Workspace(work_dir)
    assert not list(workspace.composites.rglob("*B04*"))
    assert not list(workspace.tmp.rglob("c_B04_*.tif"))

    ballast.unlink()
    kept, written = composite_cell(context, cell, ["B03", "B04"], scenes)
    assert (kept.status, written.status) == ("kept", "written")
    assert np.array_equal(pixels(written.path), expected["B04"])


def test_preparing_without_space_says_so(tmp_path: Path, small: Path) -> None:
    write_scene(tmp_path / "archive", product_name(0), Grid.utm(-149.6, 68.63, 120, zone=5), np.random.default_rng(4))
    parameters = parameters_for(tmp_path, tmp_path / "archive", [CELL], work_dir=small)
    RunContext(parameters, rank=1).workspace.vrts(1)
    ballast = fill(small)
    (preparation,) = prepare(parameters)
    assert preparation.scene is None
    (error,) = preparation.errors
    assert error.step == Step.PREPARE
    assert error.reason.startswith(f"no space left on {small}")
    ballast.unlink()
    (preparation,) = prepare(parameters)
    assert not preparation.errors


def test_a_work_folder_without_space_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(InputError, match="has no space left; free some, or use another disk"),
        Workspace(tmp_path / "run").opened(),
    ):
        pass


def test_a_log_on_a_full_disk_stops_nothing(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(small)
    with logged_to(small / "logs" / "rank0.log"):
        logging.getLogger("s2sr_core.composites.composite").info("line")
    assert capsys.readouterr().err == ""


def test_a_full_disk_is_found(small: Path, tmp_path: Path) -> None:
    assert not is_full(small)
    fill(small, 100_000)
    assert is_full(small)
    assert not is_full(tmp_path)
    assert not is_full(tmp_path / "none")
    assert explained(RuntimeError("TIFFAppendToStrip:Write error"), tmp_path, small).startswith(
        f"no space left on {small};"
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_an_error_that_says_so_is_believed(tmp_path: Path, number: int) -> None:
    error = OSError(number, os.strerror(number), str(tmp_path / "file"))
    assert is_full_disk(error)
    assert explained(error).startswith(f"no space left on {tmp_path};")
    outer = RuntimeError("something")
    outer.__cause__ = error
    assert explained(outer).startswith(f"no space left on {tmp_path};")


def test_gdals_words_are_understood(tmp_path: Path) -> None:
    error = RuntimeError("VSIFWriteL() failed: No space left on device")
    assert explained(error, tmp_path).startswith(f"no space left on {tmp_path};")


def test_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    assert explained(RuntimeError("a\nb"), tmp_path) == "RuntimeError: a b"
    assert not is_full_disk(OSError(errno.EACCES, "Permission denied"))


def test_the_device_that_is_always_full_says_so() -> None:
    with pytest.raises(OSError, match="No space left on device") as caught, Path("/dev/full").open("wb") as file:
        file.write(b"x")
    assert is_full_disk(caught.value)
