"""Grid Engine (SGE, UGE, Open Grid Scheduler)."""

from __future__ import annotations

from deployments.clusters.batch import BatchSystem, hours

SGE = BatchSystem(
    cluster="SGECluster",
    # Parallel environments have names of the site's own: `directives: ["-pe mpi 4"]`.
    options=lambda site: {"queue": site.queue, "project": site.account, "walltime": hours(site)},
    state=("qstat", "-j"),
    ended=r"do not exist|^$",
)
