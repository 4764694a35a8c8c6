"""The batch jobs of a run, on disk: they can be found and removed even if the flow's process was killed."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from s2sr_core.files import write_text
from s2sr_core.workspace import Workspace

#: Seconds that the command that removes a job may take.
_REMOVAL = 60.0


class BatchJob(BaseModel):
    """A job that was submitted and not yet removed: its id, and the command that removes it if the id follows."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    cancel: tuple[str, ...]


_JOBS = TypeAdapter(list[BatchJob])


class JobRecord:
    """``logs/jobs.json``: the jobs that the run of a work folder has now. Without jobs there is no file."""

    def __init__(self, workspace: Workspace) -> None:
        self.path = workspace.logs / "jobs.json"
        self._lock = threading.Lock()

    def jobs(self) -> list[BatchJob]:
        """The recorded jobs; none if there is no file that can be read."""
        try:
            return _JOBS.validate_json(self.path.read_bytes())
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

    No run may hold the folder meanwhile. A job that has already ended is not an error.
    """
    record = JobRecord(Workspace(work_dir))
    removed = []
    for job in record.jobs():
        try:
            subprocess.run(  # noqa: S603  # a command of this program, kept in the user's own folder
                [*job.cancel, job.job_id], capture_output=True, timeout=_REMOVAL, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        record.remove(job.job_id)
        removed.append(job.job_id)
    return removed
