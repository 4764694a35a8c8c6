"""SIGINT, SIGTERM and SIGHUP become a request to stop, wherever the process happens to be.

A handler that raises does so between any two instructions, also where exceptions are dropped: in a callback of the
garbage collector, or in a compiled library. So Python's C code notes each signal in a socket, whichever handler there
is, and a thread reads that. A run, which looks for requests, has handlers that do nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

from s2sr_core import stopping
from s2sr_core.stopping import Reason

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds after a first signal in which no SIGINT is taken for a second Ctrl-C: ``timeout`` and others send some twice.
_TWICE = 0.5

_received: signal.Signals | None = None
_is_listening = False


def received() -> signal.Signals | None:
    """The first signal that asked the process to stop, within :func:`signals_heard`."""
    return _received


@contextlib.contextmanager
def signals_heard(
    at_once: Callable[[], None] = lambda: None, *, keep: tuple[signal.Signals, ...] = ()
) -> Iterator[None]:
    """Within the block, a signal that ends programs is a request to stop; the first also raises a KeyboardInterrupt.

    After a second Ctrl-C all processes that this one started are killed, ``at_once`` is called, and the process exits,
    whatever it is doing. SIGHUP stays ignored if it is (``nohup``), and the handlers of signals in ``keep`` stay: the
    request comes in addition. In a thread other than the main one, and inside another such block, nothing changes.
    """
    global _is_listening, _received
    if _is_listening or threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, written = socket.socketpair()
    written.settimeout(0)
    numbers = [number for number in STOPS if number not in keep]
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN and signal.SIGHUP in numbers:
        numbers.remove(signal.SIGHUP)
    _is_listening, _received = True, None
    before = {number: signal.signal(number, _raise_once) for number in numbers}
    wakeup = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    listener = threading.Thread(target=_listen, args=(heard, at_once), name="signals", daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        written.send(b"\0")
        listener.join()
        heard.close()
        written.close()
        stopping.withdraw(Reason.SIGNAL)
        _is_listening, _received = False, None


@contextlib.contextmanager
def handlers_kept_quiet(*, keep: tuple[signal.Signals, ...] = ()) -> Iterator[None]:
    """Within :func:`signals_heard`, for work that looks for requests to stop: no handler raises anything in the block.

    That includes handlers of libraries: Prefect lets SIGTERM raise an exception while a flow runs.
    """
    if not _is_listening or threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in STOPS if number not in keep and signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _do_nothing) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _do_nothing(_number: int, _frame: object) -> None:
    """The socket has it."""


def _raise_once(first: int, _frame: object) -> None:
    global _received
    _received = _received or signal.Signals(first)  # the thread may not have read it yet
    for number in STOPS:
        if signal.getsignal(number) is _raise_once:
            signal.signal(number, _do_nothing)  # the ending is not cut short
    raise KeyboardInterrupt


def _listen(heard: socket.socket, at_once: Callable[[], None]) -> None:
    global _received
    first: float | None = None
    while (number := heard.recv(1)) != b"\0":
        if number[0] not in STOPS:
            continue
        if first is None:
            first, _received = time.monotonic(), _received or signal.Signals(number[0])
            stopping.request(Reason.SIGNAL)
        elif number[0] == signal.SIGINT and time.monotonic() - first > _TWICE:
            kill_descendants()
            at_once()
            exit_now(128 + (_received or signal.SIGINT))


def kill_descendants() -> None:
    """Kill every process that this one started, and what those started."""
    import psutil

    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()


class Leaving:
    """The end of a program that has imported a thousand modules: to take all of them apart takes seconds.

    Made before anything else registers what is to be done at the end, so that all of that is done first. Does nothing
    unless :meth:`with_code` is called, nor in a copy of this process.
    """

    def __init__(self) -> None:
        self._code: int | None = None
        self._process = os.getpid()
        atexit.register(self._leave)

    def with_code(self, code: int) -> None:
        """The process ends with ``code`` as soon as the last function of :mod:`atexit` has returned."""
        self._code = code

    def _leave(self) -> None:
        if self._code is not None and os.getpid() == self._process:
            exit_now(self._code)


def exit_now(code: int) -> None:
    """Exit without waiting for threads, which may be in a read that nobody can interrupt."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
