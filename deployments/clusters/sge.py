"""Grid Engine (SGE, UGE, Open Grid Scheduler)."""

from __future__ import annotations

from typing import Any

from deployments.clusters.batch import BatchCluster, walltime


class GridEngine(BatchCluster):
    """Parallel environments have names of the site's own: ``directives: ["-pe mpi 4"]``."""

    jobqueue_class = "SGECluster"
    directive_prefix = "#$"
    state_command = ("qstat", "-j")
    ended = r"do not exist|^$"

    def options(self) -> dict[str, Any]:
        return {"queue": self.site.queue, "project": self.site.account, "walltime": walltime(self.site)}
