"""What all batch systems have in common: dask-jobqueue's cluster, its jobs started by the site's MPI launcher.

Each system's own module holds what differs, as a :class:`BatchSystem`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask.utils import format_bytes, parse_bytes
from distributed.core import Status
from distributed.security import Security

from deployments.clusters.job_record import BatchJob, JobRecord, remove_jobs
from deployments.clusters.scaling import WholeJobs
from deployments.clusters.site import Site
from deployments.clusters.task_runner import ClusterRunner
from deployments.process.account import ACCOUNT
from deployments.process.signals import handlers_kept, interrupts_held
from s2sr_core.errors import InputError
from s2sr_core.workspace import Workspace

if TYPE_CHECKING:
    from dask_jobqueue.core import Job, JobQueueCluster

#: Seconds that a rank tries to reach the scheduler.
_DEATH_TIMEOUT = 120
_NAME = "s2sr"
#: Seconds that a job whose workers were told to go has for ending by itself.
_LEAVE = 5.0
_ENVIRONMENT = (
    "export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1",
    "export PREFECT_LOGGING_LEVEL=WARNING PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1",
)


@dataclass(frozen=True)
class BatchSystem:
    """A batch system, as far as it differs from the others.

    Parameters
    ----------
    cluster
        Name of dask-jobqueue's class.
    options
        What the class is to be told of the site besides the common options.
    directives
        Directives that every job gets ahead of the site's own.
    skip
        Texts of the class's own directives that ``directives`` replace.
    prologue
        Shell lines ahead of the site's own.
    state
        Words that print the state of the job whose id follows; nothing where it has ended.
    ended
        Matches what ``state`` says of a job that has ended or is unknown.
    """

    cluster: str
    options: Callable[[Site], Mapping[str, Any]]
    state: tuple[str, ...]
    ended: str
    directives: Callable[[Site], tuple[str, ...]] = lambda _site: ()
    skip: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    as_directives: Callable[[list[str]], Any] = field(default=lambda lines: lines)

    def cluster_class(self) -> type[JobQueueCluster]:
        """dask-jobqueue's class; its import would take over Ctrl-C."""
        with handlers_kept():
            import dask_jobqueue
        found: type[JobQueueCluster] = getattr(dask_jobqueue, self.cluster)
        return found


def hours(site: Site) -> str:
    """The walltime as HH:MM:SS."""
    seconds = int(site.walltime.total_seconds())
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def job_script(system: BatchSystem, site: Site, workspace: Workspace) -> str:
    """The script that a run would submit, but for the scheduler's address, the job's number and its key files.

    Raises
    ------
    InputError
        Where the work folder cannot be written, or its path cannot stand in a job script.
    """
    protocol = "tls" if site.tls else "tcp"
    files = {key: f"<{key}>" for key in ("tls_ca_file", "tls_worker_cert", "tls_worker_key")}
    security = Security(require_encryption=True, **files) if site.tls else None
    options = _job_options(system, site, workspace)
    try:
        job = _job_class(system, None)(
            f"{protocol}://<scheduler>", name="job-<n>", protocol=f"{protocol}://", security=security, **options
        )
    except OSError as error:  # dask-jobqueue makes the folder of the jobs' logs
        raise InputError(
            "work_dir", workspace.work_dir, f"cannot be written ({error.strerror})", "give a folder that is yours"
        ) from error
    return str(job.job_script())


