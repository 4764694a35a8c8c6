"""Which worker this process is."""

from __future__ import annotations

import re
from pathlib import Path

from distributed import get_worker

from s2sr_core.assigned_rank import assigned_rank


def worker_number(work_dir: Path) -> int:
    """0 in the flow's own process, else the worker's number in the run of ``work_dir``, counted from 1.

    A worker of a cluster that is not the run's own was given one. A worker that is an MPI rank has its number in its
    name, as ``rank7``; Dask names the workers of a local cluster 0, 1, 2 …
    """
    if (number := assigned_rank(work_dir)) is not None:
        return number
    try:
        name = str(get_worker().name)
    except ValueError:  # this is no worker
        return 0
    if rank := re.search(r"rank(\d+)$", name):
        return int(rank[1])
    counted = re.search(r"(\d+)$", name)
    return 1 + int(counted[1]) if counted else 1
