"""The process of a run that Python code asked for: see :mod:`s2sr.own_process`, which starts it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

from flows.run_here import run_here
from s2sr_core.command_line import EXIT_DONE, EXIT_FAILURES, EXIT_SIGNAL
from s2sr_core.errors import S2SRError
from s2sr_core.progress import progress_shown_by
from s2sr_core.signals import Leaving, exit_now, received, signals_heard


def main() -> int:
    """Receive the parameters, run, and send the summary, or the error that a user can do something about."""
    connection = Connection(int(sys.argv[1]))
    os.set_inheritable(connection.fileno(), False)  # noqa: FBT003
    has_display = sys.argv[2] == "1"
    parameters = connection.recv()
    sending = threading.Lock()

    def send(message: Any) -> None:
        with sending:
            connection.send(message)

    def show(title: str, done: int, total: int | None) -> None:
        send((title, done, total))

    with signals_heard(), ExitStack() as held:
        threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
        if has_display:
            held.enter_context(progress_shown_by(show))
        try:
            send(run_here(parameters))
        except S2SRError as error:
            send(error)
            return EXIT_FAILURES
        except KeyboardInterrupt:
            return EXIT_SIGNAL + (received() or signal.SIGINT)
    return EXIT_DONE


def _end_with_parent(connection: Connection) -> None:
    """Stop the run when nobody is left who waits for it."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    leaving = Leaving()
    code = main()
    if code > EXIT_SIGNAL:
        exit_now(code)  # a thread may still be in a read
    leaving.with_code(code)
    raise SystemExit(code)
