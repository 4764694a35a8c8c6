"""What a run brings to the workers of a Dask cluster that is not its own, and takes with it at the end.

It is a plugin, so that workers that join later get it, too: their number in the run, GDAL's settings, and the check
that they see the work folder.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

from s2sr_core import __version__
from s2sr_core.assigned_rank import assign_rank, assigned_rank, withdraw_rank
from s2sr_core.errors import InputError
from s2sr_core.proxies import VARIABLES, exempt_from_proxies

#: Seconds within which a worker must see the token: clients of NFS keep for up to 30 s what a folder does not hold.
PATIENCE = 40.0


def versions() -> dict[str, str]:
    """Of what makes the pixels, in this process."""
    from s2sr_core.geo.gdal_runtime import gdal

    return {"s2sr": __version__, "GDAL": gdal.__version__}


class Guest(WorkerPlugin):  # type: ignore[misc]  # distributed has no types
    """Makes a worker one of the run's.

    Parameters
    ----------
    work_dir
        The folder of the run.
    folder
        A folder in it, with a file named ``token``; a worker takes its number by making a file of that name there.
    versions
        Those of :func:`versions` where the flow is.
    hosts
        That no proxy is asked for: those of the run's servers.
    """

    def __init__(
        self, work_dir: Path, folder: Path, token: str, versions: Mapping[str, str], hosts: tuple[str, ...]
    ) -> None:
        self._work_dir, self._folder, self._token, self._versions = work_dir, folder, token, versions
        self._hosts, self._patience = hosts, PATIENCE
        self._proxies: dict[str, str | None] = {}
        self._is_set_up = False

    async def setup(self, worker: Any) -> None:
        """Check the worker and give it its number.

        Raises
        ------
        InputError
            If it cannot work for the run.
        """
        address = str(worker.address)
        here = versions()
        if wrong := [name for name in here if here[name] != self._versions.get(name)]:
            listed = ", ".join(f"{name} {here[name]} (the flow: {self._versions.get(name)})" for name in wrong)
            raise InputError("scheduler", address, f"is a worker with {listed}", "install the same on all machines")
        if worker.state.nthreads != 1 or assigned_rank(self._work_dir) is not None:
            raise InputError(
                "scheduler",
                address,
                f"is a worker with {worker.state.nthreads} threads, or not the only one of its process; GDAL needs a "
                "process for each unit",
                "start workers with --nthreads 1, and as many as there are cores with --nworkers",
            )
        await self._see_work_dir(address)
        from s2sr_core.geo import gdal_runtime

        self._proxies = {name: os.environ.get(name) for name in VARIABLES}
        exempt_from_proxies(*self._hosts)
        gdal_runtime.configure()
        assign_rank(self._work_dir, self._number())
        self._is_set_up = True

    def teardown(self, worker: Any) -> None:  # Dask's signature
        """Leave the worker as it was."""
        if not self._is_set_up:
            return
        from s2sr_core.geo import gdal_runtime

        gdal_runtime.restore()
        for name, value in self._proxies.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        withdraw_rank(self._work_dir)

    async def _see_work_dir(self, address: str) -> None:
        deadline = time.monotonic() + self._patience
        while not (self._folder / self._token).exists():
            if time.monotonic() > deadline:
                raise InputError(
                    "work_dir",
                    self._work_dir,
                    f"is not seen by the worker {address}",
                    "give a folder on a filesystem that all workers share, under the same path",
                )
            await asyncio.sleep(1.0)

    def _number(self) -> int:
        """The first number that no other worker has: making a file is a single step, also on a shared filesystem."""
        number = 1
        while True:
            try:
                (self._folder / str(number)).touch(exist_ok=False)
            except FileExistsError:
                number += 1
            else:
                return number
