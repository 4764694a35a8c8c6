"""What a flow run leaves behind when its process dies, and the note in the work folder by which it is found."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, StateType
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Crashed

from s2sr_core.parameters import RunParameters
from s2sr_core.records import read_record, write_record
from s2sr_core.summary import counted
from s2sr_core.workspace import Workspace

_GONE = "the process of this run is gone; the next run on its work_dir goes on where it stopped"
_PAGE = 200


@contextlib.contextmanager
def noted(workspace: Workspace, parameters: RunParameters) -> Iterator[None]:
    """Note the flow run in the work folder while the block runs; first end what an earlier one left there.

    Whoever comes here holds the folder's lock, so an earlier run without an end is dead. A run that is stopped from
    outside (a signal is no ``Exception``) has no end either.
    """
    earlier = read_record(workspace.flow_run) or {}
    if earlier.get("flow_run_id") and not earlier.get("ended"):
        _end(UUID(earlier["flow_run_id"]))
    note = {
        "flow_run_id": flow_run.id,
        "process": os.getpid(),
        "host": socket.gethostname(),
        "began": _now(),
        "ended": None,
        "parameters": json.loads(parameters.model_dump_json()),
    }
    write_record(workspace.flow_run, note)
    try:
        yield
    except Exception:
        write_record(workspace.flow_run, note | {"ended": _now()})
        raise
    write_record(workspace.flow_run, note | {"ended": _now()})


def _end(flow_run_id: UUID) -> None:
    """Bring a dead flow run and its task runs to a terminal state, where this server knows them."""
    with get_client(sync_client=True) as client:
        ended = end_task_runs(client, flow_run_id)
        with contextlib.suppress(ObjectNotFound):
            dead = client.read_flow_run(flow_run_id)
            # The same run, started again, is alive.
            if str(flow_run_id) != flow_run.id and dead.state is not None and not dead.state.is_final():
                client.set_flow_run_state(flow_run_id, Crashed(message=_GONE), force=True)
    get_run_logger().warning("flow run %s left this folder without an end; %s ended", flow_run_id, ended)


def end_task_runs(client: SyncPrefectClient, flow_run_id: UUID) -> str:
    """Bring every task run of a dead flow run to Crashed that is in no terminal state; says how many."""
    unfinished = [state for state in StateType if state not in TERMINAL_STATES]
    count = 0
    while task_runs := client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=unfinished))),
        limit=_PAGE,
    ):
        for task_run in task_runs:
            client.set_task_run_state(task_run.id, Crashed(message=_GONE), force=True)
        count += len(task_runs)
    return counted(count, "task run")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
