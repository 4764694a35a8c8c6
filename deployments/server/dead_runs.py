"""Bringing to an end, on a Prefect server, what a dead process left there as if it still ran."""

from __future__ import annotations

from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from deployments.server.orphans import settle_all

GONE = "the process of this run is gone; the next run on its work_dir goes on where it stopped"
#: What only a process can be in.
_ALIVE = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
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
    settle_all(flow_run_id, GONE)
    try:
        dead = client.read_flow_run(flow_run_id)
    except ObjectNotFound:
        return
    if dead.state is not None and not dead.state.is_final():
        client.set_flow_run_state(flow_run_id, Crashed(message=GONE), force=True)
