"""OAR."""

from __future__ import annotations

from deployments.clusters.batch import BatchSystem, hours

OAR = BatchSystem(
    cluster="OARCluster",
    # The property that holds a core's memory has a name of the site's own: `directives: ["-p memcore>=4096"]`.
    options=lambda site: {
        "queue": site.queue,
        "project": site.account,
        "walltime": hours(site),
        "memory_per_core_property_name": "not_applicable",
    },
    state=("oarstat", "-s", "-j"),
    ended=r"Terminated|Error|^$",
)
