from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterFlowRunId
from prefect.settings import PREFECT_API_URL
from support.scenes import break_tiles, parameters_for, pixels, product_name, run

from flows.pipeline import pipeline
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.outputs.summary import Summary
from s2sr_core.parameters import RunParameters
from s2sr_core.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


def go(parameters: RunParameters) -> State:
    return pipeline(**dict(parameters), return_state=True)


def test_the_flow_composites_as_the_core_does_and_keeps_what_is_done(
    tmp_path: Path, archive: Path, cells: list[Gridcell]
) -> None:
    parameters = parameters_for(tmp_path, archive, cells, bands=["B04", "B11"], workers=2, count=True, quicklook=True)
    state = go(parameters)
    assert state.is_completed(), state.message
    assert state.name == "Completed"
    workspace = Workspace(parameters.work_dir)

    plain = run(parameters.model_copy(update={"work_dir": tmp_path / "plain"}))
    for (cell_id, band), outcome in plain.items():
        if outcome.path is None:
            assert not workspace.cell_folder(cell_id).exists()
        else:
            assert np.array_equal(pixels(workspace.composite(cell_id, band)), pixels(outcome.path))
    table = pd.read_csv(workspace.composite_index, keep_default_na=False).set_index(["cell_id", "band"])
    assert table["status"].to_dict() == {key: outcome.status for key, outcome in plain.items()}
    assert pd.read_csv(workspace.selected_gridcells)["cell_id"].tolist() == ["a", "b", "away"]
    assert (pd.read_csv(workspace.scene_index)["status"] == "selected").tolist() == [True] * 3
    assert workspace.quicklook("a").exists()
    assert not workspace.tmp.exists()
    assert not workspace.phase1_errors.exists()
    logged = {path.name: path.read_text() for path in workspace.logs.iterdir()}
    assert set(logged) <= {f"pipeline_rank{rank}.log" for rank in range(3)}
    assert "cell a B04: written from 3 scenes" in "".join(logged.values())

    written = {path: path.stat().st_mtime_ns for path in workspace.composites.rglob("*.tif")}
    again = go(parameters)
    summary = again.result()
    assert isinstance(summary, Summary)
    assert (summary.written, summary.kept, summary.no_scene) == (0, 4, 2)
    assert str(again.message).startswith("nothing to do: 6 composites of 3 cells from 3 scenes: 0 written, 4 kept, ")
    assert len(_task_runs(again)) == 3  # gridcells, products, tables
    assert written == {path: path.stat().st_mtime_ns for path in written}

    flow_run_id = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(flow_run_id)
        task_runs = client.read_task_runs(
            task_run_filter=TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run_id]))
        )
    assert flow_run.name == "composite run"
    assert flow_run.parameters["bands"] == ["B04", "B11"]
    names = [task_run.name for task_run in task_runs]
    assert sum(name.startswith("prepare scene S2A_MSIL2A_2019") for name in names) == 3
    assert "composite cell a B04" in names
    for task_run in task_runs:
        assert task_run.state is not None
        assert task_run.state.is_completed()
        assert "s2sr" in task_run.tags


def _task_runs(state: State) -> list[str]:
    """The names of the task runs of a flow run."""
    chosen = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        return [task_run.name for task_run in client.read_task_runs(task_run_filter=chosen)]


@pytest.mark.usefixtures("workers_here")
def test_a_failed_scene_is_recorded_and_the_rest_goes_on(tmp_path: Path, archive: Path, cells: list[Gridcell]) -> None:
    (image,) = (archive / product_name(1, baseline="05.09").folder).rglob("*_B04_20m.jp2")
    image.write_bytes(image.read_bytes()[:1000])
    good = archive / product_name(0).folder
    for place in ("copy", "interrupted"):
        shutil.copytree(good, archive / place / good.name)
    shutil.rmtree(archive / "interrupted" / good.name / "GRANULE")
    (archive / good.name.replace("MSIL2A", "MSIL1C")).mkdir()
    state = go(parameters_for(tmp_path, archive, cells, workers=1))
    assert state.is_completed()
    assert state.name == "Completed with 1 failure"
    workspace = Workspace(tmp_path / "run")
    scenes = pd.read_csv(workspace.scene_index)
    rows = scenes[scenes["path"].str.endswith(good.name)].set_index("path")["status"].to_dict()
    assert rows == {
        str(good): "selected",
        str(archive / "copy" / good.name): "duplicate",
        str(archive / "interrupted" / good.name): "duplicate",
    }
    assert scenes.set_index("product").loc[str(product_name(0)).replace("MSIL2A", "MSIL1C"), "status"] == "filtered"
    errors = pd.read_csv(workspace.phase1_errors)
    assert errors[["product", "band", "step"]].to_numpy().tolist() == [
        [str(product_name(1, baseline="05.09")), "B04", "files"]
    ]
    index = pd.read_csv(workspace.composite_index).set_index("cell_id")
    assert index.loc["a", ["status", "scenes"]].tolist() == ["written", 2]


