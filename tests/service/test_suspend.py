"""Suspend, Pause and Resume, as the button and the REST API ask for them, of runs of a deployment and of a command."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import psutil
import pytest
from support.serving import PATIENCE, Service, until

from s2sr_core.workspace import Workspace

#: What the button Suspend sends, with the end of the pause that its dialogue offers.
BUTTON = {
    "type": "PAUSED",
    "name": "Suspended",
    "state_details": {
        "pause_timeout": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        "pause_reschedule": True,
    },
}
#: What ``prefect.flow_runs.pause_flow_run`` and a plain request over REST send.
PAUSE = {"type": "PAUSED", "name": "Paused"}
UNFINISHED = ("RUNNING", "PENDING")


class Api:
    """Of a server that one flow run is on."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._client.post(path, json=body).raise_for_status().json()

    def state(self, flow_run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._client.get(f"/flow_runs/{flow_run_id}").raise_for_status().json()["state"]
        return found

    def task_runs(self, flow_run_id: str, *states: str) -> list[dict[str, Any]]:
        body = {"flow_runs": {"id": {"any_": [flow_run_id]}}, "limit": 200}
        return [run for run in self.post("/task_runs/filter", body) if not states or run["state_type"] in states]


def is_free(work_dir: Path) -> bool:
    """Whether nobody holds the folder: a process of its own tries to."""
    words = "import sys; from pathlib import Path; from s2sr_core.workspace import Workspace\n"
    words += "with Workspace(Path(sys.argv[1])).opened(): pass"
    done = subprocess.run([sys.executable, "-P", "-c", words, str(work_dir)], capture_output=True, check=False)
    return done.returncode == 0


def slots(service: Service) -> int:
    """How many runs hold the download slot."""
    return int(service.get("/v2/concurrency_limits/cdse")["active_slots"])


@pytest.mark.long
@pytest.mark.parametrize("asked", [BUTTON, PAUSE], ids=["button", "REST"])
def test_a_suspended_run_of_a_deployment_gives_everything_back_and_is_resumed(
    service: Service, asked: dict[str, Any]
) -> None:
    here = Workspace(service.folder / "service" / "runs" / f"suspended-{asked['name']}")
    api = Api(service.api)
    until(lambda: slots(service) == 0)
    flow_run_id = service.trigger("s2sr-pipeline/local", work_dir=str(here.work_dir))
    until(lambda: slots(service) == 1 and api.task_runs(flow_run_id, "COMPLETED"), PATIENCE)
    process = service.member(json.loads(here.flow_run.read_text())["process"])
    answer = api.post(f"/flow_runs/{flow_run_id}/set_state", {"state": asked, "force": True})
    assert answer["status"] == "ACCEPT"
    until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)

    until(lambda: slots(service) == 0)
    assert is_free(here.work_dir)
    assert api.state(flow_run_id)["type"] == "PAUSED"
    until(lambda: not api.task_runs(flow_run_id, *UNFINISHED))
    count = len(api.task_runs(flow_run_id))
    other = service.ended(service.trigger("s2sr-pipeline/local", work_dir=str(here.work_dir), stage="query"))
    assert other["type"] == "COMPLETED"  # with the folder
    assert len(api.task_runs(flow_run_id)) == count
    assert api.state(flow_run_id)["type"] == "PAUSED"

    assert api.post(f"/flow_runs/{flow_run_id}/resume", {})["status"] == "ACCEPT"
    state = service.ended(flow_run_id)
    assert state["name"] == "Completed", state["message"]
    assert len(pd.read_csv(here.composite_index)) == 12
    assert not api.task_runs(flow_run_id, *UNFINISHED)
    assert slots(service) == 0
