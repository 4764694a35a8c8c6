from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
from support.scenes import judge, parameters_for, pixels, product_name, run, write_scene

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import Outcome
from s2sr_core.errors import Step
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.outputs import indices
from s2sr_core.outputs.summary import Summary
from s2sr_core.products.safe import product_paths
from s2sr_core.run_context import RunContext
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid

CELLS = [
    Gridcell("a", shapely.box(-149.61, 68.625, -149.60, 68.635)),
    Gridcell("b", shapely.box(-149.60, 68.625, -149.59, 68.635)),
]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    grid = Grid.utm(-149.6, 68.63, 100, zone=5)
    write_scene(tmp_path / "archive", product_name(0, baseline="05.09"), grid, rng)
    write_scene(tmp_path / "archive", product_name(1), grid, rng)
    (tmp_path / "archive" / "S2A_nonsense.SAFE").mkdir()
    return tmp_path / "archive"


def index_of(tmp_path: Path, archive: Path, **changes: Any) -> pd.DataFrame:
    parameters = parameters_for(tmp_path, archive, CELLS, **changes)
    workspace = Workspace(parameters.work_dir)
    results = judge(parameters)
    indices.write_scene_index(workspace.scene_index, results, parameters.bands)
    indices.write_phase1_errors(workspace.phase1_errors, results)
    return pd.read_csv(workspace.scene_index, dtype=str, keep_default_na=False).set_index("product")


def test_the_scene_index_tells_all_of_a_scene(tmp_path: Path, archive: Path) -> None:
    row = index_of(tmp_path, archive).loc[str(product_name(0, baseline="05.09"))]
    expected = {
        "status": "selected",
        "mission": "S2A",
        "tile": "05WPS",
        "sensing_time": "2019-07-01T21:45:29Z",
        "relative_orbit": "72",
        "baseline": "05.09",
        "offset_B04": "-1000",
        "offset_source": "XML",
        "crs": "EPSG:32605",
        "cells": "a b",
    }
    assert {key: row[key] for key in expected} == expected
    files = dict(entry.split("=") for entry in row["band_files"].split(";"))
    assert sorted(files) == ["B04", "SCL"]
    assert all((Path(row["path"]) / file).is_file() for file in files.values())
    assert shapely.from_wkt(row["footprint"]).contains(shapely.Point(-149.6, 68.63))
    assert 0 < float(row["valid_share"]) < 1


def test_notes_on_converted_images_without_a_coordinate_system_are_in_the_index(tmp_path: Path, archive: Path) -> None:
    """As somebody leaves them who made GeoTIFFs without thinking of the coordinate system."""
    folder = archive / product_name(1).folder
    (jp2,) = folder.rglob("*_B04_20m.jp2")
    array = pixels(jp2)
    jp2.unlink()
    tif = jp2.with_suffix(".tif")
    raster = gdal.GetDriverByName("GTiff").Create(str(tif), array.shape[1], array.shape[0], 1, gdal.GDT_UInt16)
    raster.GetRasterBand(1).WriteArray(array)
    raster.Close()
    shutil.copytree(folder, archive / "backup" / folder.name)
    table = index_of(tmp_path, archive)
    rows = table.loc[str(product_name(1))].set_index("path")
    assert rows.loc[str(archive / "backup" / folder.name), ["status", "notes"]].tolist() == ["duplicate", ""]
    assert rows.loc[str(folder), ["status", "notes"]].tolist() == [
        "selected",
        "images have no coordinate system of their own; MTD_TL.xml says EPSG:32605 and the corner; "
        f"{tif.name} is used for {jp2.name}, which is missing; the manifest cannot vouch for it",
    ]


def test_what_was_left_out_is_there_with_its_reason(tmp_path: Path, archive: Path) -> None:
    table = index_of(tmp_path, archive, end="2019-07-03")
    assert table.loc[str(product_name(1)), "status"] == "filtered"
    assert "sensing time" in table.loc[str(product_name(1)), "reason"]
    assert table.loc["S2A_nonsense", "status"] == "failed"
    errors = pd.read_csv(Workspace(tmp_path / "run").phase1_errors, keep_default_na=False)
    assert errors.loc[0, ["product", "band", "step"]].tolist() == ["S2A_nonsense", "", "name"]


def test_a_failed_band_is_in_the_index_and_among_the_errors(tmp_path: Path, archive: Path) -> None:
    (image,) = (archive / product_name(1).folder).rglob("*_B04_20m.jp2")
    image.write_bytes(b"short")
    table = index_of(tmp_path, archive)
    assert table.loc[str(product_name(1)), "status"] == "failed"
    assert "B04" in table.loc[str(product_name(1)), "reason"]
    errors = pd.read_csv(Workspace(tmp_path / "run").phase1_errors, keep_default_na=False)
    assert errors[errors["product"] == str(product_name(1))][["band", "step"]].to_numpy().tolist() == [["B04", "files"]]


