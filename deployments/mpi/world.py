"""The ranks that ``mpirun`` started with the program itself: rank 0 runs it, the others do as it says.

They work for a Dask scheduler, or exit with a code. They wait for rank 0's word without keeping a core busy, and import
little before it comes: bad input is to be told at once.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from deployments.mpi.launched_rank import Place
from deployments.process.account import forget_account
from deployments.process.signals import ctrl_c_held
from s2sr_core.errors import InputError

_PAUSE = 0.1

_world: World | None = None


def world() -> World | None:
    """The ranks of this run, where a launcher started it."""
    return _world


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
    while True:
        kind, said = world.hear()
        if kind == "exit":
            return int(said)
        from deployments.mpi.worker import serve

        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # whose import sets it, too
        try:
            asyncio.run(serve(said.pop("scheduler"), world.rank, **said))
        except Exception as error:  # noqa: BLE001  # this rank is lost; rank 0 goes on with the others and says when
            print(f"rank {world.rank}: {type(error).__name__}: {error}", file=sys.stderr)
