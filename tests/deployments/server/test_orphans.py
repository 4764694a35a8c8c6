"""Runs of dead processes, on a real Prefect server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Crashed, Pending, Running, Scheduled
from support import prefect_server as server

from deployments.server.orphans import (
    ORPHANED,
    end_all_flow_runs,
    end_flow_run,
    end_task_runs,
    end_task_runs_of,
    end_task_runs_of_crashed_runs,
)

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(scope="module")
def prefect_server() -> Iterator[None]:
    with server.prefect_server():
        yield


@flow(name="orphan")
def a_flow() -> None: ...


@task(name="unit")
def a_task() -> None: ...


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def flow_run(client: SyncPrefectClient, **states: object) -> tuple[UUID, dict[str, UUID]]:
    """A flow run that is Running as nobody runs it, with a task run in each of ``states``."""
    run = client.create_flow_run(a_flow, state=Running())
    tasks = {}
    for name, state in states.items():
        made = client.create_task_run(a_task, run.id, name, name=name, state=Pending())
        client.set_task_run_state(made.id, state, force=True)
        tasks[name] = made.id
    return run.id, tasks


def states(client: SyncPrefectClient, tasks: dict[str, UUID]) -> dict[str, str]:
    return {name: client.read_task_run(task_id).state.name for name, task_id in tasks.items()}


def test_task_runs_of_lost_units_crash_and_others_are_left_alone(client: SyncPrefectClient) -> None:
    run, tasks = flow_run(client, lost=Running(), waiting=Pending(), done=Completed(), other=Running())
    lost = [tasks["lost"], tasks["waiting"], tasks["done"], uuid4()]
    assert end_task_runs(lost, "Its worker was lost: why") == 2
    assert states(client, tasks) == {"lost": "Crashed", "waiting": "Crashed", "done": "Completed", "other": "Running"}
    assert client.read_task_run(tasks["lost"]).state.message == "Its worker was lost: why"
    assert client.read_flow_run(run).state.name == "Running"
    assert end_task_runs(lost, "again") == 0
    assert end_task_runs([], "nothing") == 0
    end_flow_run(client, run)


def test_the_flow_run_of_a_dead_process_crashes_with_its_task_runs(client: SyncPrefectClient) -> None:
    other, tasks_of_other = flow_run(client, running=Running())
    run, tasks = flow_run(client, running=Running(), scheduled=Scheduled(), done=Completed())
    end_flow_run(client, run)
    assert states(client, tasks) == {"running": "Crashed", "scheduled": "Crashed", "done": "Completed"}
    state = client.read_flow_run(run).state
    assert (state.name, state.message) == ("Crashed", ORPHANED)
    assert states(client, tasks_of_other) == {"running": "Running"}
    assert end_task_runs_of(other) == 1
    assert client.read_flow_run(other).state.name == "Running"
    end_flow_run(client, other)
    before = client.read_flow_run(run).state.timestamp
    end_flow_run(client, run)
    assert client.read_flow_run(run).state.timestamp == before
    end_flow_run(client, uuid4())  # which the server does not know


def test_every_flow_run_that_seems_to_run_is_ended_and_a_scheduled_one_is_not(client: SyncPrefectClient) -> None:
    running = [flow_run(client, unit=Running())[0] for _ in range(3)]
    scheduled = client.create_flow_run(a_flow, state=Scheduled()).id
    assert end_all_flow_runs(client) == 3
    assert {client.read_flow_run(run).state.name for run in running} == {"Crashed"}
    assert client.read_flow_run(scheduled).state.name == "Scheduled"
    assert end_all_flow_runs(client) == 0


def test_task_runs_of_runs_that_crashed_are_ended_and_those_of_others_are_not(client: SyncPrefectClient) -> None:
    crashed, tasks = flow_run(client, running=Running(), waiting=Pending(), done=Completed())
    client.set_flow_run_state(crashed, Crashed(), force=True)
    other, tasks_of_other = flow_run(client, running=Running())
    assert end_task_runs_of_crashed_runs() == 2
    assert states(client, tasks) == {"running": "Crashed", "waiting": "Crashed", "done": "Completed"}
    assert states(client, tasks_of_other) == {"running": "Running"}
    assert end_task_runs_of_crashed_runs() == 0
    end_flow_run(client, other)


def test_a_server_that_does_not_answer_is_logged_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="s2sr_core.flow")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert end_task_runs([uuid4()], "lost") == 0
    assert "task runs of lost units keep their state in Prefect" in caplog.text
