"""HTCondor. All ranks of a job run on one machine, in one slot of as many cores."""

from __future__ import annotations

from deployments.clusters.batch import BatchSystem
from deployments.clusters.site import Site


def _pairs(lines: list[str]) -> dict[str, str]:
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def _limits(site: Site) -> tuple[str, ...]:
    limits = [f"+MaxRuntime = {int(site.walltime.total_seconds())}", "getenv = false"]
    if site.account:
        limits.append(f"accounting_group = {site.account}")
    if site.queue:
        limits.append(f'+Queue = "{site.queue}"')
    return tuple(limits)


HTCONDOR = BatchSystem(
    cluster="HTCondorCluster",
    options=lambda _site: {"disk": "1GB"},
    directives=_limits,
    as_directives=_pairs,
    # 1 idle, 2 running, 5 held; 3 and 4 have ended.
    state=("condor_q", "-format", "%d", "JobStatus"),
    ended=r"^[34]$|^$",
)
