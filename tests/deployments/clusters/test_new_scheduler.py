"""A batch system is added by one file: :mod:`support.local_queue` is such a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support import queue_command
from support.intruder import ports
from support.waiting import until

from deployments.clusters import cluster_of
from deployments.clusters.job_record import JobRecord
from s2sr_core.errors import InputError
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
        assert runner.client.submit(worker_number, parameters.work_dir).result() in (1, 2)
        run_of_job = psutil.Process(runner.client.submit(os.getpid).result())
        assert {ip for ip, _ in ports([psutil.Process(), run_of_job])} == {"127.0.0.1"}  # that of the interface, lo
        environment = runner.client.submit(lambda: dict(os.environ)).result()
        assert "hunter2" not in str(environment)
        assert environment["PYTHONSAFEPATH"] == "1"
        jobs = JobRecord(Workspace(parameters.work_dir)).jobs()
        assert {job.job_id for job in jobs} <= {path.stem for path in queue_folder.glob("*.json")}
        assert jobs
        runner.watch()
        assert Workspace(parameters.work_dir).keys.is_dir()
    assert not Workspace(parameters.work_dir).keys.exists()
    assert JobRecord(Workspace(parameters.work_dir)).jobs() == []
    until(lambda: not any(queue_command.running(path) for path in queue_folder.glob("*.json")))


def test_without_tls_an_interface_is_needed_and_the_danger_is_said(
    queue_parameters: Callable[..., RunParameters], capfd: pytest.CaptureFixture[str]
) -> None:
    parameters = queue_parameters(tls=False, interface=None)
    assert parameters.site is not None
    with pytest.raises(InputError, match=r"^tls = 'false': needs an interface in the site file: every machine that"):
        cluster_of(parameters).check()
    parameters.site.write_text(parameters.site.read_text().replace("interface: null", "interface: lo"))
    cluster = cluster_of(parameters)
    cluster.check()
    with cluster.task_runner():
        assert "warning: tls is false: whoever reaches lo (127.0.0.1) can run code as you" in capfd.readouterr().err
