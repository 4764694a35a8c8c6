"""The log messages of the core: in the log file of this process, and in the tab Logs of the run's page."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator

from prefect.exceptions import MissingContextError
from prefect.logging.handlers import APILogHandler

from s2sr_core.logs import logged_to
from s2sr_core.run_context import RunContext

_core = logging.getLogger("s2sr_core")


class _RunPage(APILogHandler):
    """Sends messages to the flow or task run in which they were logged; drops those from outside a run."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        if not isinstance(sys.exception(), MissingContextError):
            super().handleError(record)


class _Shown:
    """One handler of the process, however many tasks run in it at once."""

    def __init__(self) -> None:
        self._lock, self._users, self._handler = threading.Lock(), 0, _RunPage()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        with self._lock:
            self._users += 1
            if self._users == 1:
                _core.addHandler(self._handler)
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    _core.removeHandler(self._handler)


_page = _Shown()


@contextlib.contextmanager
def logged(context: RunContext) -> Iterator[None]:
    """While the block runs, messages of ``s2sr_core`` are in the rank's log file and on the page of the run."""
    with logged_to(context.workspace.log(context.rank)), _page.shown():
        yield
