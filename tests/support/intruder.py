"""Another user of the machine: finds the ports of a run and tries to have its processes run code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import distributed
import httpx
import psutil

from deployments.clusters.security import security_of_run

#: Seconds for each attempt: an answer on loopback takes milliseconds, and some servers wait for more of a request.
_PATIENCE = 5.0
#: What Dask's scheduler and workers serve, and its dashboard.
_PAGES = ("status", "info/main/workers.html", "json/identity.json", "health", "metrics")


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it started, as far as they live."""
    first = psutil.Process(pid)
    return [first, *first.children(recursive=True)]


def ports(processes: Iterable[psutil.Process]) -> set[tuple[str, int]]:
    """Where these processes listen, as far as they live: address and port."""
    found: set[tuple[str, int]] = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    found.add((connection.laddr.ip, connection.laddr.port))
    return found


def taken_over(where: Iterable[tuple[str, int]]) -> list[str]:
    """The addresses at which a Dask server answers another process, which has not the run's keys.

    It comes without TLS, with TLS and no certificate, and with keys of its own.
    """
    words = [sys.executable, "-P", __file__, json.dumps(sorted(where))]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    addresses: list[str] = json.loads(done.stdout)
    return addresses


async def _try_all(where: Iterable[tuple[str, int]]) -> list[str]:
    foreign = security_of_run().get_connection_args("client")["ssl_context"]
    attempts: list[tuple[str, dict[str, Any]]] = [("tcp", {})]
    for context in (ssl.create_default_context(), foreign):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it trusts anybody
        attempts.append(("tls", {"ssl_context": context}))
    addresses = [(f"{protocol}://{ip}:{port}", more) for ip, port in where for protocol, more in attempts]
    answers = await asyncio.gather(*(_answer(address, **more) for address, more in addresses))
    return [address for (address, _), answer in zip(addresses, answers, strict=True) if answer]


async def _answer(address: str, **connection: Any) -> bool:
    """Whether a Dask server says who it is: whoever gets that far can also have it run a function."""
    try:
        async with asyncio.timeout(_PATIENCE):
            comm = await distributed.comm.connect(address, timeout=_PATIENCE, **connection)
            try:
                return bool(await distributed.core.send_recv(comm, op="identity"))
            finally:
                comm.abort()
    except (OSError, TimeoutError, ValueError):
        return False


def pages(where: Iterable[tuple[str, int]]) -> list[str]:
    """Pages of Dask that are shown to anybody."""
    shown = []
    for ip, port in where:
        for page in _PAGES:
            url = f"http://{ip}:{port}/{page}"
            try:
                if httpx.get(url, timeout=_PATIENCE, trust_env=False, follow_redirects=True).is_success:
                    shown.append(url)
            except httpx.HTTPError:
                break  # no web server
    return shown


def environments(processes: Iterable[psutil.Process]) -> dict[int, str]:
    """What the system shows of the environment of each process, by process id."""
    found = {}
    for process in processes:
        try:
            found[process.pid] = Path(f"/proc/{process.pid}/environ").read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
    return found


if __name__ == "__main__":
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    print(json.dumps(asyncio.run(_try_all(json.loads(sys.argv[1])))))
