"""What all batch systems have in common: dask-jobqueue's cluster, in whose jobs the MPI launcher starts the workers.

Each system has a module of its own with a subclass of :class:`BatchCluster`, which says how it differs.
"""

from __future__ import annotations

import abc
import contextlib
import hashlib
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from dask.utils import format_bytes, parse_bytes

from deployments.clusters.cluster import Cluster
from deployments.clusters.job_record import JobRecord, remove_jobs
from deployments.clusters.network import LOOPBACK, address_of_this_machine, in_url
from deployments.clusters.site import Site, read_site
from deployments.process.signals import handlers_restored, signals_blocked
from s2sr_core.errors import ClusterError, InputError
from s2sr_core.import_path import ROOT, is_checkout
from s2sr_core.workspace import Workspace

if TYPE_CHECKING:
    from dask_jobqueue.core import Job, JobQueueCluster

    from deployments.clusters.task_runner import ClusterTaskRunner
    from s2sr_core.parameters import RunParameters

logger = logging.getLogger("s2sr_core.flow")

#: Seconds that a worker tries to reach the scheduler.
_DEATH_TIMEOUT = 120
#: A variable in a path, ``$TMPDIR`` or ``${TMPDIR}``.
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)
_ENVIRONMENT = (
    "export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1",
    "export PREFECT_LOGGING_LEVEL=WARNING PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1",
)


