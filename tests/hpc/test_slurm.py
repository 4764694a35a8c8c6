"""The pipeline in MPI ranks inside jobs of a real Slurm, and what may happen to them."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import psutil
import pytest
import shapely
import yaml
from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterFlowRunId
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelling
from support.scenes import parameters_for, product_name, run, write_scene
from support.traps import lay_traps, trapped
from support.waiting import DEADLINE, until

from deployments.clusters.job_record import JobRecord, remove_jobs
from flows.pipeline import pipeline
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.parameters import RunParameters
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid

pytestmark = pytest.mark.usefixtures("prefect_server", "slurm_state")
PASSWORD = "correct horse battery staple"

CELLS = [
    Gridcell(f"c{column}{row}", shapely.box(west, south, west + 0.03, south + 0.012))
    for column, west in enumerate((-149.64, -149.61, -149.58))
    for row, south in enumerate((68.61, 68.622, 68.634))
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    rng, grid = np.random.default_rng(0), Grid.utm(-149.6, 68.63, 250, zone=5)
    for number in range(8):
        write_scene(folder, product_name(number), grid, rng, ("B04", "B11"))
    return folder


@pytest.fixture(scope="module")
def quiet(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The composites of a run that nothing happens to, without Prefect, Dask or MPI: bytes by file name."""
    folder = tmp_path_factory.mktemp("quiet")
    run(parameters_for(folder, archive, CELLS, bands=["B04", "B11"]))
    return composites(folder / "run")


@pytest.fixture
def parameters(
    tmp_path: Path, archive: Path, openmpi: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., RunParameters]:
    """Parameters of a run in jobs of three ranks; keywords change the site."""
    monkeypatch.setenv("CDSE_USERNAME", "somebody")
    monkeypatch.setenv("CDSE_PASSWORD", PASSWORD)

    def make(**changes: Any) -> RunParameters:
        site = {
            "ranks": 3,
            "max_jobs": 2,
            "walltime": "00:20:00",
            "memory": "300 MiB",
            "interface": "lo",
            "idle": 5,
            "launcher": f"{openmpi}/bin/mpirun -n {{ranks}} --map-by :OVERSUBSCRIBE",
            "prologue": [
                "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
                "export PYTHONPATH=$PYTHONPATH:/apps/gdal",  # as a module does; the empty entry is the current folder
            ],
        }
        (tmp_path / "site.yaml").write_text(yaml.safe_dump(site | changes))
        more = {"bands": ["B04", "B11"], "cluster": "slurm", "site": tmp_path / "site.yaml", "keep_tmp": True}
        return parameters_for(tmp_path, archive, CELLS, **more)

    return make


@pytest.fixture(autouse=True)
def folder_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """All runs are started in a folder where modules lie that nobody must import."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(lay_traps(folder))
    yield folder
    assert trapped(folder) == []


@pytest.fixture(autouse=True)
def no_job_is_left(slurm_state: Path) -> Iterator[None]:
    """Whatever happened, the queue is empty when a run has ended."""
    yield
    until(lambda: not jobs())


def go(parameters: RunParameters) -> State:
    return pipeline(**dict(parameters), return_state=True)


def go_in_a_process(parameters: RunParameters) -> subprocess.Popen[bytes]:
    """A run that a test can kill."""
    fields = parameters.model_dump(mode="json")
    return subprocess.Popen(
        [sys.executable, "-P", "-c", f"from flows.pipeline import pipeline; pipeline(**{fields!r})"],
        env={**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def composites(work_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(work_dir.glob("composites/*/*.tif"))}


def jobs(state: str = "all") -> list[str]:
    """Ids of the jobs that are pending or running."""
    states = "PENDING,RUNNING,COMPLETING" if state == "all" else state
    done = subprocess.run(
        ["squeue", "--noheader", "--format=%i", f"--states={states}"], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


class Meanwhile(threading.Thread):
    """Does something while a run is going on; ``join`` raises what it met."""

    def __init__(self, action: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._action, self._error = action, None
        self.start()

    def run(self) -> None:
        try:
            self._action()
        except BaseException as error:  # noqa: BLE001
            self._error = error

    def check(self) -> None:
        self.join(DEADLINE)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error


def task_states(state: State, *, wait: bool = True) -> dict[str, str]:
    """The state of each task run of a flow run, by name, when none is unfinished any more."""
    flow_run_id = state.state_details.flow_run_id
    assert flow_run_id is not None
    return task_states_of(flow_run_id)


def task_states_of(flow_run_id: UUID) -> dict[str, str]:
    found: dict[str, str] = {}

    def all_ended() -> bool:
        with get_client(sync_client=True) as client:
            chosen = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run_id]))
            runs = client.read_task_runs(task_run_filter=chosen)
        found.clear()
        found.update({task_run.name: str(task_run.state and task_run.state.type.value) for task_run in runs})
        return all(state in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") for state in found.values())

    until(all_ended)
    return found


def workers_of(work_dir: Path) -> list[psutil.Process]:
    """The processes of a run's own workers that are there: those that its logs name and that have its work folder."""
    logs = "".join(path.read_text() for path in work_dir.glob("logs/pipeline_rank*.log"))
    found = []
    for pid in re.findall(r"rank \d+ of job-\d+: process (\d+) on ", logs):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(int(pid))
            words = process.cmdline()
            if "deployments.mpi.worker" in words and str(work_dir) in words:
                found.append(process)
    return found


