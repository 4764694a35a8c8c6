"""Bringing to an end, on a Prefect server, what a dead process left there as if it still ran."""

from __future__ import annotations

from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

_GONE = "the process of this run is gone; the next run on its work_dir goes on where it stopped"
#: What only a process can be in, and every state that is not the last.
_ALIVE = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
_UNFINISHED = [state for state in StateType if state not in TERMINAL_STATES]
_PAGE = 200


def end_all(client: SyncPrefectClient) -> int:
    """End every flow run that seems to run; for a server whose workers are all gone. Returns how many."""
    alive = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_ALIVE)))
    count = 0
    while flow_runs := client.read_flow_runs(flow_run_filter=alive, limit=_PAGE):
        for flow_run in flow_runs:
            end_flow_run(client, flow_run.id)
        count += len(flow_runs)
    return count


def end_flow_run(client: SyncPrefectClient, flow_run_id: UUID) -> None:
    """Bring a dead flow run and its task runs to Crashed, where the server knows them and they are in no last state."""
    end_task_runs(client, flow_run_id)
    try:
        dead = client.read_flow_run(flow_run_id)
    except ObjectNotFound:
        return
    if dead.state is not None and not dead.state.is_final():
        client.set_flow_run_state(flow_run_id, Crashed(message=_GONE), force=True)


def end_task_runs(client: SyncPrefectClient, flow_run_id: UUID) -> int:
    """Bring the task runs of a dead flow run to Crashed that are in no last state. Returns how many."""
    count = 0
    while task_runs := client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=_UNFINISHED))),
        limit=_PAGE,
    ):
        for task_run in task_runs:
            client.set_task_run_state(task_run.id, Crashed(message=_GONE), force=True)
        count += len(task_runs)
    return count
