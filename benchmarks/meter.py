"""What one process used, from the kernel: CPU, wall time, memory, bytes read. Uses only the standard library.

A measured program meters its own computation, without the imports before it, and prints the numbers as the last line of
its output.
"""

from __future__ import annotations

import contextlib
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def metered() -> Iterator[dict[str, float]]:
    """Meter the block; the dictionary is filled when it ends.

    ``cpu``: seconds, user and system, of this process and of children that have ended inside the block.
    ``wall``: seconds. ``peak``: the largest resident memory of this process in its life, bytes.
    ``read``: bytes that read calls returned, from a disk or from its cache.
    """
    result: dict[str, float] = {}
    cpu, read, wall = _cpu(), _read(), time.perf_counter()
    yield result
    result.update(wall=time.perf_counter() - wall, cpu=_cpu() - cpu, read=_read() - read, peak=peak())


def peak() -> int:
    """The largest resident memory of this process in its life, bytes.

    From /proc, because ``ru_maxrss`` inherits the value of the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def report(result: dict[str, Any]) -> None:
    """Hand ``result`` to the process that measures."""
    print(json.dumps(result), flush=True)


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _read() -> int:
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar"))
