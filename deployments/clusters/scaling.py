"""How many batch jobs there are to be: whole jobs, as the work asks; and what becomes of those that die.

Dask's own adaptive scaling retires single workers, and a batch system can only end whole jobs. Here everything is
counted in jobs. A job whose ranks are all gone is forgotten, so that another can take its place. Where no job comes to
life any more, ``trouble`` says so, and whoever waits for results raises it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from distributed.deploy.adaptive import Adaptive
from distributed.diagnostics.plugin import SchedulerPlugin

from deployments.mpi.worker import job_of
from s2sr_core.errors import ClusterError

logger = logging.getLogger("s2sr_core.scaling")

#: Jobs in a row that end before a worker of theirs has finished a unit: then no more are submitted.
MOST_BARREN = 3
#: Seconds between questions to the batch system, which is asked only about jobs that have no worker yet.
_ASK = 10.0
#: Seconds before the next job is submitted after one that was refused, or that ended without having done anything.
_PAUSE = 10.0
_UNFINISHED = frozenset({"waiting", "queued", "no-worker", "processing"})


@dataclass
class _Life:
    """What is known of a job."""

    begun: float = field(default_factory=time.monotonic)
    asked: float = field(default_factory=time.monotonic)
    has_worked: bool = False
    was_seen: bool = False
    state: str = "not asked yet"


class _Useful(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    """Notes the jobs of which a worker finished a unit."""

    name = "s2sr-useful"

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note

    def transition(self, key: object, start: str, finish: str, *_: Any, worker: str | None = None, **__: Any) -> None:
        if start == "processing" and finish == "memory" and worker is not None:
            self._note(worker)


class WholeJobs(Adaptive):  # type: ignore[misc]  # distributed has no types
    """Adaptive scaling of a dask-jobqueue cluster by whole jobs.

    Parameters
    ----------
    cluster
        The cluster, with its scheduler in this process.
    minimum, maximum
        Jobs.
    ranks
        Workers of a job.
    queue_timeout
        How long to wait for a first job to start.
    logs
        Where the batch system writes what jobs say.
    """

    def __init__(self, cluster: Any, *, ranks: int, queue_timeout: timedelta, logs: Path, **kwargs: Any) -> None:
        self._ranks, self._queue_timeout, self._logs = ranks, queue_timeout.total_seconds(), logs
        self._lives: dict[str, _Life] = {}
        self._barren = 0
        self._last_death = ""
        self._not_before = 0.0
        self._number = 0
        self.trouble: ClusterError | None = None
        self.submitted = 0
        super().__init__(cluster, **kwargs)
        self.cluster.scheduler.add_plugin(_Useful(self._note_useful))

    # ------------------------------------------------------------------------------------ what Dask asks, in jobs

    @property
    def plan(self) -> set[str]:
        return set(self.cluster.worker_spec)

    @property
    def requested(self) -> set[str]:
        return set(self.cluster.workers) & self.plan

    @property
    def observed(self) -> set[str]:
        return set(self._workers_of_jobs())

    async def target(self) -> int:
        """As many jobs as have a unit for each of their ranks; none is ended early for want of a unit."""
        tasks = self.cluster.scheduler.tasks.values()
        return -(-sum(task.state in _UNFINISHED for task in tasks) // self._ranks)

    async def workers_to_close(self, target: int) -> list[str]:
        """Jobs none of whose workers has anything to do."""
        idle = [
            job
            for job, workers in self._workers_of_jobs().items()
            if job in self.plan and not any(worker.processing or worker.has_what for worker in workers)
        ]
        return idle[: max(len(self.plan) - target, 0)]

    async def scale_up(self, n: int) -> None:
        if self._barren >= MOST_BARREN or time.monotonic() < self._not_before:
            return
        for _ in range(n - len(self.plan)):
            self.cluster.worker_spec[f"job-{self._number}"] = self.cluster.new_spec
            self._number += 1
            self.submitted += 1
        await self.cluster

    async def scale_down(self, workers: list[str]) -> None:
        of_jobs = self._workers_of_jobs()
        addresses = [worker.address for job in workers for worker in of_jobs.get(job, ())]
        if addresses:
            logger.info("ends for want of work: %s", ", ".join(sorted(workers)))
            for job in of_jobs.keys() & self.cluster.workers.keys() & set(workers):
                self.cluster.workers[job].is_leaving = True
            await self.scheduler.retire_workers(workers=addresses, remove=True, close_workers=True)
        await self._forget(workers)

    async def end(self) -> None:
        """Tell all workers to go: jobs then end by themselves, and not as cancelled ones."""
        self.stop(reason="the run is over")
        await self.scale_down(sorted(self.plan))

    # ---------------------------------------------------------------------------------------------- life and death

    async def adapt(self) -> None:
        try:
            await self._look_after()
            await super().adapt()
        except RuntimeError as error:  # of the command that submits
            await self._refused(error)

    async def _look_after(self) -> None:
        """Notice the dead, and say so where nothing is left to hope for."""
        alive, now = self._workers_of_jobs(), time.monotonic()
        for name, job in list(self.cluster.workers.items()):
            life = self._lives.setdefault(name, _Life())
            if name in alive:
                life.was_seen = True
            elif name in self.plan and await self._is_dead(job, life, now):
                await self._bury(name, job, life)
        if not alive and self._has_work():
            waiting = [(self._lives[name], job) for name, job in self.cluster.workers.items() if name in self._lives]
            if waiting and all(now - life.begun > self._queue_timeout for life, _ in waiting):
                life, job = waiting[0]
                self._give_up(
                    f"no job has started within {self._queue_timeout / 60:g} min; job {job.job_id} is "
                    f"{life.state or 'unknown'}. {self._log_of(job.job_id)} Check queue, account and limits, or raise "
                    "queue_timeout"
                )
            elif not waiting and self._barren >= MOST_BARREN:
                self._give_up(self._last_death)

    async def _is_dead(self, job: Any, life: _Life, now: float) -> bool:
        if life.was_seen:
            return True
        if job.job_id is None or now - life.asked < _ASK:
            return False
        life.asked = now
        state = await job.state()
        if state is not None:
            life.state = state
        return bool(state == "")

    async def _bury(self, name: str, job: Any, life: _Life) -> None:
        if not life.has_worked:
            self._note_barren()
            when = "before it finished a unit" if life.was_seen else "before a worker of it connected"
            self._last_death = f"job {job.job_id} ended {when}, as did others. {self._log_of(job.job_id)}"
        logger.warning("%s (%s) is gone%s", name, job.job_id, "" if life.was_seen else " and never had a worker")
        await self._forget([name])

    async def _refused(self, error: RuntimeError) -> None:
        """The batch system does not take a job: its words are the reason."""
        refused = [name for name, job in self.cluster.workers.items() if job.job_id is None]
        if not refused:
            raise error
        self._note_barren()
        said = " ".join(str(error).partition("stderr:")[2].split()) or " ".join(str(error).split())
        logger.warning("a job was refused: %s", said)
        self._last_death = f"no job can be submitted: {said}. Check the site file"
        await self._forget(refused)

    async def _forget(self, names: list[str]) -> None:
        """Out of the cluster; the batch system is told, if the job is still there."""
        for name in names:
            self.cluster.worker_spec.pop(name, None)
            self._lives.pop(name, None)
        await self.cluster

    def _note_barren(self) -> None:
        self._barren += 1
        self._not_before = time.monotonic() + _PAUSE

    def _give_up(self, sentence: str) -> None:
        if self.trouble is None:
            logger.error(sentence)
            self.trouble = ClusterError(sentence)

    def _log_of(self, job_id: str) -> str:
        """A sentence that says where the job's own words are, with the last of them."""
        found = sorted(path for path in self._logs.glob(f"*{job_id}*") if path.stat().st_size)
        if not found:
            return f"It left no log in {self._logs}."
        lines = found[-1].read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"Its log, {found[-1]}, ends: {lines[-1].strip()!r}." if lines else f"Its log is {found[-1]}."

    # ----------------------------------------------------------------------------------------------------- lookups

    def _workers_of_jobs(self) -> dict[str, list[Any]]:
        jobs: dict[str, list[Any]] = {}
        for worker in self.cluster.scheduler.workers.values():
            jobs.setdefault(job_of(str(worker.name)), []).append(worker)
        return jobs

    def _has_work(self) -> bool:
        return any(task.state in _UNFINISHED for task in self.cluster.scheduler.tasks.values())

    def _note_useful(self, address: str) -> None:
        worker = self.cluster.scheduler.workers.get(address)
        if worker is not None:
            self._barren = 0
            self._lives.setdefault(job_of(str(worker.name)), _Life()).has_worked = True
