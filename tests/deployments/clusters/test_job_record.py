"""The record of jobs lies in a folder that somebody else may have written: nothing in it is run."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from deployments.clusters.job_record import BatchJob, JobRecord, remove_jobs
from s2sr_core.workspace import Workspace


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The commands that are run; none of them is."""
    commands: list[Sequence[str]] = []

    def run(command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        commands.append(list(command))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[[object], Path]:
    def write(jobs: object) -> Path:
        path = Workspace(tmp_path).logs / "jobs.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(jobs))
        return tmp_path

    return write


def test_a_command_in_the_record_is_not_run(tmp_path: Path, recorded: Callable[[object], Path]) -> None:
    trap = tmp_path / "trap"
    recorded([{"job_id": str(trap), "cancel": ["touch"]}])
    assert remove_jobs(tmp_path) == []
    recorded([{"cluster": "slurm", "job_id": str(trap), "cancel": ["touch"]}])
    assert remove_jobs(tmp_path) == []
    assert not trap.exists()


@pytest.mark.parametrize(
    ("cluster", "job_id", "command"),
    [
        ("slurm", "4711", ["scancel", "4711"]),
        ("pbs", "4711", ["qdel", "4711"]),
        ("pbs", "4711.pbs-1.example.org", ["qdel", "4711.pbs-1.example.org"]),
        ("pbs", "4711[].pbs", ["qdel", "4711[].pbs"]),
        ("lsf", "4711", ["bkill", "4711"]),
        ("sge", "4711", ["qdel", "4711"]),
        ("oar", "4711", ["oardel", "4711"]),
        ("htcondor", "47.0", ["condor_rm", "47.0"]),
    ],
)
def test_the_command_is_the_batch_systems(
    recorded: Callable[[object], Path], called: list[Sequence[str]], cluster: str, job_id: str, command: list[str]
) -> None:
    folder = recorded([{"cluster": cluster, "job_id": job_id}])
    assert remove_jobs(folder) == [job_id]
    assert called == [command]
    assert JobRecord(Workspace(folder)).jobs() == []


@pytest.mark.parametrize(
    ("cluster", "job_id"),
    [
        ("slurm", "--user=root"),
        ("slurm", "4711 4712"),
        ("slurm", "4711\n"),
        ("slurm", "４７１１"),
        ("slurm", ""),
        ("slurm", "4711.host"),
        ("pbs", "-W force 4711"),
        ("pbs", "4711.$(touch x)"),
        ("pbs", "all"),
        ("htcondor", "-all"),
        ("local", "4711"),
        ("mpi", "4711"),
        ("os:system", "4711"),
        ("", "4711"),
    ],
)
def test_what_is_not_a_job_is_left_alone(
    recorded: Callable[[object], Path], called: list[Sequence[str]], cluster: str, job_id: str
) -> None:
    assert remove_jobs(recorded([{"cluster": cluster, "job_id": job_id}])) == []
    assert called == []


@pytest.mark.parametrize("record", [{}, None, [1], [{"cluster": 1, "job_id": 2}], [{"job_id": "1"}], "[" * 100_000])
def test_a_record_that_is_not_one_holds_no_job(
    recorded: Callable[[object], Path], called: list[Sequence[str]], record: object
) -> None:
    assert remove_jobs(recorded(record)) == []
    assert called == []


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    record = JobRecord(Workspace(tmp_path))
    record.path.parent.mkdir()
    os.mkfifo(record.path)
    assert record.jobs() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_record_removes_no_job(recorded: Callable[[object], Path], called: list[Sequence[str]]) -> None:
    folder = recorded([{"cluster": "slurm", "job_id": "4711"}])
    os.chown(JobRecord(Workspace(folder)).path, 12345, -1)
    assert remove_jobs(folder) == []
    assert called == []


def test_jobs_are_noted_and_struck_off(tmp_path: Path) -> None:
    record = JobRecord(Workspace(tmp_path))
    first, second = BatchJob(cluster="slurm", job_id="1"), BatchJob(cluster="slurm", job_id="2")
    record.add(first)
    record.add(second)
    assert record.jobs() == [first, second]
    record.remove("1")
    assert json.loads(record.path.read_text()) == [{"cluster": "slurm", "job_id": "2"}]
    record.remove("2")
    assert not record.path.exists()


@pytest.mark.parametrize(
    ("scancel", "squeue", "left"),
    [
        ("exit 0", "exit 9", []),
        ("echo 'scancel: error: Kill job error on job id 4711: Invalid job id specified' >&2; exit 1",
         "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", []),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", "echo 'Unable to contact' >&2; exit 1", ["4711"]),
        ("echo 'Access denied' >&2; exit 1", "echo 'PENDING Resources'", ["4711"]),
    ],
)  # fmt: skip
def test_a_job_that_cannot_be_removed_stays_in_the_record(
    recorded: Callable[[object], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scancel: str, squeue: str,
    left: list[str],
) -> None:  # fmt: skip
    """The next run tries again."""
    for name, body in (("scancel", scancel), ("squeue", squeue)):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    folder = recorded([{"cluster": "slurm", "job_id": "4711"}])
    assert remove_jobs(folder) == (["4711"] if not left else [])
    assert [job.job_id for job in JobRecord(Workspace(folder)).jobs()] == left
