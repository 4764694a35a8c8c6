"""PBS Professional and OpenPBS."""

from __future__ import annotations

from typing import Any

from dask.utils import parse_bytes

from deployments.clusters.batch import BatchCluster, walltime


class Pbs(BatchCluster):
    """All ranks of a job are on one host."""

    jobqueue_class = "PBSCluster"
    longest_name = 15  # more are refused before PBS 14
    directive_prefix = "#PBS"
    state_command = ("qstat",)
    job_id = r"\d{1,20}(\[\d*\])?(\.[\w.-]{1,255})?"
    ended = r"Unknown Job|has finished|\s[CFEX] \S+\s*$|^$"

    def options(self) -> dict[str, Any]:
        site = self.site
        cores, mebibytes = site.ranks * site.threads, -(-parse_bytes(site.memory) * site.ranks // 2**20)
        return {
            "queue": site.queue,
            "account": site.account,
            "walltime": walltime(site),
            "resource_spec": (
                f"select=1:ncpus={cores}:mpiprocs={site.ranks}:ompthreads={site.threads}:mem={mebibytes}mb"
            ),
        }
