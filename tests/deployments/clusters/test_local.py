from __future__ import annotations

import os

from deployments.clusters.local import local_runner, worker_count
from tasks.worker_number import rank


def test_workers_are_as_many_as_asked_or_as_there_are_cores() -> None:
    assert worker_count(3) == 3
    assert worker_count(None) == len(os.sched_getaffinity(0))


def test_each_worker_is_a_process_of_one_thread_with_a_rank_of_its_own() -> None:
    """Ranks count from 1; the flow's own process, which runs this test, is 0."""
    with local_runner(2) as runner:
        client = runner.client
        addresses = list(client.nthreads())
        ranks = [client.submit(rank, workers=[address], pure=False).result() for address in addresses]
        assert sorted(ranks) == [1, 2]
        assert len(set(client.run(os.getpid).values())) == 2
        assert set(client.nthreads().values()) == {1}
    assert rank() == 0
