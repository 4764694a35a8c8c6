"""Signals belong to the program: its children do not see Ctrl-C, and a flow stops where it looks for requests."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker

from s2sr_core.signals import STOPS, handlers_kept_quiet, received, signals_heard
from s2sr_core.stopping import StoppedError

#: Prefect sets it in processes of flow runs that one of its workers starts.
STARTED_BY_PREFECT = "PREFECT__FLOW_RUN_ID"


@contextlib.contextmanager
def flow_stops_on_signals() -> Iterator[None]:
    """In the body of a flow: signals are requests to stop, and no handler raises an exception anywhere else.

    The one exception is Prefect's own handler of SIGTERM in a process that its worker started: the worker asks whether
    it is there before it cancels a run. If what that raises was dropped somewhere, the request remains.
    """
    keep = (signal.SIGTERM,) if STARTED_BY_PREFECT in os.environ else ()
    with signals_heard(keep=keep), handlers_kept_quiet(keep=keep):
        try:
            yield
        except StoppedError as error:
            if keep and received() is signal.SIGTERM:
                from prefect.exceptions import TerminationSignal

                raise TerminationSignal(signal=signal.SIGTERM) from error
            raise


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Block what stops programs in this thread; what arrives is delivered when the block ends.

    Threads and processes that are started within the block inherit the mask and keep it. A terminal sends SIGINT, or
    SIGHUP when it is closed, to every process of a command, and servers and workers would die of it noisily while the
    program still needs them. Other means end those. A process that must follow SIGTERM is started within
    :func:`sigint_blocked` instead.
    """
    with _blocked(set(STOPS)):
        yield


@contextlib.contextmanager
def sigint_blocked() -> Iterator[None]:
    """As :func:`signals_blocked`, for SIGINT alone."""
    with _blocked({signal.SIGINT}):
        yield


@contextlib.contextmanager
def handlers_restored() -> Iterator[None]:
    """Restore the handlers of SIGINT and SIGTERM at the end: the import of dask_jobqueue replaces them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


@contextlib.contextmanager
def _blocked(numbers: set[signal.Signals]) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        # multiprocessing would start its tracker with the first process, and then unblock SIGINT and SIGTERM.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_SETMASK, before | numbers)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
