"""A run on a machine that reaches other networks by a proxy only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import shapely

from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.workspace import Workspace
from s2sr_sandbox.archive import make_archive
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.server import SandboxSettings, running

ROOT = Path(__file__).resolve().parents[2]


def test_products_come_through_the_proxy_and_nothing_else_goes_there(tmp_path: Path) -> None:
    """The proxy forwards to CDSE's hosts alone: a request to the run's own server would be refused by it."""
    make_archive(tmp_path / "cdse", Grid.utm(-149.6, 68.63, 60), dates=1, bands=["B04"])
    write_gridcells([Gridcell("a", shapely.box(-149.61, 68.626, -149.60, 68.634))], tmp_path / "cells.csv")
    options = {
        "bbox": "-149.61 68.626 -149.60 68.634",
        "grid-csv": "cells.csv",
        "start": "2015-01-01",
        "end": "2030-01-01",
        "work-dir": "run",
        "bands": "B04",
        "scl-mask": "0",
        "workers": "1",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", *value.split())]
    with running(tmp_path / "cdse", SandboxSettings(proxy=True)) as sandbox:
        account = {name: value for name, value in sandbox.environment().items() if name.startswith("CDSE_")}
        proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), str(sandbox.proxy_url))
        given = {key: value for key, value in os.environ.items() if key.lower() != "no_proxy"}
        done = subprocess.run(
            [sys.executable, str(ROOT / "s2sr_pipeline.py"), *words],
            cwd=tmp_path,
            env=given | account | proxies | sandbox.proxy_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
        assert {request.host for request in sandbox.requests} == {"catalogue", "identity", "download"}
    index = pd.read_csv(Workspace(tmp_path / "run").composite_index)
    assert index[["cell_id", "band", "status"]].to_numpy().tolist() == [["a", "B04", "written"]]
