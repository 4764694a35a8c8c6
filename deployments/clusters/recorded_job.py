"""dask-jobqueue's jobs, as a run needs them: recorded on disk, without the account, and able to say their state."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from distributed.core import Status

from deployments.clusters.job_record import BatchJob, JobRecord
from s2sr_core.account import ACCOUNT

if TYPE_CHECKING:
    from dask_jobqueue.core import Job

#: Seconds within which a job whose workers were asked to end does so by itself.
_LEAVE = 5.0


def recorded(
    base: type[Job], state_command: tuple[str, ...], ended: str, cluster: str, record: JobRecord | None
) -> type[Job]:
    """A subclass of one of dask-jobqueue's job classes.

    Parameters
    ----------
    base
        The job class of a batch system.
    state_command
        Command that prints the state of the job whose id follows.
    ended
        Regular expression for what that command prints, or fails with, if the job has ended.
    cluster
        The value of the parameter ``cluster``.
    record
        Where jobs are recorded from their submission to their end.
    """
    # Some systems keep a copy of the environment that the submitting command sees.
    without_account = " ".join(f"-u {name}" for name in ACCOUNT)

    class RecordedJob(base):  # type: ignore[misc]  # known at run time only
        """A job of this run."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            #: Whether its workers have been asked to end.
            self.is_leaving = False
            self.submit_command: str = f"env {without_account} {self.submit_command}"

        async def start(self) -> None:
            await super().start()
            if record is not None:
                record.add(BatchJob(cluster=cluster, job_id=self.job_id))

        async def close(self) -> None:
            if self.is_leaving:
                await asyncio.sleep(_LEAVE)
            await super().close()
            self.status = Status.closed
            if record is not None and self.job_id is not None:
                record.remove(self.job_id)

        async def state(self) -> str | None:
            """What the batch system calls the job's state; empty if it has ended, None if there is no answer."""
            try:
                printed = " ".join((await self._call([*state_command, self.job_id])).split())
            except (RuntimeError, OSError) as error:
                return "" if re.search(ended, str(error)) else None
            return "" if re.search(ended, printed) else printed

    return RecordedJob
