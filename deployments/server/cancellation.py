"""Ending a flow run that was started from a command line, when somebody cancels it in Prefect."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException

#: Seconds between queries whether the run has been cancelled.
_QUERY_INTERVAL = 3.0


class RunCancelledError(Exception):
    """Somebody cancelled the flow run in the UI or through the API."""


@contextlib.contextmanager
def cancelled_by_api() -> Iterator[None]:
    """End the block when somebody cancels this flow run in the UI or through the API.

    Prefect's own runner does that for the runs that it starts; a run from a command line has no runner.

    Raises
    ------
    RunCancelledError
        If that happened.
    """
    context = FlowRunContext.get()
    if (
        context is None
        or context.flow_run is None
        or "PREFECT__FLOW_RUN_ID" in os.environ
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return
    ended, cancelled = threading.Event(), threading.Event()
    watcher = threading.Thread(
        target=_interrupt_when_cancelled, args=(context.flow_run.id, ended, cancelled), name="cancelled", daemon=True
    )
    watcher.start()
    try:
        yield
    except KeyboardInterrupt as error:
        if cancelled.is_set():
            raise RunCancelledError("cancelled; what is complete is kept") from error
        raise
    finally:
        ended.set()


def _interrupt_when_cancelled(flow_run_id: UUID, ended: threading.Event, cancelled: threading.Event) -> None:
    with get_client(sync_client=True) as client:
        while not ended.wait(_QUERY_INTERVAL):
            try:
                state = client.read_flow_run(flow_run_id).state
            except (httpx.HTTPError, PrefectException):
                continue
            if state is not None and (state.is_cancelling() or state.is_cancelled()) and not ended.is_set():
                cancelled.set()
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return