class BatchCluster(Cluster, abc.ABC):
    """The workers of a run are the MPI ranks of batch jobs, which are submitted as there is work.

    A subclass is one batch system.
    """

    #: Name of dask-jobqueue's cluster class.
    jobqueue_class: ClassVar[str]
    #: Command that prints the state of the job whose id follows, and nothing if the job has ended.
    state_command: ClassVar[tuple[str, ...]]
    #: Regular expression for what that command prints, or fails with, if the job has ended or is unknown.
    ended: ClassVar[str]
    #: Regular expression for the ids of jobs.
    job_id: ClassVar[str] = r"\d{1,20}"
    #: What a directive begins with in a job script.
    directive_prefix: ClassVar[str] = ""
    #: Characters that the name of a job may have.
    longest_name: ClassVar[int] = 40
    #: Leave out those of dask-jobqueue's directives that hold one of these texts.
    skipped_directives: ClassVar[tuple[str, ...]] = ()
    #: Shell lines that run before the site's own.
    prologue: ClassVar[tuple[str, ...]] = ()

    def __init__(self, parameters: RunParameters) -> None:
        self.name = parameters.cluster
        self.site, self.workspace = read_site(parameters.site), Workspace(parameters.work_dir)

    # ------------------------------------------------------------------------------------- how batch systems differ

    @abc.abstractmethod
    def options(self) -> Mapping[str, Any]:
        """Arguments of dask-jobqueue's class that say queue, account, walltime and size in the system's own way."""

    def directives(self) -> tuple[str, ...]:
        """Directives that every job gets before the site's own."""
        return ()

    def as_directives(self, lines: list[str]) -> Any:
        """Directives in the form that dask-jobqueue's class takes."""
        return lines

    @classmethod
    def jobqueue(cls) -> type[JobQueueCluster]:
        """dask-jobqueue's cluster class."""
        with handlers_restored():
            import dask_jobqueue
        found: type[JobQueueCluster] = getattr(dask_jobqueue, cls.jobqueue_class)
        return found

    @classmethod
    def cancel_command(cls) -> tuple[str, ...]:
        """Command that removes the job whose id follows."""
        return tuple(shlex.split(cls.jobqueue().job_cls.cancel_command))

    # ------------------------------------------------------------------------------------------- as any other cluster

    def worker_count(self) -> int:
        return self.site.workers

    def check(self) -> None:
        if self.site.interface is not None:
            address_of_this_machine(self.site.interface)
        elif not self.site.tls:
            raise InputError(
                "tls",
                "false",
                "needs an interface in the site file: every machine that reaches the ports of the run could run code "
                "as you",
                "name the interface of a network that you trust, or remove tls",
            )
        self.job_script()

    def host(self) -> str:
        return address_of_this_machine(self.site.interface)

    @property
    def job_name(self) -> str:
        """The name of the jobs of this run: its work folder's, and what tells it from others of that name."""
        work_dir = self.workspace.work_dir
        digest = hashlib.sha256(os.fsencode(work_dir)).hexdigest()[:4]
        return f"s2sr-{digest}-{re.sub(r'[^A-Za-z0-9_.-]', '_', work_dir.name)}"[: self.longest_name]

    def job_script(self) -> str:
        """The script that a run would submit, with placeholders for the scheduler's address and the job's number.

        Nothing is written.

        Raises
        ------
        InputError
            If the path of the work folder cannot stand in a job script.
        """
        from deployments.clusters.security import files_in, security_of

        protocol = "tls" if self.site.tls else "tcp"
        security = security_of(*map(str, files_in(self.workspace.keys))) if self.site.tls else None
        options = self._job_options()
        logs = options["log_directory"]
        with TemporaryDirectory(prefix="s2sr-") as folder:  # dask-jobqueue makes the folder for the logs of jobs
            job = self._job_class(None)(
                f"{protocol}://<scheduler>",
                name="job-<n>",
                protocol=f"{protocol}://",
                security=security,
                **{**options, "log_directory": folder},
            )
            return str(job.job_script()).replace(folder, logs)

    @contextlib.contextmanager
    def task_runner(self) -> Iterator[ClusterTaskRunner]:
        """A started task runner; the jobs of its workers are submitted as there is work, and removed at the end."""
        from deployments.clusters.scaling import WholeJobs
        from deployments.clusters.security import keys_in, without_pages
        from deployments.clusters.task_runner import ClusterTaskRunner

        logging.getLogger("distributed").setLevel(logging.ERROR)
        site, workspace, options = self.site, self.workspace, self._job_options()
        remove_jobs(workspace.work_dir)
        host = self.host()
        if not site.tls:
            warning = (
                f"tls is false: whoever reaches {site.interface} ({host}) can run code as you while this run lasts"
            )
            logger.warning(warning)
            print(f"warning: {warning}", file=sys.stderr)
        with contextlib.ExitStack() as held:
            security = held.enter_context(keys_in(workspace.keys)) if site.tls else None
            with signals_blocked(), without_pages():
                cluster = self.jobqueue()(
                    name="s2sr",
                    job_cls=self._job_class(JobRecord(workspace)),
                    protocol="tls://" if site.tls else "tcp://",
                    security=security,
                    scheduler_options={"host": in_url(host), "dashboard_address": f"{LOOPBACK}:0", "dashboard": False},
                    **options,
                )
            held.callback(_end, cluster, workspace)
            scaling = cluster.adapt(
                Adaptive=WholeJobs,
                minimum=site.min_jobs if site.adaptive else site.max_jobs,
                maximum=site.max_jobs,
                interval="1s",
                wait_count=max(int(site.idle.total_seconds()), 1),
                ranks=site.ranks,
                queue_timeout=site.queue_timeout,
                logs=workspace.logs / "jobs",
                job_name=self.job_name,
            )
            said = ""

            def watch() -> None:
                nonlocal said
                if scaling.trouble is not None:
                    raise ClusterError(scaling.trouble)
                if scaling.waiting not in ("", said):
                    said = scaling.waiting
                    _say(said)

            with ClusterTaskRunner(cluster=cluster, watch=watch) as runner:
                yield runner
                cluster.sync(scaling.end)

    def _job_class(self, record: JobRecord | None) -> type[Job]:
        from deployments.clusters.recorded_job import recorded

        return recorded(self.jobqueue().job_cls, self.state_command, self.ended, self.name, record)

    def _job_options(self) -> dict[str, Any]:
        """Arguments of dask-jobqueue's cluster and job classes."""
        site, workspace = self.site, self.workspace
        check_path_in_script(workspace.work_dir)
        launcher = site.launcher.format(ranks=site.ranks)
        return {
            "cores": site.ranks * site.threads,
            "processes": site.ranks,
            "memory": format_bytes(parse_bytes(site.memory) * site.ranks).replace(" ", ""),
            "python": f"{launcher} {shlex.quote(site.python)} -P".strip(),
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
                *(["--interface", shlex.quote(site.interface)] if site.interface else []),
            ],
            "death_timeout": _DEATH_TIMEOUT,
            "local_directory": on_the_node(site.scratch) if site.scratch else None,
            "log_directory": str(workspace.logs / "jobs"),
            "job_name": self.job_name,
            "job_script_prologue": [
                *_ENVIRONMENT,
                *self.prologue,
                # The job ends with the first line that fails: the ranks would start in another environment.
                *(("set -e", *site.prologue, "set +e") if site.prologue else ()),
                _import_path(),
            ],
            "job_extra_directives": self.as_directives(
                [
                    *(line for line in self.directives() if not any(skip in line for skip in site.directives_skip)),
                    *(self._without_prefix(line) for line in site.directives),
                ]
            ),
            "job_directives_skip": [*self.skipped_directives, *site.directives_skip],
            **self.options(),
        }

    def _without_prefix(self, directive: str) -> str:
        prefix = self.directive_prefix
        return directive.strip().removeprefix(prefix).strip() if prefix else directive


