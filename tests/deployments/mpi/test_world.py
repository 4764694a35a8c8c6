"""Without the launcher's MPI library; with it: tests/hpc/test_world.py."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import sys
from deployments.mpi.launched_rank import launched_rank
from deployments.mpi.world import run_ranks

def report(error):
    print(error, file=sys.stderr)
    return 7

def main():
    raise AssertionError("it ran")

raise SystemExit(run_ranks(launched_rank(), main, report))
"""


@pytest.mark.parametrize(("rank", "code"), [(0, 7), (1, 2)])
def test_without_the_launchers_library_rank_0_says_so_and_all_ranks_end(rank: int, code: int) -> None:
    """Two ranks according to the environment, but no MPI that knows of them, whichever library mpi4py may find."""
    environment = os.environ | {"OMPI_COMM_WORLD_RANK": str(rank), "OMPI_COMM_WORLD_SIZE": "2"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == code, done.stderr
    if rank == 0:
        assert done.stderr.startswith("mpirun = '2': mpi4py ")
        assert "; load the launcher's own MPI" in done.stderr
    else:
        assert done.stderr == ""
