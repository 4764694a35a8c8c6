"""Whether this process shall stop: everything that waits for long looks here, and pauses only here.

A signal, or somebody who cancels the run, only sets the request; nothing is interrupted where it happens to be. Work
that can be left looks at it between its pieces.
"""

from __future__ import annotations

import threading
from enum import StrEnum


class Reason(StrEnum):
    """Who wants the process to stop, or the run in it."""

    SIGNAL = "interrupted"
    CANCELLED = "cancelled"
    PAUSED = "paused"


class StoppedError(KeyboardInterrupt):
    """The process shall stop. It is not an ``Exception``, so that it is not taken for the failure of a product."""


_requested = threading.Event()
_reason: Reason | None = None


def request(reason: Reason) -> None:
    """Ask this process to stop: whatever pauses wakes up. May be called in any thread, but not in a signal handler.

    The first reason stays.
    """
    global _reason
    if _reason is None:
        _reason = reason
    _requested.set()


def withdraw(reason: Reason) -> None:
    """Take back a request with this reason: it was meant for a run that has ended."""
    global _reason
    if _reason is reason:
        _reason = None
        _requested.clear()


def requested() -> Reason | None:
    """Why this process shall stop; None if it need not."""
    return _reason


def check() -> None:
    """Return if the process may continue.

    Raises
    ------
    StoppedError
        If it shall stop.
    """
    if _reason is not None:
        raise StoppedError(_reason)


def pause(seconds: float) -> None:
    """Sleep, in any thread; wake up at once if the process shall stop.

    Raises
    ------
    StoppedError
        If it shall stop, now or during the pause.
    """
    _requested.wait(seconds)
    check()
