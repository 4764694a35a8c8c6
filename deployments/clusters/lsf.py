"""IBM Spectrum LSF."""

from __future__ import annotations

from typing import Any

from deployments.clusters.batch import BatchCluster


class Lsf(BatchCluster):
    """LSF counts the walltime in minutes."""

    jobqueue_class = "LSFCluster"
    directive_prefix = "#BSUB"
    state_command = ("bjobs", "-noheader", "-o", "stat pend_reason")
    ended = r"^(DONE|EXIT)\b|is not found|^$"

    def options(self) -> dict[str, Any]:
        minutes = -(-int(self.site.walltime.total_seconds()) // 60)
        return {
            "queue": self.site.queue,
            "project": self.site.account,
            "walltime": f"{minutes // 60:02d}:{minutes % 60:02d}",
            "use_stdin": True,
        }

    def directives(self) -> tuple[str, ...]:
        return ('-env "none"',)
