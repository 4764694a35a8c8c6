"""A run as a process of its own.

So it does not matter whose process asks for it: a script without ``if __name__ == "__main__"``, a notebook with its
event loop, one of several threads. Dask's workers import the main module of the process that starts them, Prefect's
settings are environment variables, and signals belong to main threads.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

from deployments.server.quiet import QUIET_PREFECT
from s2sr.progress import progress_display
from s2sr_core.errors import RunError, S2SRError
from s2sr_core.import_path import environment_of_child
from s2sr_core.outputs.summary import Summary
from s2sr_core.parameters import RunParameters
from s2sr_core.progress import Show

#: Bytes of output that are passed on at once.
_CHUNK = 1 << 16


def run_in_own_process(parameters: RunParameters) -> Summary:
    """Run the pipeline in a process of its own, show its progress, and wait for its end.

    It stops if this process ends, and on Ctrl-C (in a notebook: interrupt), as the command line does.

    Raises
    ------
    InputError, RunError
        As :func:`flows.run_here.run_here`.
    KeyboardInterrupt
        After the run has stopped.
    """
    with progress_display() as show, _started(show is not None) as (process, connection, output):
        connection.send(parameters)
        answer = _followed(process, connection, output, show)
    if isinstance(answer, S2SRError):
        raise answer
    if not isinstance(answer, Summary):
        raise RunError(f"the process of the run ended with exit code {process.returncode}; see what it printed")
    return answer


@contextmanager
def _started(has_display: bool) -> Iterator[tuple[subprocess.Popen[bytes], Connection, int | None]]:
    """The process, a connection to it, and a file that its output can be read from (None: it writes to a terminal)."""
    here, there = Pipe()
    output, written = (None, _terminal()) if not has_display and _terminal() is not None else os.pipe()
    try:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-P", "-m", "s2sr.child", str(there.fileno()), str(int(has_display))],
            env={**QUIET_PREFECT, **environment_of_child()},
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            pass_fds=[there.fileno()],
            start_new_session=True,  # a terminal's Ctrl-C comes by way of this process, once
        )
    finally:
        there.close()
        if output is not None and written is not None:
            os.close(written)
    try:
        yield process, here, output
    finally:
        here.close()  # which the process takes for a request to stop
        process.wait()
        if output is not None:
            os.close(output)


def _terminal() -> int | None:
    """The file descriptor of stderr, if somebody looks at it in a terminal."""
    try:
        return sys.stderr.fileno() if sys.stderr.isatty() else None
    except (AttributeError, OSError, ValueError):  # not a real file: of a notebook, a test, a graphical program
        return None


def _followed(
    process: subprocess.Popen[bytes], connection: Connection, output: int | None, show: Show | None
) -> object:
    """What the process answers in the end; None if it ends without an answer."""
    answer: object = None
    interrupted = False
    reading: list[Connection | int] = [connection] if output is None else [connection, output]
    while reading:
        try:
            for ready in wait(reading):
                if ready is connection:
                    try:
                        answer = connection.recv()
                    except EOFError:
                        reading.remove(connection)
                        continue
                    if isinstance(answer, tuple) and show is not None:
                        show(*answer)
                elif isinstance(ready, int):
                    if text := os.read(ready, _CHUNK):
                        print(text.decode(errors="replace"), end="", file=sys.stderr, flush=True)
                    else:
                        reading.remove(ready)
        except KeyboardInterrupt:
            interrupted = True
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
    if interrupted:
        raise KeyboardInterrupt
    return answer