def test_errors_of_an_earlier_run_do_not_stay(tmp_path: Path, archive: Path) -> None:
    index_of(tmp_path, archive)
    workspace = Workspace(tmp_path / "run")
    assert workspace.phase1_errors.exists()
    for path in product_paths(archive):
        if "nonsense" in path.name:
            path.rmdir()
    index_of(tmp_path, archive)
    assert not workspace.phase1_errors.exists()
    outcome = Outcome("a", "B04", "failed", step=Step.STATISTIC, reason="x, y")
    indices.write_phase2_errors(workspace.phase2_errors, [outcome])
    assert pd.read_csv(workspace.phase2_errors, keep_default_na=False).to_dict("records") == [
        {"cell_id": "a", "period": "", "band": "B04", "step": "statistic", "reason": "x, y"}
    ]
    indices.write_phase2_errors(workspace.phase2_errors, [])
    assert not workspace.phase2_errors.exists()


def publish(tmp_path: Path, archive: Path, cells: list[Gridcell], **changes: Any) -> tuple[set[str], set[str]]:
    """Run and publish; gives the cells in the index, and those that are said to be of another lattice."""
    parameters = parameters_for(tmp_path, archive, cells, **changes)
    outcomes = list(run(parameters).values())
    context = RunContext(parameters)
    workspace = context.workspace
    others = indices.update_composite_index(context, outcomes)
    summary = Summary.of(len(cells), [], [], outcomes).with_other_lattice(len(others))
    indices.write_run_record(context, summary.as_record(), others)
    table = pd.read_csv(workspace.composite_index, dtype=str)
    for row in table.itertuples():
        assert (workspace.composites / row.path).exists()
    return set(table["cell_id"]), {row["cell_id"] for row in others}


def test_the_composite_index_keeps_the_cells_of_earlier_runs(tmp_path: Path, archive: Path) -> None:
    assert publish(tmp_path, archive, CELLS[:1]) == ({"a"}, set())
    assert publish(tmp_path, archive, CELLS[1:]) == ({"a", "b"}, set())


def test_composites_of_another_lattice_are_named_and_left_out(tmp_path: Path, archive: Path) -> None:
    """Through several runs: they are named as long as they remain, and come back when their lattice does."""
    assert publish(tmp_path, archive, CELLS) == ({"a", "b"}, set())
    assert publish(tmp_path, archive, CELLS[:1], tr=(0.0003, 0.0003)) == ({"a"}, {"b"})
    assert publish(tmp_path, archive, CELLS[:1], tr=(0.0003, 0.0003)) == ({"a"}, {"b"})
    record = json.loads(Workspace(tmp_path / "run").run_record.read_text())
    assert record["lattice"] == {"tap": True, "tr": [0.0003, 0.0003], "crs": "EPSG:4326"}
    assert [row["cell_id"] for row in record["other_lattice"]] == ["b"]
    assert publish(tmp_path, archive, CELLS[:1]) == ({"a", "b"}, set())


def test_another_lattice_that_was_overwritten_is_not_named(tmp_path: Path, archive: Path) -> None:
    publish(tmp_path, archive, CELLS)
    publish(tmp_path, archive, CELLS[:1], tap=False)
    assert publish(tmp_path, archive, CELLS, tap=False) == ({"a", "b"}, set())


def test_a_killed_run_of_another_lattice_leaves_no_false_row(tmp_path: Path, archive: Path) -> None:
    """It had written b again when it was killed; the next run, of a alone, finds that out from b's own record."""
    publish(tmp_path, archive, CELLS)
    workspace = Workspace(tmp_path / "run")
    indices.begin_run(workspace)
    run(parameters_for(tmp_path, archive, CELLS[1:], tr=(0.0004, 0.0004)))
    assert publish(tmp_path, archive, CELLS[:1]) == ({"a"}, {"b"})


def test_a_record_of_an_older_version_still_tells_its_lattice(tmp_path: Path, archive: Path) -> None:
    """It calls inputs ``made_of``."""
    publish(tmp_path, archive, CELLS)
    path = Workspace(tmp_path / "run").record("b", "B04")
    record = json.loads(path.read_text())
    made_of = record.pop("inputs")
    record["made_of"] = {**made_of, "inputs": made_of.pop("scenes")}
    path.write_text(json.dumps(record))
    assert publish(tmp_path, archive, CELLS[:1], tr=(0.0003, 0.0003)) == ({"a"}, {"b"})
    assert publish(tmp_path, archive, CELLS[:1]) == ({"a", "b"}, set())


def test_a_row_is_removed_with_its_composite(tmp_path: Path, archive: Path) -> None:
    publish(tmp_path, archive, CELLS)
    shutil.rmtree(Workspace(tmp_path / "run").cell_folder("b"))
    assert publish(tmp_path, archive, CELLS[:1]) == ({"a"}, set())


def test_names_that_are_not_utf_8_are_rows_like_others(tmp_path: Path, archive: Path) -> None:
    name = str(product_name(1))
    elsewhere = archive / os.fsdecode(b"caf\xe9")
    elsewhere.mkdir()
    (archive / f"{name}.SAFE").rename(elsewhere / f"{name}.SAFE")
    (archive / os.fsdecode(b"S2A_\xff.SAFE")).mkdir()
    table = index_of(tmp_path, archive)
    assert table.loc["S2A_\\xff", "status"] == "failed"
    assert table.loc[name, "reason"] == "lies in a folder whose name is not UTF-8; rename that folder"
    assert table.loc[name, "path"] == f"{archive}/caf\\xe9/{name}.SAFE"
    assert table.loc[str(product_name(0, baseline="05.09")), "status"] == "selected"
    errors = pd.read_csv(Workspace(tmp_path / "run").phase1_errors)
    assert {"S2A_\\xff", name} <= set(errors["product"])
