"""Which worker this process is."""

from __future__ import annotations

import re

from distributed import get_worker


def worker_number() -> int:
    """0 in the flow's own process, else the worker's number, counted from 1.

    A worker that is an MPI rank has its number in its name, as ``rank7``; Dask names the workers of a local cluster
    0, 1, 2 …
    """
    try:
        name = str(get_worker().name)
    except ValueError:  # this is no worker
        return 0
    if rank := re.search(r"rank(\d+)$", name):
        return int(rank[1])
    number = re.search(r"(\d+)$", name)
    return 1 + int(number[1]) if number else 1