def phase_1_has_begun(work_dir: Path) -> bool:
    return any(work_dir.glob("tmp/rank_*/wgs84_vrt/*.vrt"))


def phase_2_has_begun(work_dir: Path) -> bool:
    return any(work_dir.glob("composites/*/*"))


# -------------------------------------------------------------------------------------------------------- happy path


def test_jobs_come_with_the_work_and_go_with_it_and_know_no_password(
    parameters: Callable[..., RunParameters], quiet: dict[str, bytes], slurm_state: Path
) -> None:
    chosen = parameters()
    most, kept, looked_at = [0], set(), set()

    def look() -> None:
        until(lambda: jobs("RUNNING"))
        while jobs():
            most[0] = max(most[0], len(jobs()))
            for path in (*slurm_state.rglob("*"), *chosen.work_dir.rglob("*")):
                if path.is_file() and path.suffix not in (".tif", ".jp2") and PASSWORD.encode() in _bytes(path):
                    kept.add(path)
            for process in workers_of(chosen.work_dir):
                looked_at.add(process)
                if PASSWORD in str(_environment(process)):
                    kept.add(process)

    meanwhile = Meanwhile(look)
    state = go(chosen)
    meanwhile.check()
    assert state.name == "Completed", state.message
    assert composites(chosen.work_dir) == quiet
    assert most[0] == 2
    assert looked_at
    assert not kept
    assert (slurm_state / "state").is_dir()
    assert set(task_states(state).values()) == {"COMPLETED"}

    workspace = Workspace(chosen.work_dir)
    logged = {path.name: path.read_text() for path in workspace.logs.glob("pipeline_rank*.log")}
    assert {f"pipeline_rank{rank}.log" for rank in range(7)} <= set(logged)
    assert "rank 4 of job-1: process" in logged["pipeline_rank4.log"]
    written = sum(text.count(": written from") for name, text in logged.items() if name != "pipeline_rank0.log")
    assert written == 18
    ranks = {int(path.name.removeprefix("rank_")) for path in workspace.tmp.glob("rank_*")}
    assert ranks
    assert 0 not in ranks
    assert not JobRecord(workspace).jobs()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


# ------------------------------------------------------------------------------------------------------------ losses


@pytest.mark.parametrize("has_begun", [phase_1_has_begun, phase_2_has_begun])
def test_a_cancelled_job_is_replaced_and_no_pixel_differs(
    parameters: Callable[..., RunParameters], quiet: dict[str, bytes], has_begun: Callable[[Path], bool]
) -> None:
    chosen = parameters(max_jobs=1)
    cancelled: list[str] = []

    def cancel() -> None:
        until(lambda: has_begun(chosen.work_dir))
        cancelled.extend(jobs("RUNNING"))
        subprocess.run(["scancel", *cancelled], check=True)

    meanwhile = Meanwhile(cancel)
    state = go(chosen)
    meanwhile.check()
    assert cancelled
    assert state.name == "Completed", state.message
    assert composites(chosen.work_dir) == quiet
    assert set(task_states(state).values()) == {"COMPLETED"}


def test_a_killed_rank_costs_its_job_and_nothing_else(
    parameters: Callable[..., RunParameters], quiet: dict[str, bytes]
) -> None:
    chosen = parameters()
    killed: list[int] = []

    def kill() -> None:
        until(lambda: phase_2_has_begun(chosen.work_dir))
        rank = until(lambda: next(iter(workers_of(chosen.work_dir)), None))
        rank.kill()
        killed.append(rank.pid)

    meanwhile = Meanwhile(kill)
    state = go(chosen)
    meanwhile.check()
    assert killed
    assert state.name == "Completed", state.message
    assert composites(chosen.work_dir) == quiet
    assert set(task_states(state).values()) == {"COMPLETED"}


@pytest.mark.long
def test_workers_go_before_the_walltime_and_others_take_over(
    parameters: Callable[..., RunParameters], quiet: dict[str, bytes]
) -> None:
    """Lifetimes so short that no job lasts for the run; none is killed, and no unit is begun twice."""
    chosen = parameters(max_jobs=1, ranks=2, walltime="00:02:00", lifetime=4, lifetime_stagger=1)
    state = go(chosen)
    assert state.name == "Completed", state.message
    assert composites(chosen.work_dir) == quiet
    logs = "".join(path.read_text() for path in (chosen.work_dir / "logs").glob("pipeline_rank*.log"))
    assert logs.count("lifetime is over") >= 2
    assert logs.count(": written from") == 18


