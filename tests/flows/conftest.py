"""A Prefect server for the tests of flows, and little archives to run on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import shapely
from support import prefect_server as server
from support.pauses import shorten_pauses
from support.scenes import product_name, write_scene

from deployments.clusters.local import ThisMachine
from flows.dataflow import Threads
from s2sr_core.cells.gridcells import Gridcell
from s2sr_sandbox.grid import Grid


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    with server.prefect_server():
        yield


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_pauses(monkeypatch)


@pytest.fixture
def workers_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What workers compute is computed in threads of this process: to start one costs more than all that it does."""
    monkeypatch.setattr(ThisMachine, "task_runner", lambda machine: Threads(machine.worker_count()))


@pytest.fixture
def cells() -> list[Gridcell]:
    return [
        Gridcell("a", shapely.box(-149.61, 68.625, -149.60, 68.635)),
        Gridcell("b", shapely.box(-149.60, 68.625, -149.59, 68.635)),
        Gridcell("away", shapely.box(-149.2, 68.3, -149.19, 68.31)),
    ]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    rng, grid = np.random.default_rng(0), Grid.utm(-149.6, 68.63, 100, zone=5)
    for number, baseline in enumerate(("02.14", "05.09", "04.00")):
        write_scene(tmp_path / "archive", product_name(number, baseline=baseline), grid, rng, ("B04", "B11"))
    return tmp_path / "archive"
