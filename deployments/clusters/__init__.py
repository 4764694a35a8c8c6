"""Clusters that the pipeline computes on: this machine, MPI ranks, batch systems, an existing cluster.

Each is a class with the methods of :class:`~deployments.clusters.cluster.Cluster`, in a module of its own.
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deployments.clusters.cluster import Cluster
    from s2sr_core.parameters import RunParameters

#: Where the class of each value of the parameter ``cluster`` is. It is imported only if a run uses it.
CLUSTERS = {
    "local": "deployments.clusters.local:ThisMachine",
    "mpi": "deployments.clusters.mpi:MpiRanks",
    "slurm": "deployments.clusters.slurm:Slurm",
    "pbs": "deployments.clusters.pbs:Pbs",
    "lsf": "deployments.clusters.lsf:Lsf",
    "sge": "deployments.clusters.sge:GridEngine",
    "oar": "deployments.clusters.oar:Oar",
    "htcondor": "deployments.clusters.htcondor:HTCondor",
    "dask": "deployments.clusters.existing:ExistingDask",
}


def cluster_of(parameters: RunParameters) -> Cluster:
    """The cluster that a run computes on.

    Raises
    ------
    InputError
        If the site file is bad.
    """
    cluster: Cluster = pkgutil.resolve_name(CLUSTERS[parameters.cluster])(parameters)
    return cluster
