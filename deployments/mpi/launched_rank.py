"""Which rank of how many this process is, as the MPI launcher that started it says in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

#: Rank and number of ranks: Open MPI; MPICH, Intel MPI and ``srun --mpi=pmi2``; Slurm's own ``srun``. Slurm sets
#: SLURM_PROCID in the batch script itself as well, where there is no step.
_VARIABLES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """One rank among ``size``, counted from 0."""

    rank: int
    size: int


def place(environment: Mapping[str, str] = os.environ) -> Place:
    """The place of this process; 0 of 1 where no launcher started it."""
    for rank, size in _VARIABLES:
        if environment.get(rank, "").isdecimal() and environment.get(size, "").isdecimal():
            return Place(int(environment[rank]), int(environment[size]))
    return Place(0, 1)
