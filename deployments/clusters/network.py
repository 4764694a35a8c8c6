"""At which address workers reach this process."""

from __future__ import annotations

from s2sr_core.errors import InputError

LOOPBACK = "127.0.0.1"


def address_of_this_machine(interface: str | None) -> str:
    """The IP address of a network interface; without one, that of the default route.

    Raises
    ------
    InputError
        If this machine has no such interface.
    """
    from distributed.utils import get_ip, get_ip_interface

    if interface is None:
        return str(get_ip())
    try:
        return str(get_ip_interface(interface))
    except ValueError as error:
        raise InputError(
            "interface", interface, "is not a network interface of this machine", "list them with: ip address"
        ) from error
