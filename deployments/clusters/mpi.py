"""Workers that ``mpirun`` started with the program itself: rank 0 has scheduler and flow, each other rank is a worker.

The other ranks do as rank 0 says: work for a scheduler, or exit with a code. They wait for its word without keeping a
core busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import distributed
from distributed import Security
from distributed.utils import get_ip, get_ip_interface

from deployments.clusters.local import local_runner
from deployments.interrupts import ctrl_c_held
from deployments.launcher import Place
from deployments.mpi_worker import serve
from deployments.runner import ClusterRunner
from deployments.secrets import forget_account
from deployments.site import Site
from s2sr_core.errors import ClusterError, InputError

_PAUSE = 0.1
#: Seconds that ranks may take to become workers: they all import from one shared filesystem.
_START = 600.0

_world: World | None = None


class World:
    """MPI's ranks, of which this process is one.

    Raises
    ------
    InputError
        Where mpi4py finds no MPI library, or another than the launcher's.
    """

    def __init__(self, place: Place) -> None:
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                "mpirun", place.size, f"mpi4py finds no MPI library ({reason})", "load the launcher's own MPI"
            ) from error
        self._mpi, self._comm = MPI, MPI.COMM_WORLD
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        if self.size != place.size:
            library = MPI.Get_library_version().partition("\n")[0].partition(",")[0]
            raise InputError(
                "mpirun", place.size, f"mpi4py uses {library}, which is not the launcher's", "load the launcher's MPI"
            )
        self.is_one_host = len(set(self._comm.allgather(socket.gethostname()))) == 1

    def tell(self, message: tuple[str, Any]) -> None:
        """Say the same to every other rank."""
        for request in [self._comm.isend(message, dest=rank) for rank in range(1, self.size)]:
            request.wait()

    def hear(self) -> tuple[str, Any]:
        """Wait for what rank 0 says. MPI itself would wait at full speed."""
        while not self._comm.iprobe(source=0):
            time.sleep(_PAUSE)
        message: tuple[str, Any] = self._comm.recv(source=0)
        return message

    def end(self) -> None:
        self._mpi.Finalize()


def run_ranks(place: Place, main: Callable[[], int], report: Callable[[InputError], int]) -> int:
    """Call ``main`` on rank 0 and serve it on the others; every rank returns its exit code.

    ``report`` turns bad input that all ranks meet into an exit code; it is called on rank 0 alone.
    """
    global _world
    try:
        world = World(place)
    except InputError as error:
        return report(error) if place.rank == 0 else 2
    if world.rank > 0:
        code = _serve(world)
        world.end()
        return code
    _world, code = world, 1
    try:
        code = main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        with ctrl_c_held():
            world.tell(("exit", code))
            world.end()
    return code


def _serve(world: World) -> int:
    """Do what rank 0 says until it says to exit."""
    forget_account()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    while True:
        kind, said = world.hear()
        if kind == "exit":
            return int(said)
        try:
            asyncio.run(serve(said.pop("scheduler"), world.rank, **said))
        except Exception as error:  # noqa: BLE001  # this rank is lost; rank 0 goes on with the others and says when
            print(f"rank {world.rank}: {type(error).__name__}: {error}", file=sys.stderr)


@contextlib.contextmanager
def mpi_runner(site: Site, work_dir: Path) -> Iterator[ClusterRunner]:
    """A task runner whose workers are the other ranks; on a single rank, one on this machine.

    What goes between ranks is encrypted, with keys that are made for the run and travel by MPI.
    """
    world = _world
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
            host=address(site, is_one_host=world.is_one_host),
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


def host(site: Site) -> str | None:
    """Where ranks reach this one; None where all are on this machine."""
    return None if _world is None or _world.is_one_host else address(site)


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
