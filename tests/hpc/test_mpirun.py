"""The specification's command: ``mpirun … -n N python s2sr_pipeline.py …``, with Open MPI and with MPICH."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import shapely
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL
from support.scenes import parameters_for, product_name, run, write_scene
from support.traps import lay_traps, trapped
from support.waiting import until

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.parameters import RunParameters
from s2sr_sandbox.grid import Grid

ROOT = Path(__file__).resolve().parents[2]
CELLS = [
    Gridcell(f"c{column}", shapely.box(west, 68.625, west + 0.01, 68.635))
    for column, west in enumerate((-149.62, -149.61, -149.60, -149.59))
]


@pytest.fixture(scope="module")
def parameters(tmp_path_factory: pytest.TempPathFactory) -> RunParameters:
    folder = tmp_path_factory.mktemp("archive")
    rng, grid = np.random.default_rng(0), Grid.utm(-149.6, 68.63, 100, zone=5)
    for number in range(3):
        write_scene(folder / "archive", product_name(number), grid, rng, ("B04",))
    return parameters_for(folder, folder / "archive", CELLS, start="2019-06-01", end="2019-08-31")


def command(
    mpi: tuple[str, Path],
    ranks: int,
    parameters: RunParameters,
    work_dir: Path,
    *extra: str,
    program: Sequence[str] = (str(ROOT / "s2sr_pipeline.py"),),
) -> subprocess.CompletedProcess[str]:
    """The command as a user types it; it has ended."""
    launched = started(mpi, ranks, parameters, work_dir, *extra, program=program)
    output, errors = launched.communicate(timeout=400)
    assert trapped(work_dir.parent) == []
    return subprocess.CompletedProcess(launched.args, launched.returncode, output, errors)


def started(
    mpi: tuple[str, Path],
    ranks: int,
    parameters: RunParameters,
    work_dir: Path,
    *extra: str,
    program: Sequence[str] = (str(ROOT / "s2sr_pipeline.py"),),
) -> subprocess.Popen[str]:
    """The command as a user types it, the account's variables forwarded as the specification has it.

    It is typed in a folder where modules lie that nobody must import, with a PYTHONPATH that names that folder.
    """
    name, folder = mpi
    launcher = [str(folder / "bin" / "mpirun")]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder / "lib"),
        "CDSE_USERNAME": "somebody",
        "CDSE_PASSWORD_FILE": "/nowhere",
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "PYTHONPATH": ":",
    }
    assert PREFECT_API_AUTH_STRING.value() is None
    if name == "openmpi":  # MPICH has no -x and forwards the environment by itself
        environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        launcher += ["-x", "CDSE_USERNAME", "-x", "CDSE_PASSWORD_FILE", "--map-by", ":OVERSUBSCRIBE"]
    words = ["--bbox", *map(str, parameters.bbox), "--grid_csv", str(parameters.grid_csv), "--source"]
    words += [str(parameters.source), "--start", "2019-06-01T00:00:00Z", "--end", "2019-08-31T00:00:00Z"]
    words += ["--bands", "B04", "--tap", "--work_dir", str(work_dir), *extra]
    return subprocess.Popen(
        [*launcher, "-n", str(ranks), sys.executable, *program, *words],
        env=environment,
        cwd=lay_traps(work_dir.parent),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def composites(work_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in work_dir.glob("composites/*/*.tif")}


def test_rank_0_has_the_flow_and_the_others_are_workers(
    mpi: tuple[str, Path], parameters: RunParameters, tmp_path: Path, prefect_server: None
) -> None:
    done = command(mpi, 4, parameters, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 composites of 4 cells from 3 scenes: 4 written, 0 kept")
    assert "Traceback" not in done.stderr
    assert "distributed" not in done.stderr
    logs = {path.name: path.read_text() for path in (tmp_path / "run" / "logs").glob("pipeline_rank*.log")}
    assert set(logs) == {f"pipeline_rank{rank}.log" for rank in range(4)}
    assert "written from" not in logs["pipeline_rank0.log"]
    assert "".join(logs.values()).count(": written from") == 4

    quiet = parameters.model_copy(update={"work_dir": tmp_path / "quiet"})
    run(quiet)
    assert composites(tmp_path / "run") == composites(tmp_path / "quiet")


def test_bad_input_is_said_once_and_every_rank_ends_with_2(
    mpi: tuple[str, Path], parameters: RunParameters, tmp_path: Path, prefect_server: None
) -> None:
    done = command(mpi, 3, parameters, tmp_path / "run", "--months", "13")
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("s2sr-pipeline: months = '13'") == 1
    assert "Traceback" not in done.stderr


def test_failures_end_with_1(
    mpi: tuple[str, Path], parameters: RunParameters, tmp_path: Path, prefect_server: None
) -> None:
    (tmp_path / "run" / "composites" / "c0" / "cell_c0_B04_median_clip.tif").mkdir(parents=True)
    done = command(mpi, 3, parameters, tmp_path / "run")
    assert done.returncode == 1, done.stderr
    assert "3 written, 0 kept, 1 failed" in done.stdout
    assert "Traceback" not in done.stderr


def test_one_rank_is_a_local_run(
    mpi: tuple[str, Path], parameters: RunParameters, tmp_path: Path, prefect_server: None
) -> None:
    done = command(mpi, 1, parameters, tmp_path / "run", "--workers", "1", program=("-m", "s2sr_pipeline"))
    assert done.returncode == 0, done.stderr
    assert len(composites(tmp_path / "run")) == 4


def rank_of(launched: subprocess.Popen[str], rank: int) -> psutil.Process | None:
    """The process that is this rank, if the launcher has started it."""
    for process in psutil.Process(launched.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.environ().get("OMPI_COMM_WORLD_RANK") == str(rank):
                return process
    return None


@pytest.mark.long
@pytest.mark.parametrize("log", [None, "pipeline_rank1.log"], ids=["while it starts", "while it works"])
def test_a_killed_rank_ends_them_all_and_the_same_command_continues(
    openmpi: Path, parameters: RunParameters, tmp_path: Path, prefect_server: None, log: str | None
) -> None:
    work_dir = tmp_path / "run"
    launched = started(("openmpi", openmpi), 3, parameters, work_dir)
    killed = until(lambda: rank_of(launched, 1))
    processes = [rank for number in range(3) if (rank := rank_of(launched, number)) is not None]
    if log is not None:
        until((work_dir / "logs" / log).exists)
    killed.kill()
    _, errors = launched.communicate(timeout=400)
    assert launched.returncode != 0, errors
    assert psutil.wait_procs(processes, 60)[1] == []

    done = command(("openmpi", openmpi), 3, parameters, work_dir)
    assert done.returncode == 0, done.stderr
    assert "4 composites of 4 cells from 3 scenes" in done.stdout
    run(undisturbed := parameters.model_copy(update={"work_dir": tmp_path / "undisturbed"}))
    assert composites(work_dir) == composites(undisturbed.work_dir)


def test_the_same_line_under_sbatch(
    openmpi: Path, parameters: RunParameters, tmp_path: Path, prefect_server: None, slurm_state: Path
) -> None:
    """The allocation tells mpirun where to run; no other Slurm job is submitted."""
    words = ["--bbox", *map(str, parameters.bbox), "--grid_csv", str(parameters.grid_csv), "--source"]
    words += [str(parameters.source), "--start", "2019-06-01", "--end", "2019-08-31", "--bands", "B04", "--tap"]
    launcher = f"{openmpi}/bin/mpirun -x CDSE_USERNAME --map-by :OVERSUBSCRIBE --bind-to none -n 3"
    line = " ".join([f"{launcher} {sys.executable} {ROOT}/s2sr_pipeline.py", *words])
    script = f"""#!/bin/bash
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 LD_LIBRARY_PATH={openmpi}/lib CDSE_USERNAME=x
export PREFECT_API_URL={PREFECT_API_URL.value()}
{line} --work_dir {tmp_path}/run
"""
    (tmp_path / "job.sh").write_text(script)
    done = subprocess.run(
        ["sbatch", "--wait", "--ntasks=3", "--export=NONE", f"--output={tmp_path}/out", f"{tmp_path}/job.sh"],
        capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    said = (tmp_path / "out").read_text()
    assert done.returncode == 0, said
    assert "4 written" in said
    assert "Traceback" not in said
    assert {path.name for path in (tmp_path / "run" / "logs").glob("*.log")} == {
        f"pipeline_rank{r}.log" for r in range(3)
    }
