"""Runs on a Prefect server whose process is dead.

A process that dies reports nothing to Prefect: its flow runs and task runs would stay Running. Here they are brought to
Crashed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
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
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Completed, Crashed

from s2sr_core import stopping

logger = logging.getLogger("s2sr_core.flow")

ORPHANED = "the process of this run is gone; the next run in its work_dir continues where it stopped"
#: Seconds within which the server learns of ended task runs by itself, once it is back.
_SETTLING = 20.0
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
    return _end(chosen, Crashed(message=message)) if ids else 0


def end_task_runs_of(flow_run_id: UUID) -> int:
    """Bring every unfinished task run of a flow run whose process is gone to Crashed; returns how many."""
    chosen = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run_id]), state=_UNFINISHED)
    return _end(chosen, Crashed(message=ORPHANED))


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
    return _end(unfinished, Completed(message="the server did not hear of its end"))


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


def end_all_flow_runs(client: SyncPrefectClient) -> int:
    """End every flow run that seems to run, on a server whose workers are all gone; returns how many."""
    chosen = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_HAS_PROCESS)))
    count = 0
    while flow_runs := client.read_flow_runs(flow_run_filter=chosen, limit=_PAGE):
        for flow_run in flow_runs:
            end_flow_run(client, flow_run.id)
        count += len(flow_runs)
    return count


def _end(chosen: TaskRunFilter, state: State) -> int:
    count = 0
    try:
        with get_client(sync_client=True) as client:
            while page := client.read_task_runs(task_run_filter=chosen, limit=_PAGE):
                for task_run in page:
                    client.set_task_run_state(task_run.id, state, force=True)
                count += len(page)
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        logger.warning("task runs of lost units keep their state in Prefect: %s", error)
    return count
