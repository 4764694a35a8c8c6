"""Copies of this process, which need not import again what it has imported."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Iterator

from s2sr_core.account import forget_account
from s2sr_core.signals import STOPS

_STDERR = 2


def copy_of_this_process(body: Callable[[], object], *, keeping: Collection[int] = ()) -> int:
    """Run ``body`` in a copy of this process, which ends with it; returns the number of the new process.

    Only for a process of this program, before it starts threads that hold anything: a copy has none of them. The copy
    is like a new program: it hears signals as one, of this process's files it has only the standard ones and
    ``keeping``, and nothing of the account is in its environment.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        gc.freeze()  # to look for garbage in what it shares would copy it
        signal.set_wakeup_fd(-1)
        for stop in STOPS:
            if signal.getsignal(stop) != signal.SIG_IGN:
                signal.signal(stop, signal.default_int_handler if stop == signal.SIGINT else signal.SIG_DFL)
        forget_account()
        _let_go(keeping)
        body()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001  # there is nobody to raise it to
        traceback.print_exc()
    finally:
        os._exit(code)


def _let_go(keeping: Collection[int]) -> None:
    """Put /dev/null in the place of files, so that whoever still has the number of one closes nothing else."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208  # plain numbers
        if number > _STDERR and number != nothing and number not in keeping:
            with contextlib.suppress(OSError):  # what listed them is closed by now
                os.fstat(number)
                os.dup2(nothing, number, inheritable=False)
    os.close(nothing)


@contextlib.contextmanager
def imports_uncollected() -> Iterator[None]:
    """No garbage is looked for in the block, which imports; what it leaves is never looked through again.

    What is imported stays. To look through it again and again takes more than a third of the time of large imports.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
