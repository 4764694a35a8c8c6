from __future__ import annotations

import pytest

from deployments.mpi.launched_rank import LaunchedRank, launched_rank


@pytest.mark.parametrize(
    ("environment", "rank", "size"),
    [
        ({}, 0, 1),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4"}, 2, 4),
        ({"PMI_RANK": "3", "PMI_SIZE": "8"}, 3, 8),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, 1, 2),
        # In a batch script there is no step: this process is the only one.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "12"}, 0, 1),
        # mpirun in a Slurm step: what is nearest counts.
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "PMI_RANK": "5", "PMI_SIZE": "6"}, 5, 6),
        ({"PMI_RANK": "", "PMI_SIZE": "many"}, 0, 1),
    ],
)
def test_the_launchers_variables_say_which_rank_this_is(environment: dict[str, str], rank: int, size: int) -> None:
    assert launched_rank(environment) == LaunchedRank(rank, size)
