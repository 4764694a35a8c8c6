"""The ranks that ``mpirun`` started with the program itself: rank 0 runs it, the others wait for rank 0's orders.

They then work for a Dask scheduler, or exit with a code. They wait without keeping a core busy, and import little until
an order comes, so that bad input is reported at once.
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

from deployments.mpi.launched_rank import LaunchedRank
from deployments.process.signals import sigint_blocked
from s2sr_core.account import forget_account
from s2sr_core.errors import InputError

_PAUSE = 0.1
#: Seconds that rank 0 waits for the others at the end: each may have to finish the unit that it computes.
_PATIENCE = 60.0
#: Seconds that rank 0 gets to say that the ranks cannot talk to one another.
_FIRST = 3.0
#: The tag of a rank's message that it is ready to end.
_READY = 1

_world: World | None = None


def world_of_run() -> World | None:
    """The ranks of this run; None if no launcher started it."""
    return _world


class World:
    """All ranks, as this process, which is one of them, sees them.

    Attributes
    ----------
    rank, size
        Of this process, counted from 0; the number of ranks.
    is_one_host
        Whether all of them are on one machine.

    Raises
    ------
    InputError
        If mpi4py finds no MPI library, or another than the launcher's.
    """

    def __init__(self, launched: LaunchedRank) -> None:
        try:
            import mpi4py

            mpi4py.rc.initialize = False  # MPICH ends the process there if the launcher is not its own
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            problem = f"mpi4py finds no MPI library ({reason})"
            raise InputError("mpirun", launched.size, problem, remedy_of_missing(reason)) from error
        library = " ".join(MPI.Get_library_version().partition("\n")[0].partition(",")[0].split())
        foreign = InputError(
            "mpirun", launched.size, f"mpi4py uses {library}, which is not the launcher's library", _remedy(launched)
        )
        if launched.library == "openmpi" and not library.startswith("Open MPI"):
            raise foreign
        MPI.Init_thread(MPI.THREAD_MULTIPLE)
        self._mpi, self._comm = MPI, MPI.COMM_WORLD
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        if self.size != launched.size:
            raise foreign
        self.is_one_host = len(set(self._comm.allgather(socket.gethostname()))) == 1

    def send_to_all(self, order: tuple[str, Any]) -> None:
        """Send the same to every other rank; one that hangs is not waited for longer than for its answer at the end."""
        _wait({rank: self._comm.isend(order, dest=rank) for rank in range(1, self.size)})

    def receive(self) -> tuple[str, Any]:
        """Wait for what rank 0 sends. MPI itself would keep a core busy while it waits."""
        while not self._comm.iprobe(source=0):
            time.sleep(_PAUSE)
        order: tuple[str, Any] = self._comm.recv(source=0)
        return order

    def end(self, code: int) -> None:
        """Leave MPI, all ranks together; none can send or receive after that. They are to exit with ``code``.

        MPI would wait without end for a rank that hangs, in a read from a dead fileserver for example. So every rank
        says first that it is ready, and if one does not, rank 0 ends them all; what they wrote is complete by then.
        """
        if self.rank == 0:
            answers = {rank: self._comm.irecv(source=rank, tag=_READY) for rank in range(1, self.size)}
            if hung := _wait(answers):
                ranks = ", ".join(map(str, hung))
                print(f"rank {ranks}: no answer within {_PATIENCE:g} s; all ranks are ended", file=sys.stderr)
                sys.stdout.flush()
                sys.stderr.flush()
                self._comm.Abort(code)
        else:
            self._comm.isend(None, dest=0, tag=_READY)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        # If MPI itself hangs, because a machine is gone, this process is killed; rank 0 ends all others before that.
        signal.alarm(int(2 * _PATIENCE))
        self._mpi.Finalize()
        signal.alarm(0)


def remedy_of_missing(reason: str) -> str:
    """What to do about an MPI library that the loader does not find, as ``reason`` says."""
    own = "load the launcher's own MPI"
    if "libmpi.so.12" not in reason:
        return own
    return f"{own}; Debian calls that of MPICH libmpich.so.12: link it as libmpi.so.12 in a folder of LD_LIBRARY_PATH"


def _remedy(launched: LaunchedRank) -> str:
    """What to do about an MPI library that is not the launcher's."""
    if launched.library is None:
        return "load the launcher's own MPI"
    return f"load the launcher's own MPI; if several are installed, export MPI4PY_MPIABI={launched.library}"


def _wait(requests: dict[int, Any]) -> list[int]:
    """Wait until these are done, by rank, for a bounded time; returns the ranks whose are not."""
    ends = time.monotonic() + _PATIENCE
    while (requests := {rank: request for rank, request in requests.items() if not request.test()[0]}) and (
        time.monotonic() < ends
    ):
        time.sleep(_PAUSE)
    return sorted(requests)


def run_ranks(launched: LaunchedRank, main: Callable[[], int], report: Callable[[InputError], int]) -> int:
    """Call ``main`` on rank 0, obey it on the others; every rank returns the exit code of ``main``.

    ``report`` turns bad input that all ranks find into an exit code; it is called on rank 0 alone.
    """
    global _world
    if launched.rank > 0:
        forget_account()
    try:
        world = World(launched)
    except InputError as error:
        if launched.rank == 0:
            return report(error)
        time.sleep(_FIRST)  # the launcher ends all ranks with the first that fails, and rank 0 is the one that speaks
        return 2
    if world.rank > 0:
        code = _obey(world)
        world.end(code)
        return code
    _world, code = world, 1
    try:
        code = main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        with sigint_blocked():
            world.send_to_all(("exit", code))
            world.end(code)
    return code


def _obey(world: World) -> int:
    """Do what rank 0 orders until it orders to exit; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        order, content = world.receive()
        if order == "exit":
            return int(content)
        from deployments.clusters.security import check_clock
        from deployments.mpi.worker import work_for

        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # its import sets the level, too
        try:
            if content.get("security") is not None:
                check_clock(content["security"])
            asyncio.run(work_for(content.pop("scheduler"), world.rank, **content))
        except Exception as error:  # noqa: BLE001  # this rank is lost; rank 0 continues with the others and reports it
            print(f"rank {world.rank}: {type(error).__name__}: {error}", file=sys.stderr)
