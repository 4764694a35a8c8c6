"""The record, in a work folder, of the flow run that works there: if its process dies, the next run cleans up."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from deployments.clusters.job_record import remove_jobs
from deployments.server.orphans import end_flow_run, end_task_runs_of
from s2sr_core import stopping
from s2sr_core.errors import InputError
from s2sr_core.files import read_record, write_record
from s2sr_core.run_context import RunContext
from s2sr_core.workspace import Workspace

#: Seconds that the process of a run that was paused may take to end, and between looks at the folder's lock.
_LAST_PROCESS, _PAUSE = 120.0, 1.0


@contextlib.contextmanager
def opened_again(workspace: Workspace) -> Iterator[None]:
    """The work folder, opened; a flow run that is resumed or tried again first waits until its last process is gone.

    Raises
    ------
    InputError
        As :meth:`Workspace.opened`.
    """
    deadline = time.monotonic() + (_LAST_PROCESS if flow_run.run_count > 1 else 0.0)
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(workspace.opened())
                break
            except InputError:
                if time.monotonic() > deadline:
                    raise
                stopping.pause(_PAUSE)
        yield


@contextlib.contextmanager
def recorded_flow_run(context: RunContext) -> Iterator[None]:
    """Record the flow run in the work folder while the block runs; first clean up what an earlier one left.

    That is its batch jobs, and its records on the server.

    The caller holds the folder's lock, so an earlier run without an end is dead. A run that is stopped from outside
    (by a signal, which is not an ``Exception``) has no end either.
    """
    workspace = context.workspace
    earlier = read_record(workspace.flow_run) or {}
    remove_jobs(workspace.work_dir)
    flow_run_id = _uuid(earlier.get("flow_run_id"))
    if str(flow_run_id) == flow_run.id:  # resumed, or run again: it is alive, its old task runs are not
        end_task_runs_of(UUID(flow_run.id))
    elif flow_run_id is not None and not earlier.get("ended"):
        _end(flow_run_id)
    record = {
        "flow_run_id": flow_run.id,
        "process": os.getpid(),
        "host": socket.gethostname(),
        "began": _now(),
        "ended": None,
        "parameters": json.loads(context.parameters.model_dump_json()),
    }
    write_record(workspace.flow_run, record)
    try:
        yield
    except Exception:
        write_record(workspace.flow_run, record | {"ended": _now()})
        raise
    write_record(workspace.flow_run, record | {"ended": _now()})


def _end(earlier: UUID) -> None:
    get_run_logger().warning("flow run %s did not end properly; its jobs and task runs are ended now", earlier)
    with get_client(sync_client=True) as client:
        end_flow_run(client, earlier)


def _uuid(text: object) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
