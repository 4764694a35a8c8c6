"""The batch jobs of a run, on disk: they can be found and removed even if the flow's process was killed."""

from __future__ import annotations

import json
import logging
import os
import pkgutil
import re
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from deployments.clusters import CLUSTERS
from s2sr_core.files import read_bytes, write_text
from s2sr_core.workspace import Workspace

if TYPE_CHECKING:
    from deployments.clusters.batch import BatchCluster

logger = logging.getLogger(__name__)

#: Seconds that the command that removes a job may take.
_REMOVAL = 60.0
#: Bytes that the record may have.
_LARGEST = 10_000_000


class BatchJob(BaseModel):
    """A job that was submitted and not yet removed: the value of ``cluster`` whose job it is, and its id there.

    The command that removes it is the program's own, and never read from a file that somebody else may have written.
    """

    model_config = ConfigDict(frozen=True)

    cluster: str
    job_id: str


_JOBS = TypeAdapter(list[BatchJob])


class JobRecord:
    """``logs/jobs.json``: the jobs that the run of a work folder has now. Without jobs there is no file."""

    def __init__(self, workspace: Workspace) -> None:
        self.path = workspace.logs / "jobs.json"
        self._lock = threading.Lock()

    def jobs(self) -> list[BatchJob]:
        """The recorded jobs; none if there is no file that can be read, or if it is another user's."""
        try:
            if self.path.stat().st_uid != os.geteuid():
                return []
            return _JOBS.validate_json(read_bytes(self.path, _LARGEST))
        except (OSError, ValidationError):
            return []

    def add(self, job: BatchJob) -> None:
        with self._lock:
            self._write([*self.jobs(), job])

    def remove(self, job_id: str) -> None:
        with self._lock:
            self._write([job for job in self.jobs() if job.job_id != job_id])

    def _write(self, jobs: list[BatchJob]) -> None:
        if jobs:
            write_text(self.path, json.dumps([job.model_dump() for job in jobs], indent=2) + "\n")
        else:
            self.path.unlink(missing_ok=True)


def remove_jobs(work_dir: Path) -> list[str]:
    """Remove from the batch system every job that a run of ``work_dir`` left; returns their ids.

    No run may hold the folder meanwhile. A job that has already ended is not an error; one that is still there stays in
    the record, so that the next run tries again.
    """
    record = JobRecord(Workspace(work_dir))
    removed = []
    for job in record.jobs():
        batch_system = _batch_system(job.cluster)
        if batch_system is None or not re.fullmatch(batch_system.job_id, job.job_id, re.ASCII):
            logger.warning("%s: %r is not a job of this program and is left alone", record.path, job.job_id[:80])
            continue
        try:
            refusal = _refusal([*batch_system.cancel_command(), job.job_id])
            if refusal and not _has_ended(batch_system, job.job_id):
                logger.warning("job %s of an earlier run cannot be removed: %s", job.job_id, refusal)
                continue
        except (OSError, subprocess.TimeoutExpired) as error:
            logger.warning("job %s of an earlier run cannot be removed: %s", job.job_id, error)
            continue
        record.remove(job.job_id)
        removed.append(job.job_id)
    return removed


def _refusal(words: list[str]) -> str:
    """What a command said if it failed; empty if it did what it was asked."""
    # the command is the class's, and the id has been checked
    done = subprocess.run(words, capture_output=True, timeout=_REMOVAL, check=False, text=True, errors="replace")  # noqa: S603
    said = " ".join(f"{done.stderr} {done.stdout}".split())
    return (said or f"exit code {done.returncode}") if done.returncode else ""


def _has_ended(batch_system: type[BatchCluster], job_id: str) -> bool:
    """Whether the batch system says so, or does not know the job any more."""
    words = [*batch_system.state_command, job_id]
    done = subprocess.run(words, capture_output=True, timeout=_REMOVAL, check=False, text=True, errors="replace")  # noqa: S603
    said = done.stderr if done.returncode else done.stdout
    return re.search(batch_system.ended, " ".join(said.split())) is not None


def _batch_system(name: str) -> type[BatchCluster] | None:
    """The class of a value of ``cluster``; None if it is not one of a batch system."""
    found = pkgutil.resolve_name(CLUSTERS[name]) if name in CLUSTERS else None
    return found if hasattr(found, "cancel_command") else None
