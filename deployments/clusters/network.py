"""At which address workers reach this process, and which way they take."""

from __future__ import annotations

import socket

from s2sr_core.errors import InputError

LOOPBACK = "127.0.0.1"


def address_of_this_machine(interface: str | None) -> str:
    """The IP address of a network interface: IPv4 if it has one; without an interface, that of the default route.

    Raises
    ------
    InputError
        If this machine has no such interface, or if it has no address.
    """
    if interface is None:
        from distributed.utils import get_ip

        return str(get_ip())
    import psutil

    interfaces = psutil.net_if_addrs()
    if interface not in interfaces:
        listed = ", ".join(sorted(interfaces))
        raise InputError(
            "interface", interface, "is not a network interface of this machine", f"choose one of {listed}"
        )
    families = {
        family: [found.address for found in interfaces[interface] if found.family == family]
        for family in (socket.AF_INET, socket.AF_INET6)
    }
    # An address that begins with fe80 holds on one link, and is nothing without the interface's name on the other side.
    wide = [address for address in families[socket.AF_INET6] if not address.lower().startswith("fe80")]
    for address in (*families[socket.AF_INET], *wide):
        return str(address)
    raise InputError(
        "interface",
        interface,
        "has no IPv4 address, and no IPv6 address that other machines reach",
        "choose another, or have one assigned",
    )


def address_towards(host: str) -> str:
    """The address of this machine from which packets to ``host``, an address or a name, leave it."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)  # of a datagram socket: nothing is sent
        return str(probe.getsockname()[0])


def in_url(host: str) -> str:
    """An IP address as it is written in a URL, and as Dask wants that of a host: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host
