"""Dask workers on this machine: processes of one thread each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any

import distributed

from deployments.clusters.task_runner import ClusterRunner
from deployments.process.account import account_hidden
from deployments.process.signals import ctrl_c_held


def worker_count(workers: int | None) -> int:
    """As many as asked for, or one a core that this process may use."""
    return workers or len(os.sched_getaffinity(0))


@contextlib.contextmanager
def local_runner(workers: int | None) -> Iterator[ClusterRunner]:
    """A started task runner on a cluster that lives as long as the block.

    Workers have one thread, because GDAL datasets and the block cache want one process each, and no memory limit of
    Dask's: engines bound what they hold, and a paused worker would stall the run without a word. They see neither
    Ctrl-C nor the account. Where the block is left by an error nobody waits for the units they are in the middle of.
    """
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with ctrl_c_held(), account_hidden():
        cluster = distributed.LocalCluster(
            n_workers=worker_count(workers),
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
        )
    with cluster, ClusterRunner(cluster=cluster) as runner:
        try:
            yield runner
        except BaseException:
            with ctrl_c_held():
                logging.getLogger("distributed").setLevel(logging.CRITICAL)
                cluster.sync(_kill, cluster)
            raise


async def _kill(cluster: Any) -> None:
    """End the workers whatever they are doing, so that closing the cluster finds nothing to wait for."""
    nannies = list(cluster.workers.values())
    for nanny in nannies:
        nanny.auto_restart = False
    processes = [nanny.process.process for nanny in nannies if nanny.process is not None]
    await asyncio.gather(*(process.kill() for process in processes), return_exceptions=True)
