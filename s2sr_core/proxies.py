"""Proxies of the environment (``HTTP_PROXY`` and the like) are for other networks, not for the machines of a run.

A run speaks HTTP to servers of its own: Prefect's on this machine or at the address of the flow's process, and the
sandbox. A proxy cannot reach them. Clients read ``no_proxy`` from the environment, and so do the processes that a
process starts. Importing any part of this project exempts this machine.

This module imports as little as possible, as :mod:`s2sr_core.import_path` does.
"""

from __future__ import annotations

import os

#: The names of this machine.
LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: Clients read one or the other, most of them the first.
VARIABLES = ("no_proxy", "NO_PROXY")


def exempt_from_proxies(*hosts: str) -> None:
    """From now on neither this process nor one that it starts asks a proxy for these hosts."""
    listed = [entry.strip() for name in VARIABLES for entry in os.environ.get(name, "").split(",")]
    entries = list(dict.fromkeys(entry for entry in (*listed, *hosts) if entry))
    for name in VARIABLES:
        os.environ[name] = "*" if "*" in entries else ",".join(entries)