def test_a_failed_composite_is_recorded_and_the_rest_goes_on(
    tmp_path: Path, archive: Path, cells: list[Gridcell]
) -> None:
    """A folder stands where a composite should go; and a tile of an image cannot be decoded."""
    workspace = Workspace(tmp_path / "run")
    workspace.composite("a", "B04").mkdir(parents=True)
    broken = product_name(1, baseline="05.09")
    (image,) = (archive / broken.folder).rglob("*_B11_20m.jp2")
    break_tiles(image, 0)
    parameters = parameters_for(tmp_path, archive, cells, workers=1, bands=["B04", "B11"], check_files="never")
    state = go(parameters)
    assert state.is_completed()
    assert state.name == "Completed with 2 failures"
    assert "1 product failed" in str(state.message)
    undecodable = pd.read_csv(workspace.phase1_errors)
    assert undecodable[["product", "band", "step"]].to_numpy().tolist() == [[str(broken), "B11", "decode"]]
    assert undecodable["reason"][0].startswith(f"{image.name} cannot be decoded (")
    scenes = pd.read_csv(workspace.scene_index).set_index("product")
    assert scenes.loc[str(broken), "status"] == "selected"
    assert scenes.loc[str(broken), "reason"] == f"B11 {undecodable['reason'][0]}"
    composites = pd.read_csv(workspace.composite_index).set_index(["cell_id", "band"])
    assert composites.loc[("a", "B11"), "scenes"] == 2
    assert composites.loc[("a", "B11"), "status"] == "kept"  # the second try, for B04, found it written
    assert str(broken) in composites.loc[("a", "B11"), "reason"]
    errors = pd.read_csv(workspace.phase2_errors)
    assert errors[["cell_id", "band"]].to_numpy().tolist() == [["a", "B04"]]
    assert workspace.composite("a", "B11").is_file()
    assert workspace.composite("b", "B04").is_file()


@pytest.mark.usefixtures("workers_here")
def test_where_nothing_worked_the_flow_has_failed(tmp_path: Path, archive: Path, cells: list[Gridcell]) -> None:
    for image in archive.rglob("*_SCL_20m.jp2"):
        image.unlink()
    state = go(parameters_for(tmp_path, archive, cells, workers=2))
    assert state.is_failed()
    assert "3 products failed" in str(state.message)
    assert len(pd.read_csv(Workspace(tmp_path / "run").phase1_errors)) == 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"bbox": (10.0, 50.0, 11.0, 51.0)}, "bbox = '10.0 50.0 11.0 51.0': meets no gridcell"),
        ({"grid_csv": "/nowhere.csv"}, "grid_csv = '/nowhere.csv': does not exist; give"),
        ({"start": "2101-01-01"}, "start = '2101-01-01T00:00:00+00:00': is not before end"),
    ],
)
def test_bad_input_fails_at_once_with_one_sentence(
    tmp_path: Path, archive: Path, cells: list[Gridcell], change: dict[str, Any], sentence: str
) -> None:
    fields = dict(parameters_for(tmp_path, archive, cells)) | change
    state = pipeline(**fields, return_state=True)
    assert state.is_failed()
    assert str(state.message).startswith(sentence)


def test_a_folder_in_use_is_refused(tmp_path: Path, archive: Path, cells: list[Gridcell]) -> None:
    parameters = parameters_for(tmp_path, archive, cells)
    with Workspace(parameters.work_dir).opened():
        state = go(parameters)
    assert state.is_failed()
    assert "is in use by another run" in str(state.message)


def test_the_flows_parameters_are_the_models_fields() -> None:
    """Prefect's form and API see each field with its type, bounds, default and description."""
    shown, model = pipeline.parameters.model_dump(), RunParameters.model_json_schema()
    assert list(shown["properties"]) == list(model["properties"])
    assert shown["required"] == model["required"]
    for name, wanted in model["properties"].items():
        found = dict(shown["properties"][name])
        for key in ("title", "position"):
            found.pop(key, None)
        assert found == {key: value for key, value in wanted.items() if key != "title"}, name


def command(
    tmp_path: Path, parameters: RunParameters, *extra: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """``python s2sr_pipeline.py`` as a user would call it, with a Prefect home of its own."""
    words = ["--bbox", *map(str, parameters.bbox), "--grid_csv", str(parameters.grid_csv), "--work-dir"]
    words += [str(parameters.work_dir), "--source", str(parameters.source), "--start", "2019-01-01", "--end"]
    words += ["2020-01-01T00:00:00Z", "--bands", "B04", "--tap", "--workers", "1", *extra]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    return subprocess.run(
        [sys.executable, str(ROOT / "s2sr_pipeline.py"), *words],
        env={**inherited, "PREFECT_HOME": str(tmp_path / "prefect"), **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_command_runs_with_no_server_configured(tmp_path: Path, archive: Path, cells: list[Gridcell]) -> None:
    parameters = parameters_for(tmp_path, archive, cells)
    done = command(tmp_path, parameters)
    assert done.returncode == 0, done.stderr
    path = Workspace(parameters.work_dir).composite("a", "B04")
    assert path.exists()
    assert str(path) in done.stdout
    assert "3 composites of 3 cells from 3 scenes: 2 written, 0 kept, 1 without a scene" in done.stdout
    assert "composites: 3 of 3" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_runs_against_a_server_and_tells_failures_by_its_exit_code(
    tmp_path: Path, archive: Path, cells: list[Gridcell]
) -> None:
    next((archive / product_name(0).folder).rglob("*_SCL_20m.jp2")).write_bytes(b"")
    parameters = parameters_for(tmp_path, archive, cells)
    done = command(tmp_path, parameters, "--keep_tmp", PREFECT_API_URL=str(PREFECT_API_URL.value()))
    assert done.returncode == 1, done.stderr
    assert "1 product failed" in done.stdout
    assert str(Workspace(parameters.work_dir).phase1_errors) in done.stderr
    assert "Traceback" not in done.stderr
    assert list((parameters.work_dir / "tmp").rglob("*_composite.vrt"))
    record = json.loads(Workspace(parameters.work_dir).run_record.read_text())
    assert record["summary"]["failed_products"] == 1
    with get_client(sync_client=True) as client:
        states = [flow_run.state.name for flow_run in client.read_flow_runs() if flow_run.state]
    assert "Completed with 1 failure" in states
