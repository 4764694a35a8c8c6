"""IBM Spectrum LSF."""

from __future__ import annotations

from deployments.clusters.batch import BatchSystem
from deployments.clusters.site import Site


def _minutes(site: Site) -> str:
    """The walltime as HH:MM, rounded up."""
    minutes = -(-int(site.walltime.total_seconds()) // 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


LSF = BatchSystem(
    cluster="LSFCluster",
    options=lambda site: {
        "queue": site.queue,
        "project": site.account,
        "walltime": _minutes(site),
        "use_stdin": True,
    },
    directives=lambda _site: ('-env "none"',),
    state=("bjobs", "-noheader", "-o", "stat pend_reason"),
    ended=r"^(DONE|EXIT)\b|is not found|^$",
)
