"""The Dask worker of one MPI rank: the MPI launcher starts one for each rank of a batch job.

dask-jobqueue writes the call, with the options that it would give to ``dask worker``::

    mpirun -n 4 python -P -m deployments.mpi.worker tls://10.0.0.1:38211 --name job-0 --nthreads 1 …
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import logging
import os
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distributed import Security, Worker
from distributed.comm import get_address_host
from distributed.core import Status

from deployments.clusters.network import LOOPBACK, address_of_this_machine, address_towards, in_url
from deployments.clusters.security import check_clock, check_scheduler, security_of, without_pages
from deployments.mpi.launched_rank import launched_rank
from s2sr_core.errors import ClusterError, InputError
from s2sr_core.logs import logged_to
from s2sr_core.proxies import exempt_from_proxies
from s2sr_core.workspace import Workspace

logger = logging.getLogger("s2sr_core.worker")

_PAUSE = 0.5


def job_of(worker: str) -> str:
    """The name of the job that a worker belongs to."""
    return worker.rpartition("-rank")[0]


def number_of(job: str, rank: int, ranks: int) -> int:
    """The number of the worker that is rank ``rank`` of ``ranks`` of a job.

    No other worker of the run has it. Numbers begin with 1: 0 is the flow's process.
    """
    job_number = re.search(r"(\d+)$", job)
    return 1 + (int(job_number[1]) if job_number else 0) * ranks + rank


async def work_for(
    scheduler: str, number: int, work_dir: Path, *, job: str = "", interface: str | None = None, **options: Any
) -> None:
    """Be the worker ``number`` of ``scheduler`` until that closes, or this worker's ``lifetime`` (seconds) is over.

    It listens on ``interface``, by default on the one by which it reaches the scheduler. Units run one at a time, as
    everywhere. Dask sets no memory limit, because the batch system has one.
    """
    # The Prefect server of the run is on the scheduler's machine; a job's environment may name a proxy.
    exempt_from_proxies(urlsplit(scheduler).hostname or "")
    lifetime = options.pop("lifetime", None)
    log = Workspace(work_dir).log(number)
    with logged_to(log):
        logger.info(
            "rank %d%s: process %d on %s", number, f" of {job}" if job else "", os.getpid(), socket.gethostname()
        )
    # The first unit would import these, which from a shared filesystem can take longer than the scheduler waits.
    importlib.import_module("prefect.main")
    importlib.import_module("prefect.task_engine")
    host = address_towards(get_address_host(scheduler)) if interface is None else address_of_this_machine(interface)
    worker = Worker(
        scheduler,
        name=f"{job}-rank{number}",
        nthreads=1,
        memory_limit=0,
        host=in_url(host),
        dashboard_address=f"{LOOPBACK}:0",
        **options,
    )
    with without_pages():
        await worker
    async with worker:
        retiring = asyncio.create_task(_retire(worker, lifetime, log)) if lifetime else None
        await worker.finished()
        if retiring is not None:
            retiring.cancel()


async def _retire(worker: Worker, lifetime: float, log: Path) -> None:
    """After ``lifetime`` seconds take no more units, finish the one that runs, and close."""
    await asyncio.sleep(lifetime)
    worker.status = Status.paused
    while worker.state.executing_count or worker.state.long_running or worker.data:
        await asyncio.sleep(_PAUSE)
    with logged_to(log):
        logger.info("lifetime is over")
    await worker.close_gracefully(reason="lifetime is over")


def main() -> int:
    """Start the worker of this rank; returns the exit code."""
    parser = argparse.ArgumentParser(prog="deployments.mpi.worker", description=__doc__, allow_abbrev=False)
    parser.add_argument("scheduler")
    parser.add_argument("--name", required=True, help="name of the job")
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--ranks", type=int, required=True, help="ranks of a job")
    parser.add_argument("--lifetime", type=float, help="seconds")
    parser.add_argument("--lifetime-stagger", type=float, default=0.0, help="seconds")
    parser.add_argument("--death-timeout", type=float, help="seconds to wait for the scheduler")
    parser.add_argument("--local-directory")
    parser.add_argument("--interface")
    parser.add_argument("--protocol")
    parser.add_argument("--tls-ca-file")
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    for ignored in ("--nthreads", "--memory-limit"):
        parser.add_argument(ignored, help="written by dask-jobqueue; has no effect")
    given = parser.parse_args()
    launched = launched_rank()
    if launched.rank >= given.ranks:
        print(
            f"rank {launched.rank}: the launcher started more than the {given.ranks} ranks of the site file; "
            "use {ranks} in its launcher",
            file=sys.stderr,
        )
        return 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("distributed").setLevel(logging.ERROR)
    number = number_of(given.name, launched.rank, given.ranks)
    try:
        security = _security(given)
        check_scheduler(given.scheduler, security)
    except (InputError, ClusterError) as error:
        print(f"rank {launched.rank}: {error}", file=sys.stderr)
        return 1
    if given.local_directory:
        os.environ["CPL_TMPDIR"] = given.local_directory
    lifetime = given.lifetime
    if lifetime:
        lifetime += given.lifetime_stagger * (2 * _share(number) - 1)
    asyncio.run(
        work_for(
            given.scheduler,
            number,
            given.work_dir,
            job=given.name,
            lifetime=lifetime,
            security=security,
            interface=given.interface,
            protocol=given.protocol,
            death_timeout=given.death_timeout,
            local_directory=given.local_directory,
        )
    )
    return 0


def _security(given: argparse.Namespace) -> Security | None:
    """The keys of the run, which are in files while the run lasts.

    Raises
    ------
    ClusterError
        If they are not there any more.
    InputError
        If the clock of this machine does not allow them.
    """
    if not given.tls_ca_file:
        return None
    security = security_of(given.tls_cert, given.tls_key)
    try:
        check_clock(security)
    except FileNotFoundError as error:
        raise ClusterError(f"{given.tls_ca_file} is not there: the run that submitted this job has ended") from error
    return security


def _share(number: int) -> float:
    """A value from 0 to 1 for each worker, evenly spread (multiples of the golden ratio)."""
    return number * 0.6180339887498949 % 1.0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads that are still in GDAL must not keep a job alive
