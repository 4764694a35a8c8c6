"""Clusters that the pipeline computes on, one module each: this machine, MPI ranks, batch systems."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deployments.mpi.launched_rank import place
from s2sr_core.errors import InputError
from s2sr_core.parameters import RunParameters
from s2sr_core.workspace import Workspace

if TYPE_CHECKING:
    from deployments.clusters.batch import BatchSystem
    from deployments.clusters.task_runner import ClusterRunner


def worker_count(parameters: RunParameters) -> int:
    """The most workers that the run will have, by which units are cut.

    Raises
    ------
    InputError
        Where the site file is bad.
    """
    from deployments.clusters.local import worker_count as of_this_machine
    from deployments.clusters.site import read_site

    if parameters.cluster == "mpi" and place().size > 1:
        return place().size - 1
    if parameters.cluster in ("local", "mpi"):
        return of_this_machine(parameters.workers)
    return read_site(parameters.site).workers


def check_cluster(parameters: RunParameters) -> None:
    """Look at the site file, and at what the batch system makes of it, before any work.

    Raises
    ------
    InputError
        For the first thing that is wrong.
    """
    if parameters.cluster == "local":
        return
    from deployments.clusters.mpi import address
    from deployments.clusters.site import read_site

    address(read_site(parameters.site), is_one_host=True)
    if parameters.cluster != "mpi":
        script_of(parameters)


def host_of(parameters: RunParameters) -> str:
    """Where the run's workers can reach this process."""
    if parameters.cluster == "local":
        return "127.0.0.1"
    from deployments.clusters import mpi
    from deployments.clusters.site import read_site

    site = read_site(parameters.site)
    return mpi.host(site) if parameters.cluster == "mpi" else mpi.address(site)


@contextlib.contextmanager
def cluster_runner(parameters: RunParameters) -> Iterator[ClusterRunner]:
    """A started task runner on the run's cluster, which lives as long as the block."""
    from deployments.clusters.site import read_site

    if parameters.cluster == "local":
        from deployments.clusters.local import local_runner

        with local_runner(parameters.workers) as runner:
            yield runner
    elif parameters.cluster == "mpi":
        from deployments.clusters.mpi import mpi_runner

        with mpi_runner(read_site(parameters.site), parameters.work_dir) as runner:
            yield runner
    else:
        system, site = _system(parameters.cluster), read_site(parameters.site)
        from deployments.clusters.batch import batch_runner

        with batch_runner(system, site, Workspace(parameters.work_dir)) as runner:
            yield runner


def script_of(parameters: RunParameters) -> str:
    """The job script that the run would submit.

    Raises
    ------
    InputError
        Where its cluster has none.
    """
    from deployments.clusters.site import read_site

    if parameters.cluster in ("local", "mpi"):
        raise InputError("cluster", parameters.cluster, "has no job script", "give a batch system: slurm, pbs, …")
    system = _system(parameters.cluster)
    from deployments.clusters.batch import job_script

    return job_script(system, read_site(parameters.site), Workspace(parameters.work_dir))


def _system(name: str) -> BatchSystem:
    """``SLURM`` of ``deployments.clusters.slurm``, and so on."""
    system: BatchSystem = getattr(importlib.import_module(f"deployments.clusters.{name}"), name.upper())
    return system
