"""The whole flow on a source of products that the program does not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.scenes import parameters_for, pixels, product_name, run, write_scene
from support.shelf import Shelf, covered

import flows.pipeline
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.outputs.summary import Summary
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid


def test_products_in_a_dictionary_run_through_the_flow(
    tmp_path: Path, cells: list[Gridcell], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three that are used, one under clouds, one that cannot be fetched; composites are those of the three."""
    rng, grid, clouds = np.random.default_rng(5), Grid.utm(-149.6, 68.63, 100, zone=5), 9
    names = [product_name(number) for number in range(5)]
    scenes = {name: {"B04": write_scene(tmp_path / "archive", name, grid, rng)["B04"]} for name in names[:3]}
    masked = covered(scenes[names[0]]["B04"], clouds)
    parameters = parameters_for(tmp_path, tmp_path / "archive", cells, workers=1)
    from_archive = run(parameters.model_copy(update={"work_dir": tmp_path / "plain"}))

    workspace = Workspace(parameters.work_dir)
    shelf = Shelf({**scenes, names[3]: {"B04": masked}, names[4]: {}}, grid, workspace.imagery_raw)
    monkeypatch.setattr(flows.pipeline, "source_of", lambda _: shelf)
    state = flows.pipeline.pipeline(**{**dict(parameters), "source": None}, return_state=True)
    summary = state.result()
    assert isinstance(summary, Summary)
    assert state.name == "Completed with 2 failures", state.message
    assert (summary.products, summary.selected, summary.scenes, summary.not_needed) == (6, 5, 4, 1)
    statuses = pd.read_csv(workspace.query_manifest).set_index("product")["status"].to_dict()
    wanted = dict.fromkeys(map(str, names), "selected") | {str(names[3]): "not needed", "dust": "failed"}
    assert statuses == wanted
    assert len(list(workspace.imagery_raw.rglob("*_B04_20m.jp2"))) == 3
    for (cell_id, band), outcome in from_archive.items():
        assert workspace.composite(cell_id, band).exists() == (outcome.path is not None)
        if outcome.path is not None:
            assert np.array_equal(pixels(workspace.composite(cell_id, band)), pixels(outcome.path))
