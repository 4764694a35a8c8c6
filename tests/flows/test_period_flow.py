"""A whole flow with periods, from a source of which products are fetched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from support.scenes import parameters_for, pixels, product_name, run, write_scene
from support.shelf import Shelf

import flows.pipeline
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.verify import verify
from s2sr_core.outputs.summary import Summary
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid


def test_a_run_with_periods_fetches_each_product_once_and_composites_as_runs_of_each_would(
    tmp_path: Path, cells: list[Gridcell], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products of 1 and 31 July and of 5 August; nothing of June."""
    rng, grid = np.random.default_rng(5), Grid.utm(-149.6, 68.63, 100, zone=5)
    names = [product_name(number) for number in (0, 6, 7)]
    scenes = {name: dict(write_scene(tmp_path / "archive", name, grid, rng)) for name in names}
    asked: list[tuple[str, tuple[str, ...]]] = []

    class Counting(Shelf):
        def find(self, *args):
            return (found for found in super().find(*args) if getattr(found, "path", 0) is None)

        def fetch(self, product, bands, windows=None):
            asked.append((str(product.name), tuple(bands)))
            return super().fetch(product, bands)

    window = {"start": "2019-06-20", "end": "2019-09-01", "every": "month"}
    chosen = parameters_for(
        tmp_path, tmp_path / "archive", cells, workers=2, quicklook=True, months="6-8", **window
    ).model_copy(update={"source": None})
    workspace = Workspace(chosen.work_dir)
    monkeypatch.setattr(flows.pipeline, "source_of", lambda _: Counting(scenes, grid, workspace.imagery_raw))
    state = flows.pipeline.pipeline(**dict(chosen), return_state=True)
    summary = state.result()
    assert isinstance(summary, Summary)
    assert str(state.message).startswith("9 composites of 3 cells in 3 periods from 3 scenes: 4 written, 0 kept, ")
    assert len(asked) == len(set(asked))
    assert {product for product, _ in asked} == set(map(str, names))

    index = pd.read_csv(workspace.composite_index, keep_default_na=False).set_index(["cell_id", "period"])
    written = {(cell, period) for cell in "ab" for period in ("2019-07", "2019-08")}
    assert {key for key, status in index["status"].items() if status == "written"} == written
    assert set(index["status"]) == {"written", "no scene"}
    assert len(index) == 9
    for period in chosen.periods:
        assert workspace.quicklook("a", period.label).exists() == (period.label != "2019-06")
        changes = {"start": period.start, "end": period.end, "every": None, "source": tmp_path / "archive"}
        alone = chosen.model_copy(update={**changes, "work_dir": tmp_path / period.label})
        for (cell_id, band), outcome in (run(alone) if period.label != "2019-06" else {}).items():
            path = workspace.composite(cell_id, band, period=period.label)
            assert path.exists() == (outcome.path is not None)
            assert outcome.path is None or np.array_equal(pixels(path), pixels(outcome.path))
    assert verify(workspace).findings == ()
    assert not workspace.tmp.exists()

    with get_client(sync_client=True) as client:
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
        keys = {str(artifact.key) for artifact in client.read_artifacts(artifact_filter=of_run)}
    pictures = {key for key in keys if key.startswith("quicklook-")}
    assert {key[:17] for key in pictures} == {"quicklook-2019-07", "quicklook-2019-08"}

    again = flows.pipeline.pipeline(**dict(chosen), return_state=True)
    assert str(again.message).startswith("nothing to do: 9 composites of 3 cells in 3 periods from 3 scenes: ")
    assert len(asked) == len(set(asked))
