"""Whole runs that Python asks for: each is a process with a server of its own, which takes a while."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import shapely
from support.scenes import parameters_for, pixels, product_name, run, write_scene
from support.waiting import until

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.parameters import RunParameters
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid

pytestmark = pytest.mark.slow

#: A script as a person would write it, without ``if __name__ == "__main__"``; what it prints is looked at.
SCRIPT = """
import json, sys, threading
import s2sr
fields = json.loads(sys.argv[1])
print("plan", str(s2sr.plan(**fields)).splitlines()[0])
runs = []
def go(name):
    runs.append(s2sr.composite(**{**fields, "work_dir": fields["work_dir"] + name}))
threads = [threading.Thread(target=go, args=(name,)) for name in ("-1", "-2")]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
for run in runs:
    print("run", run.summary.written, run.summary.failures, len(run.paths), sorted(run.outcomes["status"]))
print("same", runs[0].to_xarray().B04.equals(runs[1].to_xarray().B04))
"""


@pytest.fixture
def parameters(tmp_path: Path) -> RunParameters:
    rng, grid = np.random.default_rng(0), Grid.utm(-149.6, 68.63, 100, zone=5)
    for number in range(2):
        write_scene(tmp_path / "archive", product_name(number), grid, rng, ("B04",))
    cells = [
        Gridcell("a", shapely.box(-149.61, 68.625, -149.60, 68.635)),
        Gridcell("away", shapely.box(-149.2, 68.3, -149.19, 68.31)),
    ]
    return parameters_for(tmp_path, tmp_path / "archive", cells, bands=["B04"], workers=1, tap=True)


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(tmp_path)}


def servers(folder: Path) -> list[Path]:
    """The folders of runs' own servers among temporary files."""
    return list(folder.glob("s2sr-server-*"))


def test_a_plain_script_runs_twice_at_once_in_threads_and_leaves_no_server(
    parameters: RunParameters, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, parameters.model_dump_json()],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert printed[0] == "plan gridcells   2"
    assert printed[1:] == ["run 1 0 1 ['no scene', 'written']"] * 2 + ["same True"]
    assert "composites: 2" in done.stderr, "without a terminal, progress comes in lines"
    assert servers(tmp_path) == []
    plain = run(parameters.model_copy(update={"work_dir": tmp_path / "plain"}))
    path = plain["a", "B04"].path
    assert path is not None
    made = Workspace(Path(f"{parameters.work_dir}-1")).composite("a", "B04")
    assert np.array_equal(pixels(made), pixels(path))


def test_a_run_ends_with_the_process_that_asked_for_it(parameters: RunParameters, tmp_path: Path) -> None:
    """As a kernel that is restarted: nothing is left of the run, and the folder is free again."""
    code = "import json, sys, s2sr; s2sr.composite(**json.loads(sys.argv[1]))"
    with subprocess.Popen(
        [sys.executable, "-c", code, parameters.model_dump_json()], cwd=tmp_path, env=environment(tmp_path)
    ) as process:
        until(lambda: bool(servers(tmp_path)))
        (child,) = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGKILL)
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    until(lambda: servers(tmp_path) == [])


def test_what_the_run_refuses_is_raised_where_it_was_asked_for(parameters: RunParameters) -> None:
    import s2sr

    workspace = Workspace(parameters.work_dir)
    fields: dict[str, Any] = dict(parameters)
    with workspace.opened(), pytest.raises(s2sr.InputError, match="is in use by another run"):
        s2sr.composite(**fields)
