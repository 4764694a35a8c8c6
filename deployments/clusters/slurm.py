"""Slurm."""

from __future__ import annotations

from deployments.clusters.batch import BatchSystem, hours

SLURM = BatchSystem(
    cluster="SLURMCluster",
    options=lambda site: {"queue": site.queue, "account": site.account, "walltime": hours(site)},
    # One task a rank. Nothing of the submitting environment is exported: slurmctld would keep a copy on its disk.
    directives=lambda site: (f"--ntasks={site.ranks}", f"--cpus-per-task={site.threads}", "--export=NONE"),
    skip=("-n 1", "--cpus-per-task"),
    # Else srun, and mpirun where it calls srun, would take NONE for their steps, which would lack the prologue.
    prologue=("export SLURM_EXPORT_ENV=ALL",),
    state=("squeue", "--noheader", "--format=%T %r", "--jobs"),
    ended=r"Invalid job id|^$",
)
