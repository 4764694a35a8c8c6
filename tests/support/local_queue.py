"""One more batch system, as somebody would add it: all that the program needs to know of it is in this file.

Its jobs are processes of this machine (:mod:`support.queue_command`), so that what happens to jobs can be tested where
no batch system is installed.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from dask_jobqueue.core import Job, JobQueueCluster
from support import queue_command

from deployments.clusters.batch import BatchCluster

COMMAND = (sys.executable, "-P", str(Path(queue_command.__file__)))


class LocalQueueJob(Job):
    """dask-jobqueue's part."""

    submit_command = shlex.join([*COMMAND, "submit"])
    cancel_command = shlex.join([*COMMAND, "cancel"])
    config_name = "local"

    def __init__(self, scheduler: Any = None, name: Any = None, **options: Any) -> None:
        super().__init__(scheduler=scheduler, name=name, shebang="#!/bin/bash", **options)
        self.job_header = "\n".join(f"#QUEUE {line}" for line in self.job_extra_directives)


class LocalQueueCluster(JobQueueCluster):
    job_cls = LocalQueueJob


class LocalQueue(BatchCluster):
    """This program's part."""

    state_command = (*COMMAND, "state")
    ended = r"is unknown|^$"

    @classmethod
    def jobqueue(cls) -> type[JobQueueCluster]:
        return LocalQueueCluster

    def options(self) -> dict[str, Any]:
        return {}

    def directives(self) -> tuple[str, ...]:
        return f"queue={self.site.queue}", f"logs={self.workspace.logs}/jobs"
