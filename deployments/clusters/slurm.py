"""Slurm."""

from __future__ import annotations

from typing import Any

from deployments.clusters.batch import BatchCluster, walltime


class Slurm(BatchCluster):
    """One Slurm task for each rank."""

    jobqueue_class = "SLURMCluster"
    state_command = ("squeue", "--noheader", "--format=%T %r", "--jobs")
    ended = r"Invalid job id|^$"
    skipped_directives = ("-n 1", "--cpus-per-task")
    # Otherwise srun, and an mpirun that calls srun, would apply NONE to their steps, which would lack the prologue.
    prologue = ("export SLURM_EXPORT_ENV=ALL",)

    def options(self) -> dict[str, Any]:
        return {"queue": self.site.queue, "account": self.site.account, "walltime": walltime(self.site)}

    def directives(self) -> tuple[str, ...]:
        # Nothing of the submitting environment is exported: slurmctld would keep a copy on its disk.
        return f"--ntasks={self.site.ranks}", f"--cpus-per-task={self.site.threads}", "--export=NONE"
