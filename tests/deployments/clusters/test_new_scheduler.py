"""A batch system is added by one file: :mod:`support.local_queue` is such a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support import queue_command
from support.waiting import until

from deployments.clusters import cluster_of
from deployments.clusters.job_record import JobRecord
from s2sr_core.parameters import RunParameters
from s2sr_core.workspace import Workspace
from tasks.worker_number import worker_number


def test_its_job_script_has_its_directives_and_what_all_have(queue_parameters: Callable[..., RunParameters]) -> None:
    parameters = queue_parameters(queue="night", ranks=2, launcher="srun -n {ranks}", directives=["colour=blue"])
    lines = cluster_of(parameters).job_script().splitlines()
    logs = f"logs={parameters.work_dir}/logs/jobs"
    assert [line for line in lines if line.startswith("#QUEUE")] == [
        "#QUEUE queue=night", f"#QUEUE {logs}", "#QUEUE colour=blue"
    ]  # fmt: skip
    (command,) = (line for line in lines if "deployments.mpi.worker" in line)
    assert command.startswith("srun -n 2 /")
    assert "python" in command
    assert " -P -m deployments.mpi.worker tls://<scheduler> --name job-<n> " in command


def test_its_jobs_compute_and_are_gone_afterwards(
    queue_parameters: Callable[..., RunParameters],
    queue_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CDSE_PASSWORD", "hunter2")
    parameters = queue_parameters(max_jobs=2)
    cluster = cluster_of(parameters)
    assert cluster.worker_count() == 2
    cluster.check()
    with cluster.task_runner() as runner:
        assert runner.client.submit(worker_number).result() in (1, 2)
        environment = runner.client.submit(lambda: dict(os.environ)).result()
        assert "hunter2" not in str(environment)
        assert environment["PYTHONSAFEPATH"] == "1"
        jobs = JobRecord(Workspace(parameters.work_dir)).jobs()
        assert {job.job_id for job in jobs} <= {path.stem for path in queue_folder.glob("*.json")}
        assert jobs
        runner.watch()
    assert JobRecord(Workspace(parameters.work_dir)).jobs() == []
    until(lambda: not any(queue_command.running(path) for path in queue_folder.glob("*.json")))
