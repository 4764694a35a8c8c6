"""Runs on a Prefect server whose process is dead.

A process that dies reports nothing to Prefect: its flow runs and task runs would stay Running. Here they are brought to
Crashed.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
    TaskRunFilterId,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Completed, Crashed

from deployments.server.run_server import is_server_of_run
from s2sr_core import stopping
from s2sr_core.stopping import Reason

logger = logging.getLogger("s2sr_core.flow")

ORPHANED = "the process of this run is gone; the next run in its work_dir continues where it stopped"
#: Seconds within which the server learns of ended task runs by itself, once it is back.
_SETTLING = 20.0
#: Seconds without an unfinished task run after which the server is taken to have heard of all of them, and between
#: looks; seconds that this process may take to tell what it knows.
_QUIET, _LOOK, _TELLING = 2.0, 0.5, 5.0
#: Runs that one request asks for.
_PAGE = 200
#: States that a flow run can have only while it has a process.
_HAS_PROCESS = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
_UNFINISHED = TaskRunFilterState(
    type=TaskRunFilterStateType(
        any_=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING]
    )
)


def end_task_runs(task_run_ids: Iterable[UUID], message: str) -> int:
    """Bring these task runs to Crashed if the server knows them and they have not ended; returns how many.

    For a flow run that continues, when it is known that no worker will report on these. If the server does not answer,
    that is logged and is not an error: its records show the work, they are not the work.
    """
    ids = list(task_run_ids)
    chosen = TaskRunFilter(id=TaskRunFilterId(any_=ids), state=_UNFINISHED)
    return (_end(chosen, Crashed(message=message)) or 0) if ids else 0


def end_task_runs_of(flow_run_id: UUID) -> int:
    """Bring every unfinished task run of a flow run whose process is gone to Crashed; returns how many."""
    chosen = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run_id]), state=_UNFINISHED)
    return _end(chosen, Crashed(message=ORPHANED)) or 0


@contextlib.contextmanager
def task_runs_ended(flow_run_id: UUID) -> Iterator[threading.Event]:
    """If an error leaves the block, or a request to stop, no task run of the flow run stays Pending or Running.

    Workers and threads must have ended by then. The server hears of task runs late, through a queue, also of some that
    never began: it is asked until nothing new comes. A server that ends with this process is not asked.

    Gives an event to set before the first unit of work is submitted. After an error without it there is nothing to wait
    for: the task runs of the flow's own thread report their ends themselves.
    """
    began = threading.Event()
    try:
        yield began
    except BaseException as error:
        if isinstance(error, Exception) and not began.is_set():
            raise
        if stopping.requested() is Reason.SIGNAL and is_server_of_run():
            raise
        EventsWorker.drain_all(timeout=_TELLING, at_exit=False)
        deadline, quiet = time.monotonic() + _SETTLING, time.monotonic() + _QUIET
        chosen = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run_id]), state=_UNFINISHED)
        while (now := time.monotonic()) < min(deadline, quiet):
            if (ended := _end(chosen, Crashed(message="the run ended before this unit did"))) is None:
                break
            if ended:
                quiet = now + _QUIET
            time.sleep(_LOOK)  # not a pause of `stopping`: the process may have been asked to stop
        raise


def settle_task_runs(flow_run_id: UUID) -> int:
    """Complete the task runs of whose end the server does not hear; returns how many.

    It was away, or a worker was removed before it had told.

    For a flow run that has the results of all its task runs. What the server still learns by itself is waited for.
    """
    unfinished = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run_id]), state=_UNFINISHED)
    deadline = time.monotonic() + _SETTLING
    with get_client(sync_client=True) as client:
        while client.read_task_runs(task_run_filter=unfinished, limit=1) and time.monotonic() < deadline:
            stopping.pause(1.0)
    return _end(unfinished, Completed(message="the server did not hear of its end")) or 0


def end_flow_run(client: SyncPrefectClient, flow_run_id: UUID) -> None:
    """Bring a flow run whose process is gone, and its task runs, to Crashed if they have not ended.

    A server that does not know the flow run is not an error.
    """
    end_task_runs_of(flow_run_id)
    try:
        orphan = client.read_flow_run(flow_run_id)
    except ObjectNotFound:
        return
    if orphan.state is not None and not orphan.state.is_final():
        client.set_flow_run_state(flow_run_id, Crashed(message=ORPHANED), force=True)


def end_task_runs_of_crashed_runs() -> int:
    """Bring every unfinished task run of flow runs that have crashed to Crashed; returns how many.

    For a server on which nobody else does so: a worker that reports a dead process knows nothing of its task runs.
    """
    chosen = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CRASHED])))
    return _end(TaskRunFilter(state=_UNFINISHED), Crashed(message=ORPHANED), chosen) or 0


def end_all_flow_runs(client: SyncPrefectClient) -> int:
    """End every flow run that seems to run, on a server whose workers are all gone; returns how many."""
    chosen = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_HAS_PROCESS)))
    count = 0
    while flow_runs := client.read_flow_runs(flow_run_filter=chosen, limit=_PAGE):
        for flow_run in flow_runs:
            end_flow_run(client, flow_run.id)
        count += len(flow_runs)
    return count


def _end(chosen: TaskRunFilter, state: State, of: FlowRunFilter | None = None) -> int | None:
    """Bring task runs to ``state``; returns how many, None if the server does not answer."""
    count = 0
    try:
        with get_client(sync_client=True) as client:
            while page := client.read_task_runs(flow_run_filter=of, task_run_filter=chosen, limit=_PAGE):
                for task_run in page:
                    client.set_task_run_state(task_run.id, state, force=True)
                count += len(page)
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        logger.warning("task runs of lost units keep their state in Prefect: %s", error)
        return None
    return count
