from __future__ import annotations

import pytest

from deployments.mpi.launched_rank import LaunchedRank, launched_rank


@pytest.mark.parametrize(
    ("environment", "rank", "size", "library"),
    [
        ({}, 0, 1, None),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4"}, 2, 4, "openmpi"),
        ({"PMI_RANK": "3", "PMI_SIZE": "8"}, 3, 8, "mpich"),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, 1, 2, None),
        # In a batch script there is no step: this process is the only one.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "12"}, 0, 1, None),
        # mpirun in a Slurm step: what is nearest counts.
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "PMI_RANK": "5", "PMI_SIZE": "6"}, 5, 6, "mpich"),
        ({"PMI_RANK": "", "PMI_SIZE": "many"}, 0, 1, None),
    ],
)
def test_the_launchers_variables_say_which_rank_this_is(
    environment: dict[str, str], rank: int, size: int, library: str | None
) -> None:
    assert launched_rank(environment) == LaunchedRank(rank, size, library)
