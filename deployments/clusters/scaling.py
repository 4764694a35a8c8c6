"""How many batch jobs a run has: whole jobs, as there is work; and what happens if they die.

Dask's own adaptive scaling retires single workers, but a batch system can only end whole jobs. Here everything is
counted in jobs. A job whose ranks have all died is removed, so that another can replace it. If no job can be had any
more, ``trouble`` says so, and whoever waits for results raises it.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from distributed.deploy.adaptive import Adaptive
from distributed.diagnostics.plugin import SchedulerPlugin

from deployments.mpi.worker import job_of

logger = logging.getLogger("s2sr_core.scaling")

#: After so many jobs in a row that were refused, or ended before one of their workers connected, no more are submitted.
MOST_FRUITLESS = 3
#: The same for jobs whose workers connected and finished no unit. Dask's ``allowed-failures`` is 3: a unit that kills
#: every worker is recorded as failed with the fourth, and the others continue.
MOST_UNFINISHED = 5
#: Seconds between queries to the batch system about a job; it is asked only about jobs that have no worker yet.
QUERY_INTERVAL = 10.0
#: Seconds before the next job is submitted after a fruitless one.
PAUSE_AFTER_FRUITLESS = 10.0
#: What a line of a job's log says if it tells why the job ended: the batch system's or the kernel's word, a Python
#: exception, a program's error. What follows it, such as an MPI launcher's remarks on ranks that failed, does not.
_REASONS = (
    re.compile(r"DUE TO|oom[-_ ]?kill|out of memory|walltime .*exceed|exceeded .*limit|CANCELLED AT", re.IGNORECASE),
    re.compile(r"^(\[[^]]*\] ?)?([A-Za-z_]\w*\.)*[A-Z]\w*(Error|Exception)\b(:|$)"),
    re.compile(r"(command not found|No such file|Permission denied|no such module|\berror\b\s*:)", re.IGNORECASE),
)
#: Characters of a line that are quoted.
_LONGEST_LINE = 300
_UNFINISHED = frozenset({"waiting", "queued", "no-worker", "processing"})


@dataclass
class _JobHistory:
    """What is known of a job; times are those of ``time.monotonic``."""

    submitted: float = field(default_factory=time.monotonic)
    queried: float = field(default_factory=time.monotonic)
    has_finished_a_unit: bool = False
    has_had_workers: bool = False
    #: In the batch system's words.
    state: str = "unknown"


class _FinishedUnits(SchedulerPlugin):  # type: ignore[misc]  # distributed has no types
    """Calls back with the address of each worker that has finished a unit."""

    name = "s2sr-finished-units"

    def __init__(self, call: Callable[[str], None]) -> None:
        self._call = call

    def transition(self, key: object, start: str, finish: str, *_: Any, worker: str | None = None, **__: Any) -> None:
        if start == "processing" and finish == "memory" and worker is not None:
            self._call(worker)


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
        Folder in which the batch system writes what jobs print.
    job_name
        The name of the jobs, with which their logs begin.

    Attributes
    ----------
    trouble
        Why no job can be had any more, in a sentence; None as long as there is hope.
    waiting
        The jobs that have not started, with their states in the batch system's words; empty if there is a worker.
    submitted
        The number of jobs so far.
    """

    def __init__(
        self, cluster: Any, *, ranks: int, queue_timeout: timedelta, logs: Path, job_name: str = "s2sr", **kwargs: Any
    ) -> None:
        self._job_name = job_name
        self._ranks, self._queue_timeout, self._logs = ranks, queue_timeout.total_seconds(), logs
        self._histories: dict[str, _JobHistory] = {}
        self._fruitless = self._unfinished = 0
        self._last_failure = ""
        self._not_before = 0.0
        self.trouble: str | None = None
        self.waiting = ""
        self.submitted = 0
        super().__init__(cluster, **kwargs)
        self.cluster.scheduler.add_plugin(_FinishedUnits(self._record_finished_unit))

    # ------------------------------------------------------------------------------------ what Dask asks for, in jobs

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
        """As many jobs as are needed for one rank per unit; the last of them may have more ranks than units."""
        tasks = self.cluster.scheduler.tasks.values()
        return -(-sum(task.state in _UNFINISHED for task in tasks) // self._ranks)

    async def workers_to_close(self, target: int) -> list[str]:
        """The names of jobs to end: of those whose workers are all idle, as many as there are more than ``target``."""
        idle = [
            job
            for job, workers in self._workers_of_jobs().items()
            if job in self.plan and not any(worker.processing or worker.has_what for worker in workers)
        ]
        return idle[: max(len(self.plan) - target, 0)]

    async def scale_up(self, n: int) -> None:
        """Submit jobs until there are ``n``, unless jobs have been fruitless of late."""
        if self._is_hopeless() or time.monotonic() < self._not_before:
            return
        for _ in range(n - len(self.plan)):
            self.cluster.worker_spec[f"job-{self.submitted}"] = self.cluster.new_spec
            self.submitted += 1
        await self.cluster

    async def scale_down(self, workers: list[str]) -> None:
        """End these jobs: their workers first, so that the batch system sees them complete."""
        of_jobs = self._workers_of_jobs()
        addresses = [worker.address for job in workers for worker in of_jobs.get(job, ())]
        if addresses:
            logger.info("no more work for %s", ", ".join(sorted(workers)))
            for job in of_jobs.keys() & self.cluster.workers.keys() & set(workers):
                self.cluster.workers[job].is_leaving = True
            await self.scheduler.retire_workers(workers=addresses, remove=True, close_workers=True)
        await self._remove(workers)

    async def end(self) -> None:
        """Ask all workers to end: their jobs then complete, and are not cancelled."""
        self.stop(reason="the run is over")
        await self.scale_down(sorted(self.plan))

    # ---------------------------------------------------------------------------------------------- jobs that fail

    async def adapt(self) -> None:
        try:
            await self._remove_ended_jobs()
            self._look_for_trouble()
            await super().adapt()
        except RuntimeError as error:  # of the command that submits
            await self._handle_refusal(error)

    async def _remove_ended_jobs(self) -> None:
        alive, now = self._workers_of_jobs(), time.monotonic()
        for name, job in list(self.cluster.workers.items()):
            history = self._histories.setdefault(name, _JobHistory())
            if name in alive:
                history.has_had_workers = True
            elif name in self.plan and await self._has_ended(job, history, now):
                await self._bury(name, job, history)

    def _look_for_trouble(self) -> None:
        """Give up if there is work, but no worker and no hope of one."""
        if self._workers_of_jobs() or not self._has_work():
            self.waiting = ""
            return
        states = {
            job.job_id: self._histories[name].state
            for name, job in self.cluster.workers.items()
            if name in self._histories and self._histories[name].state != "unknown"
        }
        listed = ", ".join(f"job {job_id} ({state})" for job_id, state in states.items())
        self.waiting = f"no worker yet; the batch system says of {listed}" if listed else ""
        now = time.monotonic()
        waiting = [
            (self._histories[name], job) for name, job in self.cluster.workers.items() if name in self._histories
        ]
        if waiting and all(now - history.submitted > self._queue_timeout for history, _ in waiting):
            history, job = waiting[0]
            self._give_up(
                f"no job has started within {self._queue_timeout / 60:g} min; job {job.job_id} is "
                f"{history.state}. {self._log_of(job.job_id)} Check queue, account and limits, or raise "
                "queue_timeout"
            )
        elif not waiting and self._is_hopeless():
            self._give_up(self._last_failure)

    async def _has_ended(self, job: Any, history: _JobHistory, now: float) -> bool:
        """Whether a job without workers has ended: it had workers before, or the batch system says so."""
        if history.has_had_workers:
            return True
        if job.job_id is None or now - history.queried < QUERY_INTERVAL:
            return False
        history.queried = now
        state = await job.state()
        if state is not None:
            history.state = state
        return bool(state == "")

    async def _bury(self, name: str, job: Any, history: _JobHistory) -> None:
        """Remove a job that has ended; it was fruitless if none of its workers finished a unit."""
        if not history.has_finished_a_unit:
            self._count_fruitless(connected=history.has_had_workers)
            when = "before it finished a unit" if history.has_had_workers else "before a worker of it connected"
            self._last_failure = f"job {job.job_id} ended {when}, as did others. {self._log_of(job.job_id)}"
        logger.warning(
            "%s (%s) has ended%s", name, job.job_id, "" if history.has_had_workers else " and never had a worker"
        )
        await self._remove([name])

    async def _handle_refusal(self, error: RuntimeError) -> None:
        """The batch system does not take a job: what it prints is the reason."""
        refused = [name for name, job in self.cluster.workers.items() if job.job_id is None]
        if not refused:
            raise error
        self._count_fruitless()
        printed = " ".join(str(error).partition("stderr:")[2].split()) or " ".join(str(error).split())
        logger.warning("the batch system refused a job: %s", printed)
        self._last_failure = f"no job can be submitted: {printed}. Check the site file"
        await self._remove(refused)

    async def _remove(self, names: list[str]) -> None:
        """Take jobs out of the cluster; those that still exist are cancelled."""
        for name in names:
            self.cluster.worker_spec.pop(name, None)
            self._histories.pop(name, None)
        await self.cluster

    def _is_hopeless(self) -> bool:
        return self._fruitless >= MOST_FRUITLESS or self._unfinished >= MOST_UNFINISHED

    def _count_fruitless(self, *, connected: bool = False) -> None:
        if connected:
            self._unfinished += 1
        else:
            self._fruitless += 1
        self._not_before = time.monotonic() + PAUSE_AFTER_FRUITLESS

    def _give_up(self, sentence: str) -> None:
        if self.trouble is None:
            logger.error(sentence)
            self.trouble = sentence

    def _log_of(self, job_id: str) -> str:
        return log_of(self._logs, self._job_name, job_id)

    # ----------------------------------------------------------------------------------------------------- lookups

    def _workers_of_jobs(self) -> dict[str, list[Any]]:
        jobs: dict[str, list[Any]] = {}
        for worker in self.cluster.scheduler.workers.values():
            jobs.setdefault(job_of(str(worker.name)), []).append(worker)
        return jobs

    def _has_work(self) -> bool:
        return any(task.state in _UNFINISHED for task in self.cluster.scheduler.tasks.values())

    def _record_finished_unit(self, address: str) -> None:
        worker = self.cluster.scheduler.workers.get(address)
        if worker is not None:
            self._fruitless = self._unfinished = 0
            self._histories.setdefault(job_of(str(worker.name)), _JobHistory()).has_finished_a_unit = True


def log_of(logs: Path, job_name: str, job_id: str) -> str:
    """A sentence that names the log of a job, with the line that says why it ended."""
    # Of 1234 and 12345, and of a name with digits in it, the number alone is that of the job.
    number = re.compile(rf"(?<!\d){re.escape(str(job_id))}(?!\d)")
    names = re.compile(f"{re.escape(job_name)}|s2sr")
    found = sorted(path for path in logs.glob("*") if number.search(names.sub("", path.name)))
    lines = [
        (path, line.strip())
        for path in found
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
        if re.search(r"\w", line)
    ]
    if not lines:
        return f"It left no log in {logs}."
    path, line = next(
        (telling[-1] for reason in _REASONS if (telling := [pair for pair in lines if reason.search(pair[1])])),
        lines[-1],
    )
    return f"Its log, {path}, says: {line[:_LONGEST_LINE]!r}."
