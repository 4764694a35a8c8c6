"""How many jobs there are, on a real scheduler: jobs are Dask workers in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Event, Scheduler, SpecCluster, Worker
from distributed.core import Status
from distributed.deploy.spec import ProcessInterface

from deployments.clusters import scaling
from deployments.clusters.scaling import WholeJobs

RANKS = 3


class JobHere(ProcessInterface):
    """A job of three ranks; ``ends`` kills all of them, as a walltime does."""

    def __init__(self, scheduler: str, name: str, **_: Any) -> None:
        super().__init__()
        self.scheduler, self.name = scheduler, name
        self.job_id, self.is_leaving, self.workers = name.replace("job-", "4"), False, []

    async def start(self) -> None:
        first = 1 + int(self.name.removeprefix("job-")) * RANKS
        self.workers = [
            await Worker(
                self.scheduler, name=f"{self.name}-rank{first + rank}", nthreads=1, memory_limit=0, dashboard=False
            )
            for rank in range(RANKS)
        ]
        await super().start()

    async def ends(self) -> None:
        for worker in self.workers:
            await worker.close(nanny=False, executor_wait=False)

    async def close(self) -> None:
        await self.ends()
        await super().close()
        self.status = Status.closed

    async def state(self) -> str | None:
        return "RUNNING" if any(worker.status == Status.running for worker in self.workers) else ""


@asynccontextmanager
async def started(logs: Path, **options: Any) -> AsyncIterator[tuple[WholeJobs, Client]]:
    """Scaling that acts only when a test calls it, and a client that gives it work."""
    options_of_scheduler = {
        "protocol": "tcp://", "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "allowed_failures": 99,
    }  # fmt: skip
    scheduler = {"cls": Scheduler, "options": options_of_scheduler}
    job = {"cls": JobHere, "options": {}}
    cluster = await SpecCluster(workers={}, scheduler=scheduler, worker=job, asynchronous=True, name="test")
    async with cluster, Client(cluster, asynchronous=True) as client:
        defaults: dict[str, Any] = {
            "minimum": 0, "maximum": 4, "wait_count": 1, "interval": "1 day", "ranks": RANKS,
            "queue_timeout": timedelta(hours=1), "logs": logs,
        }  # fmt: skip
        jobs = WholeJobs(cluster, **defaults | options)
        yield jobs, client
        jobs.stop()


def in_a_loop(test: Callable[[Path], Awaitable[None]]) -> Callable[[Path], None]:
    def run(tmp_path: Path) -> None:
        asyncio.run(test(tmp_path))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def wait_for(name: str) -> None:
    Event(name).wait()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


@in_a_loop
async def test_there_are_as_many_jobs_as_give_each_unit_a_rank(tmp_path: Path) -> None:
    """Jobs have three ranks: one unit wants one job, three want one, four want two."""
    async with started(tmp_path) as (jobs, client):
        assert await jobs.target() == 0
        futures = []
        for units, wanted in ((1, 1), (3, 1), (4, 2), (6, 2), (7, 3)):
            futures += [client.submit(wait_for, "never", pure=False) for _ in range(units - len(futures))]
            await until(lambda units=units: len(jobs.cluster.scheduler.tasks) == units)
            assert await jobs.target() == wanted
        for future in futures:
            await future.cancel()
        await until(lambda: not jobs.cluster.scheduler.tasks)
        assert await jobs.target() == 0


@in_a_loop
async def test_jobs_are_submitted_up_to_the_number_asked_for(tmp_path: Path) -> None:
    async with started(tmp_path) as (jobs, _):
        assert (jobs.plan, jobs.requested, jobs.observed) == (set(), set(), set())
        await jobs.scale_up(2)
        assert jobs.plan == jobs.requested == jobs.observed == {"job-0", "job-1"}
        await jobs.scale_up(2)
        assert jobs.submitted == 2
        await jobs.scale_up(3)
        assert (jobs.submitted, jobs.plan) == (3, {"job-0", "job-1", "job-2"})


@in_a_loop
async def test_only_jobs_all_of_whose_workers_are_idle_are_ended(tmp_path: Path) -> None:
    async with started(tmp_path) as (jobs, client):
        await jobs.scale_up(3)
        busy = client.submit(wait_for, "go", workers=["job-1-rank5"], pure=False)
        kept = client.submit(str, "a result", workers=["job-2-rank7"], pure=False)
        await until(lambda: kept.done() and jobs.cluster.scheduler.workers and busy.key in jobs.cluster.scheduler.tasks)
        await until(lambda: any(worker.processing for worker in jobs.cluster.scheduler.workers.values()))
        assert await jobs.workers_to_close(target=0) == ["job-0"]  # job-2 has a result that nobody has fetched
        assert await jobs.workers_to_close(target=3) == []
        kept.release()
        await until(lambda: kept.key not in jobs.cluster.scheduler.tasks)
        assert sorted(await jobs.workers_to_close(target=0)) == ["job-0", "job-2"]
        assert len(await jobs.workers_to_close(target=2)) == 1
        await jobs.scale_down(["job-0"])
        assert jobs.plan == jobs.observed == {"job-1", "job-2"}
        await Event("go").set()
        await busy


@in_a_loop
async def test_a_job_that_ended_is_replaced_while_there_is_work(tmp_path: Path) -> None:
    async with started(tmp_path, maximum=1) as (jobs, client):
        work = [client.submit(pow, 2, number, pure=False) for number in range(5)]
        await until(lambda: len(jobs.cluster.scheduler.tasks) == 5)
        await jobs.adapt()
        assert await client.gather(work) == [1, 2, 4, 8, 16]
        more = client.submit(wait_for, "more", pure=False)
        await until(lambda: more.key in jobs.cluster.scheduler.tasks)
        await jobs.adapt()  # which sees its workers
        await jobs.cluster.workers["job-0"].ends()
        await until(lambda: not jobs.observed)
        await jobs.adapt()
        assert jobs.plan == jobs.observed == {"job-1"}
        await Event("more").set()
        await more
        assert jobs.trouble is None


@in_a_loop
async def test_after_five_jobs_in_a_row_without_a_finished_unit_it_gives_up(tmp_path: Path) -> None:
    """Whether there were others before that did finish units is not asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling, "PAUSE_AFTER_FRUITLESS", 0.0)
        (tmp_path / "s2sr-45.out").write_text("slurmstepd: error: Out Of Memory\n\n")
        async with started(tmp_path, maximum=1) as (jobs, client):
            done = client.submit(str, "first")
            await until(lambda: done.key in jobs.cluster.scheduler.tasks)
            await jobs.adapt()
            assert await done == "first"
            done.release()
            never = client.submit(wait_for, "never", pure=False)
            await until(lambda: never.key in jobs.cluster.scheduler.tasks)
            for number in range(6):
                assert jobs.trouble is None
                await jobs.adapt()
                assert jobs.observed == {f"job-{number}"}
                await jobs.adapt()  # which sees its workers
                await jobs.cluster.workers[f"job-{number}"].ends()
                await until(lambda: not jobs.observed)
            await jobs.adapt()
            assert jobs.plan == set()
            assert jobs.trouble == (
                "job 45 ended before it finished a unit, as did others. "
                f"Its log, {tmp_path}/s2sr-45.out, says: 'slurmstepd: error: Out Of Memory'."
            )
            assert jobs.submitted == 6


@in_a_loop
async def test_at_the_end_all_workers_are_asked_to_end(tmp_path: Path) -> None:
    async with started(tmp_path) as (jobs, _):
        await jobs.scale_up(2)
        there = list(jobs.cluster.workers.values())
        await jobs.end()
        assert jobs.plan == jobs.observed == set()
        assert all(job.is_leaving for job in there)
