"""Dask workers on this machine: processes of one thread each."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import distributed
from prefect_dask.task_runners import DaskTaskRunner


def worker_count(workers: int | None) -> int:
    """As many as asked for, or one a core that this process may use."""
    return workers or len(os.sched_getaffinity(0))


@contextlib.contextmanager
def local_runner(workers: int | None) -> Iterator[DaskTaskRunner]:
    """A started task runner on a cluster that lives as long as the block.

    Workers have one thread, because GDAL datasets and the block cache want one process each, and no memory limit of
    Dask's: engines bound what they hold, and a paused worker would stall the run without a word.
    """
    logging.getLogger("distributed").setLevel(logging.ERROR)
    runner = DaskTaskRunner(
        cluster_class=distributed.LocalCluster,
        cluster_kwargs={
            "n_workers": worker_count(workers),
            "threads_per_worker": 1,
            "processes": True,
            "memory_limit": 0,
            "dashboard_address": "127.0.0.1:0",
        },
    )
    with runner:
        yield runner
