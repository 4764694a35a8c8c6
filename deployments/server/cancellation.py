"""A flow run that somebody cancels or pauses in Prefect: a request to stop for the process that runs it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.exceptions import Pause, PrefectException
from prefect.states import Failed, Suspended

from deployments.process.signals import STARTED_BY_PREFECT
from deployments.server.outage import note_outage
from s2sr_core import stopping
from s2sr_core.stopping import Reason, StoppedError

#: Seconds between queries of the flow run's state.
_QUERY_INTERVAL = 3.0


class RunCancelledError(Exception):
    """Somebody cancelled the flow run in the UI or through the API."""


class RunPausedError(Exception):
    """Somebody paused the flow run in the UI or through the API; ``state`` is what the server has now."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.state = state


@contextlib.contextmanager
def requests_of_server() -> Iterator[None]:
    """Within the block, cancelling or pausing this flow run in the UI or through the API is a request to stop.

    Prefect's own runner ends the runs that it starts if they are cancelled; a run from a command line has no runner.

    Raises
    ------
    RunCancelledError, RunPausedError
        In place of the ``StoppedError`` that left the block, or of the ``Pause`` that Prefect raises in tasks.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        yield
        return
    watch = Watch(context.flow_run.id)
    threading.Thread(target=watch.run, name="requests", daemon=True).start()
    try:
        yield
    except StoppedError as error:
        reason = stopping.requested()
        if reason is Reason.CANCELLED:
            raise RunCancelledError("cancelled; what is complete is kept") from error
        if reason is Reason.PAUSED:
            raise RunPausedError(watch.states[0]) from error
        raise
    except Pause as pause:
        raise RunPausedError(pause.state or Suspended()) from pause
    finally:
        watch.end()
        stopping.withdraw(Reason.CANCELLED)
        stopping.withdraw(Reason.PAUSED)


class Watch:
    """Queries the state of a flow run until it means a request, or until the watch ends.

    Attributes
    ----------
    states: the state that meant a request, once there is one.
    """

    def __init__(self, flow_run_id: UUID) -> None:
        self.states: list[State] = []
        self._flow_run_id = flow_run_id
        self._has_runner = STARTED_BY_PREFECT in os.environ
        self._ended, self._lock = threading.Event(), threading.Lock()

    def run(self) -> None:
        with get_client(sync_client=True) as client:
            while not self.states and not self._ended.wait(_QUERY_INTERVAL):
                state = _state(client, self._flow_run_id)
                if state is None:
                    note_outage()
                elif (reason := self._reason(state)) is not None:
                    with self._lock:
                        if not self._ended.is_set():
                            self.states.append(state)
                            stopping.request(reason)

    def end(self) -> None:
        """There are no more requests after this; a query that is under way is not waited for."""
        with self._lock:
            self._ended.set()

    def _reason(self, state: State) -> Reason | None:
        if state.is_paused() or state.is_scheduled():  # scheduled: it was resumed before this process saw the pause
            return Reason.PAUSED
        if (state.is_cancelling() or state.is_cancelled()) and not self._has_runner:
            return Reason.CANCELLED
        return None


def wait_while_paused(paused: RunPausedError) -> State:
    """What follows a pause: the state that the flow run has next, if this process is to wait for it.

    A run of a deployment is started again by a worker, so its process ends; whoever holds the button or the API may not
    have asked for that, and the state then is made one that Prefect schedules again.

    Raises
    ------
    Pause
        If the process is to end now.
    StoppedError
        If it shall stop while it waits.
    """
    flow_run = flow_run_of_context()
    details = paused.state.state_details
    with get_client(sync_client=True) as client:
        if flow_run.deployment_id is not None or paused.state.name == "Suspended":
            if paused.state.is_paused() and not details.pause_reschedule and flow_run.deployment_id is not None:
                suspended: State = Suspended(pause_key=details.pause_key, pause_expiration_time=details.pause_timeout)
                client.set_flow_run_state(flow_run.id, suspended, force=True)
            raise Pause(state=paused.state) from paused
        while True:
            state: State = _state(client, flow_run.id) or paused.state
            if not state.is_paused():
                return state
            if details.pause_timeout is not None and details.pause_timeout.timestamp() < time.time():
                return Failed(message="the run was paused, and not resumed in time; the next run continues")
            stopping.pause(_QUERY_INTERVAL)


def flow_run_of_context() -> FlowRun:
    """The flow run whose body this is."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("called outside of a flow run")
    return context.flow_run


def _state(client: SyncPrefectClient, flow_run_id: UUID) -> State | None:
    """The state of the flow run; None if the server does not answer."""
    try:
        return client.read_flow_run(flow_run_id).state
    except (httpx.HTTPError, PrefectException):
        return None
