"""The process that the workers of this machine are copies of: it imports once what all of them need.

It is multiprocessing's fork server. It has one thread and does nothing but import, and start copies of itself; it ends
with this process. In a process of the program it is itself a copy of that, which has imported most of what it needs.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import forkserver, util
from types import FrameType
from typing import TYPE_CHECKING, Any

from deployments.process.copies import copy_of_this_process
from deployments.process.signals import signals_blocked
from s2sr_core.account import account_hidden
from s2sr_core.import_path import current_folder_left_out
from s2sr_core.signals import Leaving, exit_now

if TYPE_CHECKING:
    import distributed

#: What workers need: Dask's part, which also gives them their settings, and the modules of the tasks that they run.
_MODULES = ("distributed.nanny", "tasks.composites", "tasks.scenes")
#: Seconds between looks, during the imports, whether the program is still there.
_LOOK = 0.2
#: As Dask sets them for workers before they import numpy: a worker has one thread.
_ONE_THREAD = {
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def begin_template() -> None:
    """Start it, if it does not run, and do not wait for its imports.

    Who stops a run may send SIGTERM to all its processes. Workers follow it; nannies would start this one again for
    workers that nobody needs any more, and wait for its imports.
    """
    with account_hidden(), current_folder_left_out(), signals_blocked(), _set(_ONE_THREAD):
        forkserver.set_forkserver_preload([__name__])
        forkserver.ensure_running()


def copy_template() -> None:
    """As :func:`begin_template`, as a copy of this process: see :func:`copy_of_this_process` for when."""
    with account_hidden(), signals_blocked():  # which starts the tracker of multiprocessing, a program of its own
        start = util.spawnv_passfds
        setattr(util, start.__name__, _copy)
        try:
            begin_template()
        finally:
            setattr(util, start.__name__, start)


def _copy(_executable: bytes, words: Sequence[Any], passed: Sequence[int]) -> int:
    """In place of multiprocessing's start of an interpreter: the code that it would run, in a copy."""

    def template() -> None:
        logging.getLogger("distributed").setLevel(logging.ERROR)
        _begin_copies()
        _import_modules()
        exec(words[-1], {})  # noqa: S102  # multiprocessing's own

    return copy_of_this_process(template, keeping=passed)


def _begin_copies() -> None:
    """In the template: its copies share what it imported, in which no garbage is looked for, and hear SIGTERM."""
    gc.disable()
    os.register_at_fork(before=gc.freeze, after_in_child=gc.enable)
    os.register_at_fork(after_in_child=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM}))


@contextlib.contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def dask_setup(_worker: distributed.Worker) -> None:
    """Called by Dask in a worker that starts: Prefect reads its settings again, from this run's environment."""
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()


def _import_modules() -> None:
    """Import what workers need; if the program ends before that, which may be seconds, this process ends, too."""
    program = os.getppid()

    def look(_signal: int, _frame: FrameType | None) -> None:
        if os.getppid() != program:
            exit_now(0)

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _LOOK, _LOOK)
    try:
        for module in _MODULES:
            with contextlib.suppress(ImportError):  # workers say it
                importlib.import_module(module)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


if sys.orig_argv[-1].startswith("from multiprocessing.forkserver "):  # this is the template
    Leaving().with_code(0)
    _begin_copies()
    _import_modules()
