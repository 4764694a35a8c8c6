"""Ranks of a real ``mpirun``: rank 0 runs the program, the others obey, all end with its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.mpi.world import remedy_of_missing

CODE = """
import os, signal, sys
import psutil
from deployments.mpi import world as module
from deployments.mpi.launched_rank import launched_rank
from deployments.mpi.world import run_ranks, world_of_run

module._PATIENCE = {patience}

def main():
    world = world_of_run()
    print("main", world.rank, world.size, world.is_one_host, flush=True)
    {body}

def report(error):
    print(error, file=sys.stderr, flush=True)
    return 9

code = run_ranks(launched_rank(), main, report)
with open(os.path.join({folder!r}, f"rank{{launched_rank().rank}}"), "w") as file:
    with open("/proc/self/environ", "rb") as environment:
        file.write(f"{{code}} {{b'PASSWORD=' + b'hunter2' in environment.read()}}")
raise SystemExit(code)
"""


def ranks(
    mpi: tuple[str, Path],
    folder: Path,
    body: str,
    count: int = 3,
    libraries: str | None = None,
    patience: float = 120.0,
) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    """Run ``body`` in ``count`` ranks; also gives each rank's exit code, and whether the system shows the password."""
    name, prefix = mpi
    environment = os.environ | {"LD_LIBRARY_PATH": libraries or str(prefix / "lib"), "CDSE_PASSWORD": "hunter2"}
    options = []
    if name == "openmpi":
        environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        options = ["--map-by", ":OVERSUBSCRIBE"]
    code = CODE.format(patience=patience, body=body, folder=str(folder))
    done = subprocess.run(
        [str(prefix / "bin" / "mpirun"), *options, "-n", str(count), sys.executable, "-P", "-c", code],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return done, {path.name: path.read_text() for path in folder.glob("rank*")}


def assert_ended(mpi: tuple[str, Path], ended: dict[str, str], code: int, count: int) -> None:
    """Open MPI ends ranks that are still there when one ends with another code than 0."""
    expected = {f"rank{rank}": f"{code} {rank == 0}" for rank in range(count)}
    if code and mpi[0] == "openmpi":
        assert ended
        assert ended.items() <= expected.items()
    else:
        assert ended == expected


@pytest.mark.parametrize(
    ("body", "code"),
    [("return 0", 0), ("return 3", 3), ("raise SystemExit(None)", 0), ("raise SystemExit('bad')", 1)],
)
def test_every_rank_ends_with_the_code_of_rank_0(mpi: tuple[str, Path], tmp_path: Path, body: str, code: int) -> None:
    """Rank 0 alone keeps the account."""
    done, ended = ranks(mpi, tmp_path, body)
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines() == ["main 0 3 True"]
    assert_ended(mpi, ended, code, count=3)


def test_an_error_of_rank_0_ends_the_others(mpi: tuple[str, Path], tmp_path: Path) -> None:
    done, ended = ranks(mpi, tmp_path, "raise ValueError('of rank 0')")
    assert done.returncode == 1
    assert done.stderr.count("ValueError: of rank 0") == 1
    assert ended.get("rank1", "1 False") == ended.get("rank2", "1 False") == "1 False"
    assert "rank0" not in ended


def test_a_rank_that_cannot_work_says_so_and_waits_for_the_end(mpi: tuple[str, Path], tmp_path: Path) -> None:
    """The scheduler it is to work for does not exist."""
    order = {"scheduler": "tcp://127.0.0.1:9", "work_dir": str(tmp_path / "run"), "death_timeout": 1}
    (tmp_path / "run" / "logs").mkdir(parents=True)
    done, ended = ranks(mpi, tmp_path, f"world.send_to_all(('work', {order!r})); return 4", count=2)
    assert done.returncode == 4, done.stderr
    assert "rank 1: " in done.stderr
    assert_ended(mpi, ended, 4, count=2)


def test_a_rank_that_hangs_does_not_hold_mpirun(mpi: tuple[str, Path], tmp_path: Path) -> None:
    """Rank 2 is stopped: it neither answers nor ends by itself. The exit code is that of the run all the same."""
    body = """
    others = [process for process in psutil.Process().parent().children() if "-c" in process.cmdline()]
    last = next(process for process in others if process.environ().get(variable) == "2")
    last.suspend()
    return 0
"""
    variable = {"openmpi": "OMPI_COMM_WORLD_RANK", "mpich": "PMI_RANK"}[mpi[0]]
    done, ended = ranks(mpi, tmp_path, f"variable = {variable!r}{body.rstrip()}", patience=5.0)
    assert "rank 2: no answer within 5 s; all ranks are ended" in done.stderr
    assert "main 0 3 True" in done.stdout
    assert "rank2" not in ended
    assert done.returncode == 0, done.stderr


def test_with_two_mpi_libraries_the_remedy_is_named_and_works(
    openmpi: Path, mpich: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with both of Debian's: the launcher is Open MPI's, and mpi4py finds MPICH's library first."""
    first = ("openmpi", openmpi)
    both = f"{mpich}/lib:{openmpi}/lib"
    done, _ = ranks(first, tmp_path, "return 0", libraries=both)
    assert done.returncode in (2, 9)
    assert "mpi4py uses MPICH" in done.stderr
    assert "if several are installed, export MPI4PY_MPIABI=openmpi" in done.stderr
    monkeypatch.setenv("MPI4PY_MPIABI", "openmpi")
    done, _ = ranks(first, tmp_path, "return 0", libraries=both)
    assert done.returncode == 0, done.stderr


def test_debians_name_of_mpich_is_known() -> None:
    """mpi4py asks for the name that all others give it."""
    missing = "libmpi.so.{}: cannot open shared object file: No such file or directory"
    assert "link it as libmpi.so.12 in a folder of LD_LIBRARY_PATH" in remedy_of_missing(missing.format(12))
    assert remedy_of_missing(missing.format(40)) == "load the launcher's own MPI"
