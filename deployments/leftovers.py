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
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Crashed

logger = logging.getLogger("s2sr_core.flow")

_PAGE = 200
#: Seconds between questions whether the run has been cancelled.
_ASK = 3.0
_OPEN = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]


def settle(task_run_ids: Iterable[UUID], message: str) -> int:
    """Bring these task runs to Crashed, as far as the server knows them and they have not ended; returns how many.

    For a run that is going on, when it is known that no worker will report on them. A server that does not answer is
    logged: its records are a view of the work, not the work.
    """
    ids = list(task_run_ids)
    if not ids:
        return 0
    settled = 0
    try:
        with get_client(sync_client=True) as client:
            for task_run_id in ids:
                with contextlib.suppress(ObjectNotFound):
                    state = client.read_task_run(task_run_id).state
                    if state is None or not state.is_final():
                        client.set_task_run_state(task_run_id, Crashed(message=message), force=True)
                        settled += 1
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        logger.warning("%d task runs keep their state in Prefect: %s", len(ids) - settled, error)
    return settled


def settle_all(flow_run_id: UUID, message: str) -> int:
    """Bring every task run of a flow run whose process is gone to Crashed; returns how many there were."""
    with get_client(sync_client=True) as client:
        found = [task_run_id for page in _open_pages(client, flow_run_id) for task_run_id in page]
    return settle(found, message)


def _open_pages(client: SyncPrefectClient, flow_run_id: UUID) -> Iterator[list[UUID]]:
    offset = 0
    while True:
        page = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
            task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=_OPEN))),
            limit=_PAGE,
            offset=offset,
        )
        yield [task_run.id for task_run in page]
        if len(page) < _PAGE:
            return
        offset += _PAGE


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
