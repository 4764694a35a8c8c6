from __future__ import annotations

import socket
import stat
from pathlib import Path

import distributed
import psutil
import pytest

from deployments.clusters import security
from deployments.clusters.network import address_of_this_machine, address_towards
from deployments.clusters.security import check_clock, check_scheduler, files_in, keys_in, security_of_run
from s2sr_core.errors import ClusterError, InputError


def test_keys_in_files_are_private_and_last_as_long_as_the_block(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "tmp" / "keys"
    certificate, key = files_in(folder)

    def interrupted() -> None:
        with keys_in(folder) as made:
            look(made)
            raise KeyboardInterrupt

    def look(made: distributed.Security) -> None:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert [stat.S_IMODE(path.stat().st_mode) for path in (certificate, key)] == [0o600, 0o600]
        assert made.get_tls_config_for_role("worker")["key"] == str(key)
        check_clock(made)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not folder.exists()


def test_keys_that_a_killed_run_left_are_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "tmp" / "keys"
    folder.mkdir(parents=True)
    (folder / "key.pem").write_text("of the run before")
    with keys_in(folder):
        assert "of the run before" not in (folder / "key.pem").read_text()


def test_a_clock_that_is_wrong_by_days_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the keys were made on a machine whose clock is two days ahead."""
    monkeypatch.setattr(security, "CLOCKS", -2 * security.CLOCKS)
    message = r"^clock = '.*': on this machine is not near that of the machine with"
    with keys_in(tmp_path / "run" / "tmp" / "keys") as made, pytest.raises(InputError, match=message):
        check_clock(made)


def test_a_scheduler_is_there_or_is_not_or_is_another_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "_PAUSE", 0)
    own = security_of_run()
    with distributed.LocalCluster(n_workers=0, security=own, dashboard_address="127.0.0.1:0") as cluster:
        address = cluster.scheduler_address
        check_scheduler(address, own)
        with pytest.raises(ClusterError, match="CERTIFICATE_VERIFY_FAILED"):
            check_scheduler(address, security_of_run())
    with pytest.raises(ClusterError, match=r"does not answer at .* \(Connection refused\): the run .* has ended"):
        check_scheduler(address, own)


def test_this_machines_address_on_the_way_to_another() -> None:
    assert address_towards("127.0.0.1") == "127.0.0.1"
    assert address_of_this_machine("lo") == "127.0.0.1"


def test_an_interface_with_ipv6_alone_is_used_and_one_without_an_address_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def of(family: int, address: str) -> psutil._ntp.snicaddr:
        return psutil._ntp.snicaddr(family, address, None, None, None)

    interfaces = {
        "ib0": [of(psutil.AF_LINK, "80:00"), of(socket.AF_INET6, "fe80::1%ib0"), of(socket.AF_INET6, "fd00::7")],
        "ib1": [of(socket.AF_INET6, "fe80::2%ib1")],
        "eth0": [of(socket.AF_INET6, "fd00::8"), of(socket.AF_INET, "10.0.0.8")],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: interfaces)
    assert address_of_this_machine("ib0") == "fd00::7"
    assert address_of_this_machine("eth0") == "10.0.0.8"
    with pytest.raises(InputError, match=r"^interface = 'ib1': has no IPv4 address, and no IPv6 address that other"):
        address_of_this_machine("ib1")
    with pytest.raises(InputError, match=r"not a network interface of this machine; choose one of eth0, ib0, ib1\.$"):
        address_of_this_machine("ib2")
