"""HTCondor."""

from __future__ import annotations

from typing import Any

import dask.config

from deployments.clusters.batch import BatchCluster


class HTCondor(BatchCluster):
    """All ranks of a job run on one machine, in one slot of as many cores."""

    jobqueue_class = "HTCondorCluster"
    # 1 idle, 2 running, 5 held; 3 and 4 have ended.
    state_command = ("condor_q", "-format", "%d", "JobStatus")
    ended = r"^[34]$|^$"
    job_id = r"\d{1,20}(\.\d{1,20})?"

    @classmethod
    def cancel_command(cls) -> tuple[str, ...]:
        # What a user's dask-jobqueue settings add is the pool or the scheduler's name.
        command = super().cancel_command()
        return (*command, *(dask.config.get("jobqueue.htcondor.cancel-command-extra", None) or ()))

    def options(self) -> dict[str, Any]:
        return {"disk": "1GB"}

    def directives(self) -> tuple[str, ...]:
        limits = [f"+MaxRuntime = {int(self.site.walltime.total_seconds())}", "getenv = false"]
        if self.site.account:
            limits.append(f"accounting_group = {self.site.account}")
        if self.site.queue:
            limits.append(f'+Queue = "{self.site.queue}"')
        return tuple(limits)

    def as_directives(self, lines: list[str]) -> dict[str, str]:
        return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
