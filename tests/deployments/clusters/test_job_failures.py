"""What a run does if its jobs are refused, never start, or end too early. Jobs are those of a small batch system."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from typing import Any

import pytest
from distributed import get_worker
from support.waiting import until

from deployments.clusters import cluster_of, scaling
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


def test_jobs_that_end_before_a_worker_connects_are_not_submitted_for_ever(
    make: Callable[..., Cluster], queue_folder: Any
) -> None:
    sentence = trouble_of(make(prologue=["echo no such module: gdal >&2", "exit 3"], max_jobs=1))
    found = re.fullmatch(
        r"job 3 ended before a worker of it connected, as did others\. Its log, (\S+), ends: 'no such module: gdal'\.",
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
