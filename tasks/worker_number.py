"""Which worker this is."""

from __future__ import annotations

import re

from distributed import get_worker


def rank() -> int:
    """0 in the flow's own process, else the worker's number counted from 1.

    Workers that are MPI ranks have it in their name, as ``rank7``; Dask names the workers of a local cluster 0, 1, 2 …
    """
    try:
        name = str(get_worker().name)
    except ValueError:
        return 0
    if ours := re.search(r"rank(\d+)$", name):
        return int(ours[1])
    number = re.search(r"(\d+)$", name)
    return 1 + int(number[1]) if number else 1
