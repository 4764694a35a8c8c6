"""Workers on this machine: Dask workers, processes of one thread each."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from deployments.clusters import worker_template
from deployments.clusters.cluster import Cluster
from deployments.clusters.network import LOOPBACK
from deployments.clusters.replacement import Replacement, started
from deployments.clusters.worker_template import begin_template, copy_template
from deployments.process.signals import sigint_blocked
from s2sr_core.account import account_hidden
from s2sr_core.import_path import current_folder_left_out

if TYPE_CHECKING:
    from deployments.clusters.task_runner import ClusterTaskRunner
    from s2sr_core.parameters import RunParameters

#: Bytes of products for each worker, unless the user says how many workers there are: on less, starting another one
#: costs more than it saves. A whole product has some 800 MB.
_PAYS = 10_000_000


class ThisMachine(Cluster):
    """As many workers as the parameter ``workers`` says; by default one for each core that this process may use."""

    name = "local"

    def __init__(self, parameters: RunParameters) -> None:
        self._workers = parameters.workers

    def worker_count(self) -> int:
        return self._workers or len(os.sched_getaffinity(0))

    def that_pays(self, size: int) -> ThisMachine:
        fewer = copy.copy(self)
        fewer._workers = self._workers or min(self.worker_count(), 1 + size // _PAYS)
        return fewer

    def check(self) -> None:
        """Nothing can be wrong."""

    def begin(self) -> None:
        copy_template()

    def host(self) -> str:
        return LOOPBACK

    def task_runner(self) -> contextlib.AbstractContextManager[ClusterTaskRunner]:
        return _local_workers(self.worker_count())


@contextlib.contextmanager
def _local_workers(count: int) -> Iterator[ClusterTaskRunner]:
    """Workers have one thread, because GDAL datasets and the cache of blocks want one process each.

    They have no memory limit of Dask's: the engines limit what they hold, and a worker that Dask paused would stall the
    run without a message. They see neither Ctrl-C nor the account. Other users of this machine cannot talk to them. If
    an error leaves the block, nobody waits for the units that are being computed.
    """
    import dask
    import distributed

    from deployments.clusters.security import security_of_run, without_pages
    from deployments.clusters.task_runner import ClusterTaskRunner

    logging.getLogger("distributed").setLevel(logging.ERROR)
    begin_template()
    as_copies = dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
    with account_hidden(), current_folder_left_out(), without_pages(), as_copies:  # also of workers that replace others
        with sigint_blocked():
            cluster = started(
                lambda: distributed.LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    processes=True,
                    memory_limit=0,
                    env=dict(os.environ),
                    preload=worker_template.__name__,
                    security=security_of_run(),
                    dashboard_address=f"{LOOPBACK}:0",
                    scheduler_kwargs={"dashboard": False},
                )
            )
        with cluster, ClusterTaskRunner(cluster=cluster, watch=Replacement(cluster, count)) as runner:
            try:
                yield runner
            except BaseException:
                with sigint_blocked():
                    logging.getLogger("distributed").setLevel(logging.CRITICAL)
                    cluster.sync(_kill_workers, cluster)
                raise


async def _kill_workers(cluster: Any) -> None:
    """Kill the workers, even in the middle of a unit, so that closing the cluster has nothing to wait for."""
    nannies = list(cluster.workers.values())
    for nanny in nannies:
        nanny.auto_restart = False
    processes = [nanny.process.process for nanny in nannies if nanny.process is not None]
    await asyncio.gather(*(process.kill() for process in processes), return_exceptions=True)
