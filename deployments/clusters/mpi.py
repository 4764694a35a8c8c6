"""Workers that ``mpirun`` started with the program: rank 0 has the flow and the scheduler, the others are workers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from deployments.clusters.cluster import Cluster
from deployments.clusters.local import ThisMachine
from deployments.clusters.network import LOOPBACK, address_of_this_machine, in_url
from deployments.clusters.site import read_site
from deployments.mpi.launched_rank import launched_rank
from deployments.mpi.world import World, world_of_run
from deployments.process.signals import sigint_blocked
from s2sr_core.errors import ClusterError

if TYPE_CHECKING:
    from deployments.clusters.task_runner import ClusterTaskRunner
    from s2sr_core.parameters import RunParameters

#: Seconds that ranks may take to become workers: they all import from one shared filesystem.
_START = 600.0
#: Seconds that they may take to end.
_DISMISSAL = 30.0


class MpiRanks(Cluster):
    """One worker for each rank but rank 0; a single rank computes with workers on this machine."""

    name = "mpi"

    def __init__(self, parameters: RunParameters) -> None:
        self._site, self._work_dir = read_site(parameters.site), parameters.work_dir
        self._this_machine = ThisMachine(parameters)

    def worker_count(self) -> int:
        ranks = launched_rank().size
        return ranks - 1 if ranks > 1 else self._this_machine.worker_count()

    def check(self) -> None:
        if self._site.interface is not None:
            address_of_this_machine(self._site.interface)

    def host(self) -> str:
        world = world_of_run()
        if self._site.interface is None and (world is None or world.is_one_host):
            return LOOPBACK
        return address_of_this_machine(self._site.interface)

    def task_runner(self) -> contextlib.AbstractContextManager[ClusterTaskRunner]:
        world = world_of_run()
        return self._this_machine.task_runner() if world is None or world.size == 1 else self._ranks(world)

    @contextlib.contextmanager
    def _ranks(self, world: World) -> Iterator[ClusterTaskRunner]:
        """Everything between ranks is encrypted, with keys that are made for the run and sent by MPI."""
        import distributed

        from deployments.clusters.security import security_of_run, without_pages
        from deployments.clusters.task_runner import ClusterTaskRunner

        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        site, count, security = self._site, world.size - 1, security_of_run()
        with sigint_blocked(), without_pages():
            cluster = distributed.LocalCluster(
                n_workers=0,
                threads_per_worker=1,
                host=in_url(self.host()),
                protocol="tls://",
                security=security,
                dashboard_address=f"{LOOPBACK}:0",
                scheduler_kwargs={"dashboard": False},
            )

        def watch() -> None:
            if not cluster.scheduler.workers:
                raise ClusterError(
                    f"the workers of all {count} ranks are gone; see their logs in {self._work_dir}/logs"
                )

        with cluster, ClusterTaskRunner(cluster=cluster, watch=watch) as runner:
            options = {
                "scheduler": cluster.scheduler_address,
                "protocol": "tls://",
                "work_dir": self._work_dir,
                "security": security,
                "interface": site.interface,
                "local_directory": None if site.scratch is None else str(site.scratch),
            }
            world.send_to_all(("work", options))
            try:
                runner.client.wait_for_workers(count, timeout=_START)
            except TimeoutError as error:
                there = len(cluster.scheduler.workers)
                raise ClusterError(
                    f"only {there} of {count} ranks became workers within {_START:g} s; see the logs in "
                    f"{self._work_dir}/logs"
                ) from error
            yield runner
            with contextlib.suppress(TimeoutError):  # one that hangs is ended with its rank
                cluster.sync(_dismiss_workers, cluster.scheduler, callback_timeout=_DISMISSAL)


async def _dismiss_workers(scheduler: Any) -> None:
    """Ask the workers to end: one whose scheduler just vanishes complains."""
    await scheduler.retire_workers(workers=list(scheduler.workers), close_workers=True, remove=True)
