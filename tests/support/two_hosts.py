"""Two hosts on one machine: network namespaces with a cable between them, and nothing else to reach each other by."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

#: The network interface of both, as a site file names it.
INTERFACE = "s2sr0"


class NotPossibleError(Exception):
    """Why there can be no namespaces here."""


@contextlib.contextmanager
def two_hosts(*addresses: str) -> Iterator[tuple[str, str]]:
    """Names of two namespaces whose interfaces have these addresses, each with its prefix length.

    Raises
    ------
    NotPossibleError
        If this user, or this machine, cannot make them.
    """
    if shutil.which("ip") is None or shutil.which("nsenter") is None:
        raise NotPossibleError("no commands ip and nsenter: apt-get install iproute2 util-linux")
    first, second = (f"s2sr-{os.getpid()}-{letter}" for letter in "ab")
    with contextlib.ExitStack() as made:
        for name in (first, second):
            _ip("netns", "add", name)
            made.callback(_ip, "netns", "delete", name)
        _ip("link", "add", INTERFACE, "netns", first, "type", "veth", "peer", "name", INTERFACE, "netns", second)
        for name, address in zip((first, second), addresses, strict=True):
            more = ["nodad"] if ":" in address else []
            _ip("-n", name, "address", "add", address, "dev", INTERFACE, *more)
            for interface in ("lo", INTERFACE):
                _ip("-n", name, "link", "set", interface, "up")
        yield first, second


def on_host(name: str) -> list[str]:
    """The beginning of a command that runs on this host."""
    return ["nsenter", f"--net=/run/netns/{name}"]


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPossibleError(f"ip {' '.join(words)}: {done.stderr.strip()}")
