"""Task runs that nobody will finish: a worker that dies tells Prefect nothing, and its record would stay Running."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    TaskRunFilter,
    TaskRunFilterFlowRunId,
    TaskRunFilterId,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.exceptions import PrefectException
from prefect.states import Crashed

logger = logging.getLogger("s2sr_core.flow")

_PAGE = 200
#: Seconds between questions whether the run has been cancelled.
_ASK = 3.0
_UNFINISHED = TaskRunFilterState(
    type=TaskRunFilterStateType(
        any_=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]
    )
)


def settle(task_run_ids: Iterable[UUID], message: str) -> int:
    """Bring these task runs to Crashed, as far as the server knows them and they have not ended; returns how many.

    For a run that is going on, when it is known that no worker will report on them. A server that does not answer is
    logged: its records are a view of the work, not the work.
    """
    ids = list(task_run_ids)
    return _settle(TaskRunFilter(id=TaskRunFilterId(any_=ids), state=_UNFINISHED), message) if ids else 0


def settle_all(flow_run_id: UUID, message: str) -> int:
    """Bring every task run of a flow run whose process is gone to Crashed; returns how many there were."""
    chosen = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run_id]), state=_UNFINISHED)
    return _settle(chosen, message)


def _settle(chosen: TaskRunFilter, message: str) -> int:
    settled = 0
    try:
        with get_client(sync_client=True) as client:
            while page := client.read_task_runs(task_run_filter=chosen, limit=_PAGE):
                for task_run in page:
                    client.set_task_run_state(task_run.id, Crashed(message=message), force=True)
                settled += len(page)
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        logger.warning("task runs of lost units keep their state in Prefect: %s", error)
    return settled


class RunCancelledError(Exception):
    """Somebody cancelled the flow run in the UI or by the API."""


@contextlib.contextmanager
def cancelled_by_api() -> Iterator[None]:
    """End the block when somebody cancels this flow run in the UI or by the API.

    Prefect's own runner does that for the runs it started; a run from a command line has nobody else to do it.

    Raises
    ------
    RunCancelledError
        Where that happened.
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
        while not ended.wait(_ASK):
            try:
                state = client.read_flow_run(flow_run_id).state
            except (httpx.HTTPError, PrefectException):
                continue
            if state is not None and (state.is_cancelling() or state.is_cancelled()) and not ended.is_set():
                cancelled.set()
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return
