"""Runs over the REST API and the command line, on a real server with a real worker."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pandas as pd
import psutil
import pytest
from support.serving import PATIENCE, ROOT, Service, until

from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.workspace import Workspace


@pytest.fixture(scope="module")
def first(service: Service) -> str:
    """A run with nothing but the defaults, as pressing Run makes one."""
    flow_run_id = service.trigger("s2sr-pipeline/local")
    state = service.ended(flow_run_id)
    assert state["name"] == "Completed", state["message"]
    return flow_run_id


def workspace(service: Service, name: str = "local") -> Workspace:
    return Workspace(service.folder / "service" / "runs" / name)


def test_everything_is_deployed_and_set_up(service: Service) -> None:
    deployments = service.post("/deployments/filter", {})
    assert {deployment["name"] for deployment in deployments} >= {
        "local", "hpc", "season-update", "make-grid", "campaign"
    }  # fmt: skip
    for deployment in deployments:
        assert deployment["description"]
        assert deployment["enforce_parameter_schema"]
    pool = service.get("/work_pools/s2sr")
    assert (pool["type"], pool["concurrency_limit"]) == ("process", 10)
    limited = {
        one["name"]: one["global_concurrency_limit"]["limit"] for one in deployments if one["global_concurrency_limit"]
    }
    assert limited == {"season-update": 1, "watch": 1}
    (limit,) = (one for one in service.post("/v2/concurrency_limits/filter", {}) if one["name"] == "cdse")
    assert (limit["limit"], limit["active"]) == (1, True)


def test_the_defaults_make_a_run_and_its_page_shows_the_result(service: Service, first: str) -> None:
    message = service.flow_run(first)["state"]["message"]
    assert message.startswith("12 composites of 4 cells from 7 scenes: 12 written, 0 kept")
    here = workspace(service)
    index = pd.read_csv(here.composite_index)
    assert len(index) == 12

    artifacts = service.artifacts(first)
    assert set(artifacts) == {
        "scl", "scl-checks", "downloads", "scenes", "composites",
        "scenes-used", "scenes-left-out", "quicklook", "valid-counts", "report",
    }  # fmt: skip
    for title, count in (("downloads", 6), ("scenes", 6), ("composites", 4)):  # one unit of each place and time
        assert artifacts[title]["type"] == "progress"
        assert artifacts[title]["data"] == 100
        assert artifacts[title]["description"] == f"{title}: {count} of {count}"
        assert artifacts[title]["updated"] > artifacts[title]["created"]
    used, left_out = (json.loads(artifacts[key]["data"]) for key in ("scenes-used", "scenes-left-out"))
    assert len(used) == 7
    assert {row["status"] for row in left_out} == {"duplicate", "twin", "filtered"} & {
        row["status"] for row in left_out
    }
    assert all(row["reason"] for row in left_out)
    for key in ("quicklook", "valid-counts"):
        (encoded,) = re.fullmatch(r"!\[[a-z-]+\]\(data:image/png;base64,([^)]+)\)", artifacts[key]["data"]).groups()
        picture = base64.b64decode(encoded)
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 500_000
    report = artifacts["report"]["data"]
    for expected in (message, '| bands | `["B02", "B03", "B04"]` |', "MB` |", str(here.composite_index), "| GDAL |"):
        assert expected in report, expected
    assert re.search(r"\| composites \| `\d+\.\d s` \|", report)
    links = dict(re.findall(r"- \[`([^`]+)`\]\((\S+)\)", report))
    assert httpx.get(links[str(here.composite_index)]).text == here.composite_index.read_text()
    assert "r1585c0303" in httpx.get(links[str(here.composites)]).text
    body = {"logs": {"flow_run_id": {"any_": [first]}}, "limit": 200}
    messages = [line["message"] for line in service.post("/logs/filter", body)]
    assert sum(bool(re.fullmatch(r"cell r\d+c\d+ B0\d: written from \d scenes", line)) for line in messages) == 12


def test_the_command_line_starts_the_same_and_nothing_is_to_do(service: Service, first: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in workspace(service).composites.rglob("*.tif")}
    done = service.prefect("deployment", "run", "s2sr-pipeline/local", "-p", "workers=1")
    flow_run_id = re.search(r"UUID: (\S+)", done.stdout)[1]
    state = service.ended(flow_run_id)
    assert state["message"].startswith("nothing to do: 12 composites of 4 cells")
    assert service.flow_run(flow_run_id)["parameters"]["workers"] == 1
    assert before == {path: path.stat().st_mtime_ns for path in workspace(service).composites.rglob("*.tif")}


def test_the_documented_curl_line_starts_a_run(service: Service, first: str) -> None:
    text = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    (block,) = (block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "create_flow_run" in block)
    done = subprocess.run(
        ["bash", "-euc", block], env=service.environment, capture_output=True, text=True, check=True, timeout=120
    )
    run = json.loads(done.stdout[done.stdout.index("{") :])
    assert service.flow_run(run["id"])["parameters"]["bands"] == ["B04"]
    assert service.ended(run["id"])["type"] == "COMPLETED"


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"workers": 0}, "workers"),
        ({"max_cloud_cover": 101}, "max_cloud_cover"),
        ({"bands": ["B09"]}, "bands"),
        ({"resampling": "lanczos"}, "resampling"),
        ({"bbox": [0, 1, 2]}, "bbox"),
        ({"min_baseline": "5"}, "min_baseline"),
        ({"start": None}, "start"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_what_the_schema_can_express_is_refused_at_once(
    service: Service, parameters: dict[str, Any], field: str
) -> None:
    deployment = service.deployment("s2sr-pipeline/local")
    answer = service.api.post(f"/deployments/{deployment['id']}/create_flow_run", json={"parameters": parameters})
    assert answer.status_code in (409, 422)
    assert field in answer.text


def test_the_command_line_refuses_a_parameter_that_there_is_not(service: Service) -> None:
    done = service.prefect("deployment", "run", "s2sr-pipeline/local", "-p", "nonsense=1", check=False)
    assert done.returncode != 0
    assert "nonsense" in done.stdout + done.stderr


CANNOT: list[tuple[str, dict[str, Any], str]] = [
    ("s2sr-pipeline/local", {"start": "2026-01-01"}, "start = '2026-01-01T00:00:00+00:00': is not before end"),
    ("s2sr-pipeline/local", {"grid_csv": "no.csv"}, "grid_csv = '{folder}/no.csv': does not exist; give the path"),
    ("s2sr-pipeline/local", {"source": "none"}, "source = 'none': does not exist; give the folder that holds"),
    ("s2sr-pipeline/local", {"start": "June"}, "start = 'June': is not an ISO 8601 time; write 2019-06-01"),
    ("season-update/season-update", {"season_start": "02-31"}, "season_start = '02-31': is not a day of the year"),
    ("campaign/campaign", {"tap": False}, "tap = 'false': gives each cell its own lattice"),
    ("campaign/campaign", {"deployment": "no/such"}, "deployment = 'no/such': is not on this server"),
    ("make-grid/make-grid", {"cell_size": 0.7}, "cell_size = '0.7': "),
]


@pytest.fixture(scope="module")
def started(service: Service) -> list[str]:
    """All of them at once."""
    return [service.trigger(deployment, **parameters) for deployment, parameters, _ in CANNOT]


@pytest.mark.parametrize("number", range(len(CANNOT)))
def test_what_it_cannot_fails_the_run_with_one_sentence(service: Service, started: list[str], number: int) -> None:
    state = service.ended(started[number])
    assert state["type"] == "FAILED"
    assert state["message"].startswith(CANNOT[number][2].format(folder=service.folder)), state["message"]
    assert "\n" not in state["message"]
    assert service.task_runs(started[number]) == []


def test_the_form_tells_everything_in_order(service: Service) -> None:
    schema = service.deployment("s2sr-pipeline/local")["parameter_openapi_schema"]
    fields = sorted(schema["properties"].items(), key=lambda item: item[1]["position"])
    names = [name for name, _ in fields]
    assert names[:5] == ["bbox", "grid_csv", "start", "end", "work_dir"] == schema["required"]
    for name, field in fields:
        assert field["description"].endswith("."), name
    shown = dict(fields)
    assert "degrees" in shown["bbox"]["description"]
    assert "degrees" in shown["tr"]["description"]
    assert "up to 5000 m" in shown["scl_dilation"]["description"]
    assert shown["bands"]["items"]["enum"][0] == "B02"
    assert shown["resampling"]["enum"] == ["bilinear", "nearest", "cubic"]
    assert (shown["download_connections"]["minimum"], shown["download_connections"]["maximum"]) == (1, 64)


def test_a_grid_is_made(service: Service) -> None:
    flow_run_id = service.trigger("make-grid/make-grid", out="service/other.csv", cell_size=0.05)
    assert service.ended(flow_run_id)["message"].startswith("12 gridcells of 0.05 degrees")
    assert len(pd.read_csv(service.folder / "service" / "other.csv")) == 12


# ---------------------------------------------------------------------------------------------------------- season


def test_the_season_is_brought_up_to_date_and_then_is(service: Service) -> None:
    flow_run_id = service.trigger("season-update/season-update")
    state = service.ended(flow_run_id)
    assert "12 written" in state["message"]
    (folder,) = (service.folder / "service" / "runs" / "season").iterdir()
    assert re.fullmatch(r"\d{4}-06-01", folder.name)
    assert f"report-season-{folder.name}" in service.artifacts(flow_run_id)
    scenes = pd.read_csv(Workspace(folder).scene_index)
    begun = datetime.fromisoformat(folder.name).replace(tzinfo=UTC)
    assert (pd.to_datetime(scenes["sensing_time"]) >= begun).all()
    assert begun <= datetime.now(UTC) < begun + timedelta(days=366)

    again = service.ended(service.trigger("season-update/season-update"))
    assert again["message"].startswith("nothing to do: 12 composites")


def test_the_nightly_update_has_runs_at_the_same_local_time_on_both_sides_of_a_clock_change(service: Service) -> None:
    deployment = service.deployment("season-update/season-update")
    (schedule,) = deployment["schedules"]
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("30 4 * * *", "America/Anchorage")
    assert schedule["active"]

    def scheduled(after: datetime, before: datetime) -> list[datetime]:
        runs = service.post(
            "/flow_runs/filter",
            {
                "deployments": {"id": {"any_": [deployment["id"]]}},
                "flow_runs": {
                    "state": {"type": {"any_": ["SCHEDULED"]}},
                    "expected_start_time": {"after_": after.isoformat(), "before_": before.isoformat()},
                },
                "sort": "EXPECTED_START_TIME_ASC",
            },
        )
        return [datetime.fromisoformat(run["expected_start_time"]) for run in runs]

    now, anchorage = datetime.now(UTC), ZoneInfo("America/Anchorage")
    until(lambda: scheduled(now, now + timedelta(days=30)))  # made by the server's own scheduler

    # Clocks go forward on the second Sunday of March, at two in the morning: from UTC−9 to UTC−8.
    second_sunday = next(day for n in range(8, 15) if (day := datetime(now.year + 1, 3, n, tzinfo=UTC)).weekday() == 6)
    span = (second_sunday - timedelta(days=1), second_sunday + timedelta(days=2))
    body = {"start_time": span[0].isoformat(), "end_time": span[1].isoformat()}
    service.post(f"/deployments/{deployment['id']}/schedule", body | {"min_runs": 3, "max_runs": 3})
    times = scheduled(*span)
    assert [time.astimezone(UTC).strftime("%H:%M") for time in times] == ["13:30", "12:30", "12:30"]
    assert [time.astimezone(anchorage).strftime("%H:%M") for time in times] == ["04:30"] * 3


# ------------------------------------------------------------------------------------------------- when things go wrong


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_cancelling_stops_the_work_and_leaves_nothing_half_written(service: Service, first: str) -> None:
    here = workspace(service, "cancelled")
    told = {"work_dir": str(here.work_dir), "source": str(workspace(service).imagery_raw)}
    flow_run_id = service.trigger("s2sr-pipeline/local", **told)
    until(lambda: files(here.tmp))
    family = len(service.family())
    service.post(f"/flow_runs/{flow_run_id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    assert service.ended(flow_run_id)["type"] == "CANCELLED"
    until(lambda: len(service.family()) < family)
    until(lambda: not [run for run in service.task_runs(flow_run_id) if run["state_type"] in ("RUNNING", "PENDING")])
    for raster in here.composites.rglob("[!.]*.tif"):  # what was under way is hidden, whatever has its name is whole
        with gdal.Open(str(raster)) as dataset:
            assert dataset.ReadAsArray().size

    state = service.ended(service.trigger("s2sr-pipeline/local", **told))
    assert state["name"] == "Completed"
    assert len(pd.read_csv(here.composite_index)) == 12


def killed(service: Service, flow_run_id: str, here: Workspace, *, before: int = 0) -> int:
    """Kill the process of a run at work, with its workers; returns its number, ``before`` is that of an earlier one."""

    def at_work() -> psutil.Process | None:
        note = json.loads(here.flow_run.read_text()) if here.flow_run.exists() else {"process": before}
        running = [run for run in service.task_runs(flow_run_id) if run["state_type"] == "RUNNING"]
        if note["process"] == before or not running:
            return None
        assert (note["flow_run_id"], note["ended"]) == (flow_run_id, None)
        return service.member(note["process"])

    process = until(at_work, PATIENCE)
    assert process is not None
    for member in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    return process.pid


@pytest.mark.long
def test_a_run_that_dies_is_run_once_more_and_after_that_the_deployment_repair_takes_it_up(
    service: Service, first: str
) -> None:
    """Its process is killed twice, and with it the only one who could have told the server of its task runs."""
    here = workspace(service, "killed")
    told = {"work_dir": str(here.work_dir), "source": str(workspace(service).imagery_raw)}
    flow_run_id = service.trigger("s2sr-pipeline/local", **told)
    process = killed(service, flow_run_id, here)
    killed(service, flow_run_id, here, before=process)
    until(lambda: service.flow_run(flow_run_id)["state_type"] == "CRASHED", PATIENCE)
    until(lambda: not {"PENDING", "RUNNING"} & {run["state_type"] for run in service.task_runs(flow_run_id)}, PATIENCE)
    repaired = service.trigger("repair/repair", work_dir=str(here.work_dir))
    state = service.ended(repaired)
    assert state["message"].startswith("12 composites of 4 cells from"), state["message"]
    ended = service.flow_run(flow_run_id)
    assert (ended["state_type"], ended["run_count"]) == ("CRASHED", 2)
    for run in (flow_run_id, repaired):
        states = {each["state_type"] for each in service.task_runs(run)}
        assert states <= {"CRASHED", "COMPLETED", "FAILED"}
    note = json.loads(here.flow_run.read_text())
    assert note["flow_run_id"] == repaired
    assert note["ended"]


def test_the_command_repairs_in_the_environment_of_the_service(service: Service, first: str) -> None:
    """With its server and the account of its sandbox, and nothing else."""
    words = [".", "service/environment.sh", "&&", sys.executable, "-m", "s2sr_pipeline", "--repair", "--stage", "query"]
    environment = {name: value for name, value in service.environment.items() if name != "PREFECT_API_URL"}
    done = subprocess.run(
        ["sh", "-c", " ".join([*words, "--work-dir", "service/runs/local"])],
        cwd=service.folder, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (service.folder / "service" / "environment.sh").stat().st_mode & 0o777 == 0o600
    note = json.loads(workspace(service).flow_run.read_text())
    assert service.flow_run(note["flow_run_id"])["state_type"] == "COMPLETED"
    assert note["parameters"]["source"] is None


def test_a_retry_shows_and_what_failed_is_told(service: Service, first: str) -> None:
    """A product without its image: phase 1 tries twice, the rest goes on, the table names it."""
    here = workspace(service, "lacking")
    archive = service.folder / "lacking"
    shutil.copytree(workspace(service).imagery_raw, archive)
    next(iter(sorted(archive.rglob("*_B04_20m.jp2")))).write_bytes(b"")
    flow_run_id = service.trigger("s2sr-pipeline/local", work_dir=str(here.work_dir), source=str(archive))
    state = service.ended(flow_run_id)
    assert (state["type"], state["name"]) == ("COMPLETED", "Completed with 1 failure")
    (failures,) = json.loads(service.artifacts(flow_run_id)["failures"]["data"])
    assert (failures["band"], failures["step"]) == ("B04", "files")
    until(lambda: [run for run in service.task_runs(flow_run_id) if run["state_type"] == "FAILED"])
    (failed,) = (run for run in service.task_runs(flow_run_id) if run["state_type"] == "FAILED")
    assert failed["run_count"] == 2


def test_composites_are_announced_by_an_event_with_a_link(service: Service, first: str) -> None:
    def published() -> list[dict[str, Any]]:
        body = {"filter": {"event": {"name": ["s2sr.composites.published"]}}}
        found = service.post("/events/filter", body)["events"]
        return [one for one in found if one["resource"]["prefect.resource.id"] == "s2sr.region.runs-local"]

    until(published)
    (event,) = published()
    assert event["payload"]["written"] == 12
    index = httpx.get(event["resource"]["s2sr.index"]).text
    assert index == workspace(service).composite_index.read_text()
    assert any(related["prefect.resource.id"] == f"prefect.flow-run.{first}" for related in event["related"])


def test_a_watch_starts_one_run_for_new_products_and_none_without(service: Service) -> None:
    watched = service.folder / "service" / "runs" / "watched"
    looks = [service.trigger("watch-products/watch")]
    one = service.ended(looks[0])
    assert re.match(
        r"\d+ new products, first S2A_MSIL2A_2019\S+: a run of s2sr-pipeline/local composites them", one["message"]
    )
    looks.append(service.trigger("watch-products/watch"))
    two = service.ended(looks[1])
    # The run that shall composite them is known; it may have done so by now.
    assert re.match(r"\d+ new products, |nothing new among 11 products$", two["message"])

    def runs() -> list[dict[str, Any]]:
        found = service.post("/flow_runs/filter", {"flows": {"name": {"any_": ["s2sr-pipeline"]}}})
        return [run for run in found if run["parameters"].get("work_dir") == str(watched)]

    (run,) = runs()
    assert "12 written" in service.ended(run["id"])["message"]
    three = service.ended(service.trigger("watch-products/watch"))
    assert three["message"] == "nothing new among 11 products"
    assert len(runs()) == 1
    assert [service.task_runs(look) for look in looks] == [[], []], "none stands for the run, which would stay Pending"


def test_somebody_is_told_when_a_run_fails_or_completes_with_failures(service: Service, first: str) -> None:
    told: list[str] = []
    archive, partly_failing = service.folder / "partly", service.folder / "service" / "runs" / "partly"
    shutil.copytree(workspace(service).imagery_raw, archive)
    next(iter(sorted(archive.rglob("*_B04_20m.jp2")))).write_bytes(b"")

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = subprocess.run(
            [sys.executable, "-m", "deployments.set_up"],
            env=service.environment | {"S2SR_NOTIFY_URL": f"http://127.0.0.1:{server.server_port}/hook"},
            capture_output=True, text=True, check=True, timeout=PATIENCE,
        )  # fmt: skip
        assert "automation" in done.stdout
        service.ended(service.trigger("s2sr-pipeline/local", grid_csv="nowhere.csv"))
        until(lambda: told)
        partly = service.trigger("s2sr-pipeline/local", work_dir=str(partly_failing), source=str(archive))
        assert service.ended(partly)["name"] == "Completed with 1 failure"
        until(lambda: len(told) > 1)
        server.shutdown()
    assert "s2sr-pipeline composite local: Failed" in told[0]
    assert "does not exist; give the path of a CSV of gridcells" in told[0]
    assert "Completed with 1 failure" in told[1]


def member_that(service: Service, does: str) -> psutil.Process | None:
    """The process of the service with these words in its command."""
    for process in service.family():
        with contextlib.suppress(psutil.Error):  # it has ended
            if does in " ".join(process.cmdline()):
                return process
    return None


def replaced(service: Service, does: str) -> None:
    """Kill a process, and wait for another in its place."""
    process = member_that(service, does)
    assert process is not None
    process.kill()
    until(lambda: (other := member_that(service, does)) is not None and other.pid != process.pid)


def test_a_server_and_a_worker_that_die_are_started_again_and_a_run_goes_on(service: Service, first: str) -> None:
    """The server dies while a run is at work. Afterwards the service runs flows as before."""
    here = workspace(service, "unserved")
    told = {"work_dir": str(here.work_dir), "source": str(workspace(service).imagery_raw)}
    flow_run_id = service.trigger("s2sr-pipeline/local", **told)
    until(lambda: files(here.tmp))
    replaced(service, "deployments.server.shared_server")
    until(service.answers)
    state = service.ended(flow_run_id)
    assert state["name"] == "Completed", state["message"]
    assert len(pd.read_csv(here.composite_index)) == 12
    until(lambda: {run["state_type"] for run in service.task_runs(flow_run_id)} == {"COMPLETED"})
    replaced(service, "prefect worker start")
    state = service.ended(service.trigger("make-grid/make-grid", out="service/after.csv"))
    assert state["type"] == "COMPLETED", state["message"]
    assert "worker died; starting it again" in service.output.read_text()
