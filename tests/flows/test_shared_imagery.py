"""One folder of downloads for several runs: two at the same time, then the folder as an archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import shapely

from flows.pipeline import pipeline
from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.workspace import Workspace
from s2sr_sandbox.archive import make_archive
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.server import SandboxSettings, running

CELL = Gridcell("a", shapely.box(-149.61, 68.626, -149.59, 68.634))


@pytest.mark.usefixtures("workers_here")
def test_work_folders_share_downloads_and_the_folder_is_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_archive(tmp_path / "cdse", Grid.utm(-149.6, 68.63, 80), seed=3, bands=["B04"])
    write_gridcells([CELL], tmp_path / "cells.csv")
    fields: dict[str, Any] = {
        "bbox": CELL.polygon.bounds,
        "grid_csv": tmp_path / "cells.csv",
        "start": "2019-06-01",
        "end": "2025-01-01",
        "bands": ["B04"],
        "tap": True,
        "workers": 1,
        "download_connections": 2,
    }
    imagery = tmp_path / "shared"
    with running(tmp_path / "cdse", SandboxSettings(connections=2)) as server:
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        state = pipeline(**fields, work_dir=tmp_path / "first", imagery=imagery, return_state=True)
        assert state.name == "Completed", state.message
        assert not Workspace(tmp_path / "first").imagery_raw.exists()
        asked = len(server.byte_requests())
        state = pipeline(**fields, work_dir=tmp_path / "second", imagery=imagery, return_state=True)
        assert state.name == "Completed", state.message
        assert len(server.byte_requests()) == asked
    composites = [Workspace(tmp_path / name).composite("a", "B04").read_bytes() for name in ("first", "second")]
    assert composites[0] == composites[1]

    state = pipeline(**fields, work_dir=tmp_path / "third", source=imagery, return_state=True)
    assert state.name == "Completed", state.message
    index = pd.read_csv(Workspace(tmp_path / "third").scene_index, keep_default_na=False)
    assert index["status"].value_counts().to_dict() == {"selected": 6, "no bands": 1}
    assert index.loc[index["status"] == "no bands", "reason"].tolist() == [
        "SCL alone is there: the run that downloaded it did not need its bands"
    ]
