"""Ctrl-C belongs to the program: its children do not see it, and its tidying up is not cut short by it."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back in this thread until the block ends.

    Threads and processes that are started within inherit the mask and keep it: a terminal sends its SIGINT to every
    process of a command, and servers and workers would die of it noisily while the program still needs them.
    Servers and workers are ended by other means; those that must follow SIGTERM are to be started within
    :func:`ctrl_c_held`.
    """
    with _held({signal.SIGINT, signal.SIGTERM}):
        yield


@contextlib.contextmanager
def ctrl_c_held() -> Iterator[None]:
    """As :func:`interrupts_held`, for SIGINT alone."""
    with _held({signal.SIGINT}):
        yield


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Put the handlers of SIGINT and SIGTERM back that an import within the block replaces, as dask_jobqueue's does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


@contextlib.contextmanager
def _held(numbers: set[signal.Signals]) -> Iterator[None]:
    resource_tracker.ensure_running()  # else multiprocessing starts it with the first process, and unblocks both then
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
