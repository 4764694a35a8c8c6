"""PBS Professional and OpenPBS."""

from __future__ import annotations

from dask.utils import parse_bytes

from deployments.clusters.batch import BatchSystem, hours
from deployments.clusters.site import Site


def _chunk(site: Site) -> str:
    """All ranks on one host."""
    cores, mebibytes = site.ranks * site.threads, -(-parse_bytes(site.memory) * site.ranks // 2**20)
    return f"select=1:ncpus={cores}:mpiprocs={site.ranks}:ompthreads={site.threads}:mem={mebibytes}mb"


PBS = BatchSystem(
    cluster="PBSCluster",
    options=lambda site: {
        "queue": site.queue,
        "account": site.account,
        "walltime": hours(site),
        "resource_spec": _chunk(site),
    },
    state=("qstat",),
    ended=r"Unknown Job|has finished|\s[CFEX] \S+\s*$|^$",
)
