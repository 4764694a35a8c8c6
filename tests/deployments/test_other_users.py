"""What other users of the machine can do and see while a run lasts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import distributed
import httpx
import psutil
import pytest
import shapely
from support.intruder import environments, family, pages, ports, taken_over
from support.waiting import until

from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell
from s2sr_sandbox.archive import make_archive, summer_dates
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.server import Fault, SandboxSettings, running

ROOT = Path(__file__).resolve().parents[2]
CELL = Gridcell("a", shapely.box(-149.61, 68.626, -149.60, 68.634))


def is_worker(process: psutil.Process, run: int) -> bool:
    """Workers are copies of a child of the run's process; its other children have none."""
    with contextlib.suppress(psutil.Error):  # it has ended
        return process.ppid() != run
    return False


def test_the_attempt_succeeds_on_a_cluster_without_keys() -> None:
    """Otherwise it would prove nothing that it fails on a run."""
    with distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        address = cluster.scheduler_address
        ip, _, port = address.removeprefix("tcp://").rpartition(":")
        assert taken_over({(ip, int(port))}) == [address]
        assert pages({("127.0.0.1", cluster.scheduler.http_server.port)})


def test_nobody_without_the_keys_is_answered_and_no_child_knows_the_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that waits for a file, with a server of its own; its worker is killed, and replaced, meanwhile."""
    make_archive(tmp_path / "cdse", Grid.utm(-149.6, 68.63, 80), dates=summer_dates(1), bands=["B04"])
    write_gridcells([CELL], tmp_path / "cells.csv")
    words = ["--bbox", *map(str, CELL.bounds), "--grid-csv", str(tmp_path / "cells.csv"), "--tap", "--bands", "B04"]
    words += ["--start", "2019-06-01", "--end", "2025-01-01", "--work-dir", str(tmp_path / "run"), "--workers", "1"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with running(tmp_path / "cdse", SandboxSettings()) as sandbox:
        sandbox.faults.add(Fault.stall("_B04_20m", after=100, seconds=600))
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        environment = inherited | sandbox.environment() | {"PREFECT_HOME": str(tmp_path / "prefect")}
        password = sandbox.password_file.read_text().strip()
        del environment["CDSE_PASSWORD_FILE"]
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "s2sr_pipeline.py"), *words],
            env=environment | {"CDSE_PASSWORD": password},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            until(lambda: waits(tmp_path / "run", process))
            everybody = family(process.pid)
            found = ports(everybody)
            (worker,) = (child for child in everybody[1:] if is_worker(child, process.pid))
            servers = {port for _, port in ports(child for child in everybody[1:] if child != worker)}
            # The scheduler, a nanny, a worker, the server; and two web servers of Dask, without pages.
            assert len(found) >= 6
            assert servers
            assert {ip for ip, _ in found} == {"127.0.0.1"}
            assert taken_over(found) == []
            assert pages({(ip, port) for ip, port in found if port not in servers}) == []
            for port in servers:
                assert httpx.get(f"http://127.0.0.1:{port}/api/admin/version", timeout=60).status_code == 401

            worker.kill()
            another = until(
                lambda: next((p for p in family(process.pid)[1:] if is_another(p, worker.pid, process.pid)), None)
            )
            seen = environments(family(process.pid)[1:])
            assert another.pid in seen
            assert len(seen) >= 3  # and the server, and multiprocessing's resource tracker
            assert not [pid for pid, text in seen.items() if password in text or "CDSE_" in text]
        finally:
            for member in family(process.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            process.communicate()


def waits(work_dir: Path, process: subprocess.Popen[str]) -> bool:
    """Whether its worker has looked at an SCL image: no band comes after that."""
    assert process.poll() is None, process.communicate()
    return any(work_dir.glob("tmp/decoded/*_occupancy.npz"))


def is_another(process: psutil.Process, pid: int, run: int) -> bool:
    return is_worker(process, run) and process.pid != pid