# ------------------------------------------------------------------------------------------------------ no job comes


def test_a_bad_account_ends_the_run_with_the_jobs_name_and_state(parameters: Callable[..., RunParameters]) -> None:
    """Slurm takes the job and never starts it."""
    chosen = parameters(queue="closed", account="arts", queue_timeout=15)
    state = go(chosen)
    assert state.is_failed()
    message = str(state.message)
    assert "no job has started within" in message
    assert "PENDING" in message
    assert "Check queue, account and limits" in message
    assert set(task_states(state).values()) <= {"COMPLETED", "CRASHED"}


def test_a_job_that_is_refused_ends_the_run_with_the_batch_systems_words(
    parameters: Callable[..., RunParameters],
) -> None:
    state = go(parameters(queue="nowhere"))
    assert state.is_failed()
    assert "no job can be submitted" in str(state.message)
    assert "invalid partition specified: nowhere" in str(state.message)


def test_jobs_that_die_before_a_worker_connects_end_the_run_with_the_log(
    parameters: Callable[..., RunParameters],
) -> None:
    chosen = parameters(prologue=["echo the module does not exist >&2", "exit 3"], max_jobs=1)
    state = go(chosen)
    assert state.is_failed()
    message = str(state.message)
    assert "ended before a worker of it connected" in message
    assert f"{chosen.work_dir}/logs/jobs/s2sr-" in message
    assert "the module does not exist" in message
    assert set(task_states(state).values()) <= {"COMPLETED", "CRASHED"}


# ------------------------------------------------------------------------------------------------------------ the end


def test_cancelling_the_flow_run_removes_every_job(parameters: Callable[..., RunParameters]) -> None:
    chosen = parameters()
    flow_runs: list[UUID] = []

    def cancel() -> None:
        until(lambda: phase_1_has_begun(chosen.work_dir))
        with get_client(sync_client=True) as client:
            (flow_run, *_) = (r for r in client.read_flow_runs() if r.state and r.state.is_running())
            flow_runs.append(flow_run.id)
            client.set_flow_run_state(flow_run.id, Cancelling())

    meanwhile = Meanwhile(cancel)
    state = go(chosen)
    meanwhile.check()
    assert state.is_cancelled(), state
    assert not JobRecord(Workspace(chosen.work_dir)).jobs()
    assert "RUNNING" not in task_states_of(flow_runs[0]).values()


def test_jobs_of_a_process_that_was_killed_can_be_removed(
    parameters: Callable[..., RunParameters],
) -> None:
    """What is on disk is enough to find them."""
    chosen = parameters()
    process = go_in_a_process(chosen)
    until(lambda: jobs("RUNNING"))
    process.kill()
    process.wait()
    noted = {job.job_id for job in JobRecord(Workspace(chosen.work_dir)).jobs()}
    assert noted >= set(jobs())
    assert set(remove_jobs(chosen.work_dir)) == noted
    until(lambda: not jobs())


def test_a_job_that_starts_after_its_run_was_killed_ends_by_itself(
    parameters: Callable[..., RunParameters],
) -> None:
    """It was held while the run lived; nobody removes it, and the keys are still there."""
    chosen = parameters(max_jobs=1, directives=["--hold"])
    process = go_in_a_process(chosen)
    (job,) = until(jobs)
    process.kill()
    process.wait()
    assert (chosen.work_dir / "tmp" / "keys" / "key.pem").exists()
    subprocess.run(["scontrol", "release", job], check=True)
    until(lambda: not jobs())
    logs = "".join(path.read_text() for path in (chosen.work_dir / "logs" / "jobs").iterdir())
    assert "(Connection refused): the run that submitted this job has ended" in logs
    assert "CANCELLED" not in logs
    with Workspace(chosen.work_dir).opened():  # as the next run does
        assert not (chosen.work_dir / "tmp" / "keys").exists()


@pytest.mark.long
def test_the_table_of_what_was_written_is_that_of_a_run_on_one_machine(
    parameters: Callable[..., RunParameters],
) -> None:
    """A fixed number of jobs, no encryption, srun as the launcher."""
    chosen = parameters(adaptive=False, max_jobs=1, tls=False, launcher="srun --ntasks={ranks} --overlap")
    state = go(chosen)
    assert state.name == "Completed", state.message
    table = pd.read_csv(Workspace(chosen.work_dir).composite_index)
    assert table["status"].tolist() == ["written"] * 18
    assert table["scenes"].tolist() == [8] * 18
