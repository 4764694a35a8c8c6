"""Waiting for a state, never for a time: the one place where tests sleep."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds that a state may take to come about: generous, because no test is about speed, and below a test's time limit.
DEADLINE = 240.0
_INTERVAL = 0.1


def until[Value](
    condition: Callable[[], Value], deadline: float = DEADLINE, *, what: str = "the state waited for"
) -> Value:
    """Call ``condition`` until it returns something true, and return that; fail after ``deadline`` seconds.

    A ``condition`` that raises ends the wait at once: this is how it says that there is nothing left to wait for,
    because a process has ended, for example.
    """
    ends = time.monotonic() + deadline
    while not (value := condition()):
        assert time.monotonic() < ends, f"{what} did not come about within {deadline:g} s"
        time.sleep(_INTERVAL)
    return value
