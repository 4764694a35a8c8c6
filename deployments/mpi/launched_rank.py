"""Which rank of how many this process is, according to the environment that an MPI launcher gave it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

#: Rank and number of ranks: Open MPI; MPICH, Intel MPI and ``srun --mpi=pmi2``; Slurm's own ``srun``. Slurm sets
#: SLURM_PROCID in the batch script as well, where there is no job step.
_VARIABLES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


#: What mpi4py calls the library whose launcher sets these.
_LIBRARIES = {"OMPI_COMM_WORLD_RANK": "openmpi", "PMI_RANK": "mpich"}


@dataclass(frozen=True, slots=True)
class LaunchedRank:
    """One rank of ``size``, counted from 0; ``library`` is the launcher's MPI library in mpi4py's words, if known."""

    rank: int
    size: int
    library: str | None = None


def launched_rank(environment: Mapping[str, str] = os.environ) -> LaunchedRank:
    """The rank of this process; 0 of 1 if no launcher started it."""
    for rank, size in _VARIABLES:
        if environment.get(rank, "").isdecimal() and environment.get(size, "").isdecimal():
            return LaunchedRank(int(environment[rank]), int(environment[size]), _LIBRARIES.get(rank))
    return LaunchedRank(0, 1)
