"""Workers that ``mpirun`` started with the program: rank 0 has scheduler and flow, each other rank is a worker."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
from distributed import Security
from distributed.utils import get_ip, get_ip_interface

from deployments.clusters.local import local_runner
from deployments.clusters.site import Site
from deployments.clusters.task_runner import ClusterRunner
from deployments.mpi.world import world as world_of_run
from deployments.process.signals import ctrl_c_held
from s2sr_core.errors import ClusterError, InputError

#: Seconds that ranks may take to become workers: they all import from one shared filesystem.
_START = 600.0


@contextlib.contextmanager
def mpi_runner(site: Site, work_dir: Path) -> Iterator[ClusterRunner]:
    """A task runner whose workers are the other ranks; on a single rank, one on this machine.

    What goes between ranks is encrypted, with keys that are made for the run and travel by MPI.
    """
    world = world_of_run()
    if world is None or world.size == 1:
        with local_runner(None) as runner:
            yield runner
        return
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    security = Security.temporary()
    with ctrl_c_held():
        cluster = distributed.LocalCluster(
            n_workers=0,
            threads_per_worker=1,
            host=host(site),
            protocol="tls://",
            security=security,
            dashboard_address="127.0.0.1:0",
        )

    def watch() -> None:
        if not cluster.scheduler.workers:
            raise ClusterError(f"the workers of all {world.size - 1} ranks are gone; their logs are in {work_dir}/logs")

    with cluster, ClusterRunner(cluster=cluster, watch=watch) as runner:
        scratch = None if site.scratch is None else str(site.scratch)
        options = {"work_dir": work_dir, "security": security, "interface": site.interface, "local_directory": scratch}
        world.tell(("work", {"scheduler": cluster.scheduler_address, "protocol": "tls://", **options}))
        try:
            runner.client.wait_for_workers(world.size - 1, timeout=_START)
        except TimeoutError as error:
            there = len(cluster.scheduler.workers)
            raise ClusterError(f"only {there} of {world.size - 1} ranks became workers in {_START:g} s") from error
        yield runner
        cluster.sync(_dismiss, cluster.scheduler)


async def _dismiss(scheduler: Any) -> None:
    """Let the workers go: one whose scheduler just vanishes complains."""
    await scheduler.retire_workers(workers=list(scheduler.workers), close_workers=True, remove=True)


def host(site: Site) -> str:
    """Where ranks reach this one."""
    world = world_of_run()
    return address(site, is_one_host=world is None or world.is_one_host)


def address(site: Site, *, is_one_host: bool = False) -> str:
    """Where this process can be reached by its workers."""
    if site.interface is not None:
        try:
            return str(get_ip_interface(site.interface))
        except ValueError as error:
            raise InputError(
                "interface", site.interface, "is no network interface of this machine", "look with: ip address"
            ) from error
    return "127.0.0.1" if is_one_host else str(get_ip())
