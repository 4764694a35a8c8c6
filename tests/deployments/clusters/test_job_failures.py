"""What a run does if its jobs are refused, never start, or end too early. Jobs are those of a small batch system."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import get_worker
from support.waiting import until

from deployments.clusters import batch, cluster_of, scaling
from deployments.clusters.cluster import Cluster
from deployments.clusters.task_runner import ClusterTaskRunner
from s2sr_core.errors import ClusterError
from s2sr_core.parameters import RunParameters


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else uses this batch system: it may be asked often."""
    monkeypatch.setattr(scaling, "QUERY_INTERVAL", 0.1)
    monkeypatch.setattr(scaling, "PAUSE_AFTER_FRUITLESS", 0.1)


@pytest.fixture
def make(queue_parameters: Callable[..., RunParameters]) -> Callable[..., Cluster]:
    return lambda **changes: cluster_of(queue_parameters(**changes))


def given_up(runner: ClusterTaskRunner) -> str | None:
    try:
        runner.watch()
    except ClusterError as error:
        return str(error)
    return None


def trouble_of(cluster: Cluster) -> str:
    """Give the cluster work; the sentence with which it gives up."""
    with cluster.task_runner() as runner:
        assert given_up(runner) is None
        future = runner.client.submit(os.getpid)
        sentence = until(lambda: given_up(runner))
        future.cancel()
    assert sentence is not None
    return sentence


def test_a_refused_job_is_tried_three_times_and_the_batch_systems_words_are_the_reason(
    make: Callable[..., Cluster],
) -> None:
    sentence = trouble_of(make(queue="nowhere"))
    assert sentence == "no job can be submitted: submit: error: there is no queue nowhere. Check the site file"


def test_a_job_that_never_starts_is_named_with_its_state(make: Callable[..., Cluster]) -> None:
    sentence = trouble_of(make(queue="closed", queue_timeout=3, max_jobs=1))
    assert sentence.startswith("no job has started within 0.05 min; job 1 is PENDING QueueIsClosed. It left no log in ")
    assert sentence.endswith("Check queue, account and limits, or raise queue_timeout")


def test_a_job_that_waits_is_shown_with_the_reason_of_the_batch_system(
    make: Callable[..., Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(batch, "_say", said.append)
    with make(queue="closed", max_jobs=1).task_runner() as runner:
        future = runner.client.submit(os.getpid)
        until(lambda: given_up(runner) or said)
        future.cancel()
    assert said == ["no worker yet; the batch system says of job 1 (PENDING QueueIsClosed)"]


LAUNCHER = """
[node1:0] Traceback (most recent call last):
[node1:0]   File "/x/worker.py", line 3, in <module>
ModuleNotFoundError: No module named 'osgeo'
--------------------------------------------------------------------------
mpirun detected that one or more processes exited with non-zero status
--------------------------------------------------------------------------
"""


@pytest.mark.parametrize(
    ("out", "err", "line"),
    [
        ("", LAUNCHER, "ModuleNotFoundError: No module named 'osgeo'"),
        (
            "started",
            "RuntimeError: x\nslurmstepd: error: *** JOB 4 ON n1 CANCELLED AT 2026-01-01 DUE TO TIME LIMIT ***\n",
            "slurmstepd: error: *** JOB 4 ON n1 CANCELLED AT 2026-01-01 DUE TO TIME LIMIT ***",
        ),
        ("bash: line 9: mpirun: command not found\ndone\n", "", "bash: line 9: mpirun: command not found"),
        ("one\ntwo\n----\n", "", "two"),
    ],
)
def test_the_log_of_that_job_is_named_with_the_line_that_says_why(
    tmp_path: Path, out: str, err: str, line: str
) -> None:
    """Of job 4, and not of 14, 41 or of all in the name of the run, which has digits too."""
    for other in ("14", "41", "144"):
        (tmp_path / f"s2sr-4a4b-r4-{other}.out").write_text("MemoryError: of another job\n")
    (tmp_path / "s2sr-4a4b-r4-4.out").write_text(out)
    (tmp_path / "s2sr-4a4b-r4-4.err").write_text(err)
    sentence = scaling.log_of(tmp_path, "s2sr-4a4b-r4", "4")
    assert sentence.endswith(f"says: {line!r}."), sentence
    assert f"{tmp_path}/s2sr-4a4b-r4-4." in sentence
    assert scaling.log_of(tmp_path, "s2sr-4a4b-r4", "5") == f"It left no log in {tmp_path}."


def test_jobs_that_end_before_a_worker_connects_are_not_submitted_for_ever(
    make: Callable[..., Cluster], queue_folder: Any
) -> None:
    sentence = trouble_of(make(prologue=["echo no such module: gdal >&2", "exit 3"], max_jobs=1))
    found = re.fullmatch(
        r"job 3 ended before a worker of it connected, as did others\. Its log, (\S+), says: 'no such module: gdal'\.",
        sentence,
    )
    assert found, sentence
    assert found[1].endswith("/run/logs/jobs/s2sr-3.out")
    assert len(list(queue_folder.glob("*.json"))) == 3


def test_a_job_whose_worker_died_is_replaced_and_the_unit_runs_again(make: Callable[..., Cluster]) -> None:
    def kill_the_first_worker() -> str:
        name = str(get_worker().name)
        if name == "job-0-rank1":
            os.kill(os.getpid(), signal.SIGKILL)
        return name

    with make(max_jobs=1).task_runner() as runner:
        assert runner.client.submit(kill_the_first_worker).result() == "job-1-rank2"
        assert given_up(runner) is None