@contextlib.contextmanager
def batch_runner(system: BatchSystem, site: Site, workspace: Workspace) -> Iterator[ClusterRunner]:
    """A task runner whose workers are the ranks of batch jobs, submitted as work comes; all are removed at the end.

    Raises
    ------
    InputError
        Where the work folder's path cannot stand in a job script.
    """
    logging.getLogger("distributed").setLevel(logging.ERROR)
    options = _job_options(system, site, workspace)
    remove_jobs(workspace.work_dir)
    with interrupts_held():
        cluster = system.cluster_class()(
            name=_NAME,
            job_cls=_job_class(system, JobRecord(workspace)),
            security=Security.temporary() if site.tls else None,
            shared_temp_directory=str(workspace.tmp),
            scheduler_options={"dashboard_address": "127.0.0.1:0"},
            **options,
        )
    try:
        held = site.min_jobs if site.adaptive else site.max_jobs
        scaling = cluster.adapt(
            Adaptive=WholeJobs,
            minimum=held,
            maximum=site.max_jobs,
            interval="1s",
            wait_count=max(int(site.idle.total_seconds()), 1),
            ranks=site.ranks,
            queue_timeout=site.queue_timeout,
            logs=workspace.logs / "jobs",
        )

        def watch() -> None:
            if scaling.trouble is not None:
                raise scaling.trouble

        with ClusterRunner(cluster=cluster, watch=watch) as runner:
            yield runner
            cluster.sync(scaling.end)
    finally:
        with interrupts_held():
            cluster.close()
            remove_jobs(workspace.work_dir)


def check_work_dir(workspace: Workspace) -> None:
    """Job scripts name the work folder in directives, where nothing can be quoted.

    Raises
    ------
    InputError
        Where its path holds blanks or the like.
    """
    if not re.fullmatch(r"[\w./+=@:,-]+", str(workspace.work_dir)):
        raise InputError(
            "work_dir",
            workspace.work_dir,
            "cannot stand in a job script",
            "give a path of letters, digits and . _ - / alone",
        )


def _job_options(system: BatchSystem, site: Site, workspace: Workspace) -> dict[str, Any]:
    """What dask-jobqueue's cluster and job classes are told."""
    check_work_dir(workspace)
    launcher = site.launcher.format(ranks=site.ranks)
    memory = format_bytes(parse_bytes(site.memory) * site.ranks).replace(" ", "")
    return {
        "cores": site.ranks * site.threads,
        "processes": site.ranks,
        "memory": memory,
        "python": f"{launcher} {shlex.quote(site.python)}".strip(),
        "worker_command": "deployments.mpi.worker",
        "worker_extra_args": [
            "--work-dir",
            shlex.quote(str(workspace.work_dir)),
            "--ranks",
            str(site.ranks),
            "--lifetime",
            f"{site.worker_lifetime.total_seconds():g}",
            "--lifetime-stagger",
            f"{site.stagger.total_seconds():g}",
        ],
        "death_timeout": _DEATH_TIMEOUT,
        "local_directory": shlex.quote(str(site.scratch)) if site.scratch else None,
        "interface": site.interface,
        "log_directory": str(workspace.logs / "jobs"),
        "job_name": _NAME,
        "job_script_prologue": [*_ENVIRONMENT, *system.prologue, *site.prologue],
        "job_extra_directives": system.as_directives([*system.directives(site), *site.directives]),
        "job_directives_skip": [*system.skip, *site.directives_skip],
        **system.options(site),
    }


def _job_class(system: BatchSystem, record: JobRecord | None) -> type[Job]:
    """dask-jobqueue's job, submitted without the account's variables, noted on disk; it tells its state."""
    base: type[Job] = system.cluster_class().job_cls
    # Some systems keep a copy of the environment that the submitting command sees.
    without = " ".join(f"-u {name}" for name in ACCOUNT)

    class RecordedJob(base):  # type: ignore[misc]  # known at run time only
        """A job of this run."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.is_leaving = False
            self.submit_command: str = f"env {without} {self.submit_command}"

        async def start(self) -> None:
            await super().start()
            if record is not None:
                words = (*shlex.split(self.cancel_command),)
                record.add(BatchJob(job_id=self.job_id, cancel=words))

        async def close(self) -> None:
            if self.is_leaving:
                await asyncio.sleep(_LEAVE)
            await super().close()
            self.status = Status.closed
            if record is not None and self.job_id is not None:
                record.remove(self.job_id)

        async def state(self) -> str | None:
            """What the batch system says of the job; nothing where it has ended, None where it does not answer."""
            try:
                said = " ".join((await self._call([*system.state, self.job_id])).split())
            except (RuntimeError, OSError) as error:
                return "" if re.search(system.ended, str(error)) else None
            return "" if re.search(system.ended, said) else said

    return RecordedJob
