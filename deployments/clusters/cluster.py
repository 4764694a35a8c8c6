"""What a run needs of the cluster that it computes on."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from s2sr_core.errors import InputError

if TYPE_CHECKING:
    from deployments.clusters.task_runner import ClusterTaskRunner
    from s2sr_core.parameters import RunParameters


class Cluster(Protocol):
    """Where a run's workers are. A class is made from the run's parameters, and starts nothing by that.

    Only :meth:`task_runner` may import Dask: the other methods also serve ``--plan`` and the check of the input.
    """

    def __init__(self, parameters: RunParameters) -> None: ...

    def worker_count(self) -> int:
        """The most workers that the run will have; units of work are cut by it."""
        ...

    def check(self) -> None:
        """Find bad input before any work begins.

        Raises
        ------
        InputError
            For the first thing that is wrong.
        """
        ...

    def that_pays(self, size: int) -> Cluster:
        """The same, perhaps with fewer workers: no more than pay for work on ``size`` bytes of products."""
        return self

    def begin(self) -> None:
        """In a process of the program that has imported the flow, and has no threads yet: start what takes long."""

    def host(self) -> str:
        """Address at which the workers reach this process.

        Raises
        ------
        InputError
            If this machine does not have the network interface that the site file names.
        """
        ...

    def task_runner(self) -> AbstractContextManager[ClusterTaskRunner]:
        """A started task runner; its workers end with the block.

        Raises
        ------
        ClusterError
            If no worker can be had.
        """
        ...

    def job_script(self) -> str:
        """The job script that the run would submit.

        Raises
        ------
        InputError
            If the cluster is not a batch system.
        """
        raise InputError("cluster", self.name, "has no job script", "choose a batch system: slurm, pbs, …")

    #: The value of the parameter ``cluster``.
    name: str
