"""OAR."""

from __future__ import annotations

from typing import Any

from deployments.clusters.batch import BatchCluster, walltime


class Oar(BatchCluster):
    """The property that holds a core's memory has a name of the site's own: ``directives: ["-p memcore>=4096"]``."""

    jobqueue_class = "OARCluster"
    directive_prefix = "#OAR"
    state_command = ("oarstat", "-s", "-j")
    ended = r"Terminated|Error|^$"

    def options(self) -> dict[str, Any]:
        return {
            "queue": self.site.queue,
            "project": self.site.account,
            "walltime": walltime(self.site),
            "memory_per_core_property_name": "not_applicable",
        }