def on_the_node(path: str) -> str:
    """A path as a word of the shell on a node: ``~`` and variables are those of the node, all else stands as it is.

    A variable that is not set there ends the job with its name, instead of another folder being taken.
    """
    home = re.match(r"~(?=/|$)", path)
    if home:
        path = f"$HOME{path[1:]}"
    if not _VARIABLE.search(path):
        return shlex.quote(path)
    word, end = "", 0
    for variable in _VARIABLE.finditer(path):
        word += re.sub(r'([\\"`$])', r"\\\1", path[end : variable.start()])
        word += f"${{{variable[1] or variable[2]}:?}}"
        end = variable.end()
    return f'"{word}{re.sub(r"""([\\"`$])""", r"""\\\1""", path[end:])}"'


def _say(sentence: str) -> None:
    """On the terminal and among the logs of the flow run, if there is one."""
    from prefect.exceptions import MissingContextError
    from prefect.logging import get_run_logger

    with contextlib.suppress(MissingContextError):
        get_run_logger().warning(sentence)


def _end(cluster: JobQueueCluster, workspace: Workspace) -> None:
    """End the scheduler, and every job that is left."""
    with signals_blocked():
        cluster.close()
        remove_jobs(workspace.work_dir)


def check_path_in_script(work_dir: os.PathLike[str]) -> None:
    """Job scripts name the work folder in directives, where nothing can be quoted.

    Raises
    ------
    InputError
        If its path holds spaces or other characters that would need it.
    """
    if not re.fullmatch(r"[\w./+=@:,-]+", os.fspath(work_dir)):
        raise InputError(
            "work_dir",
            work_dir,
            "cannot stand in a job script",
            "give a path that consists of letters, digits and . _ - / only",
        )


def walltime(site: Site) -> str:
    """The walltime as HH:MM:SS."""
    seconds = int(site.walltime.total_seconds())
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _import_path() -> str:
    """Shell line after which Python finds this project, and nothing in the folder where the job was submitted.

    An empty entry of PYTHONPATH means that folder; it results when a module or a profile appends to a variable that is
    not set. A checkout need not be installed in the workers' environment. HTCondor would take $(…) for its own.
    """
    own = f"{shlex.quote(ROOT)}:" if is_checkout() else ""
    return f'export PYTHONSAFEPATH=1 PYTHONPATH=`echo {own}"$PYTHONPATH" | tr : "\\n" | grep ^/ | paste -s -d : -`'
