"""Slurm."""

from __future__ import annotations

from typing import Any

from dask.utils import parse_bytes

from deployments.clusters.batch import BatchCluster, walltime


class Slurm(BatchCluster):
    """One Slurm task for each rank."""

    jobqueue_class = "SLURMCluster"
    directive_prefix = "#SBATCH"
    state_command = ("squeue", "--noheader", "--format=%T %r", "--jobs")
    ended = r"Invalid job id|^$"
    skipped_directives = ("-n 1", "--cpus-per-task", "--mem=")
    # Otherwise srun, and an mpirun that calls srun, would apply NONE to their steps, which would lack the prologue.
    prologue = ("export SLURM_EXPORT_ENV=ALL",)

    def options(self) -> dict[str, Any]:
        return {"queue": self.site.queue, "account": self.site.account, "walltime": walltime(self.site)}

    def directives(self) -> tuple[str, ...]:
        return (
            f"--ntasks={self.site.ranks}",
            f"--cpus-per-task={self.site.threads}",
            # --mem is that of each node: if the ranks of a job are on several, each would have to have it all.
            f"--mem-per-cpu={-(-parse_bytes(self.site.memory) // (self.site.threads * 2**20))}M",
            # Slurm would start a job again whose node failed, when the run has submitted another for it.
            "--no-requeue",
            # Nothing of the submitting environment is exported: slurmctld would keep a copy on its disk.
            "--export=NONE",
        )
