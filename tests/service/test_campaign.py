"""Campaigns on a real server: blocks as runs of a stub that only writes records, and of the pipeline itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.serving import PATIENCE, Service, until

from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.workspace import Workspace

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def stub(service: Service) -> dict[str, Any]:
    service.prefect("deploy", "block_stub.py:block", "--name", "stub", "--pool", "s2sr", cwd=HERE)
    service.ended(
        service.trigger(
            "make-grid/make-grid", out="service/six.csv", cell_size=0.1, bbox=[-149.69, 68.51, -149.41, 68.68]
        )
    )
    return {
        "deployment": "block-stub/stub",
        "grid_csv": "service/six.csv",
        "bbox": [-149.69, 68.51, -149.41, 68.68],
        "cells_per_block": 2,
        "blocks_at_once": 2,
    }


def ledger(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in (folder / "indices" / "blocks").glob("*.json")}


def runs(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for path in (folder / "blocks").rglob("runs.jsonl") for line in path.read_text().splitlines()
    ]


def test_every_cell_is_in_one_block_and_failures_are_tried_again(service: Service, stub: dict[str, Any]) -> None:
    folder = service.folder / "service" / "runs" / "stubbed"
    folder.mkdir(parents=True)
    (folder / "fail").write_text("r1585c0303")
    flow_run_id = service.trigger("campaign/campaign", **stub, work_dir=str(folder))
    state = service.ended(flow_run_id)
    assert (state["type"], state["name"]) == ("COMPLETED", "Completed with 1 failure")
    assert state["message"] == "3 blocks of 6 cells: 2 done, 1 failed"
    cells = pd.read_csv(service.folder / "service" / "six.csv")["cell_id"]
    asked = runs(folder)
    assert sorted(cell for run in asked for cell in run["cells"]) == sorted(cells)
    assert all(run["bands"] == ["B02", "B03", "B04"] for run in asked)
    moments = sorted([(run["begun"], 1) for run in asked] + [(run["ended"], -1) for run in asked])
    assert np.cumsum([change for _, change in moments]).max() <= 2
    entries = ledger(folder)
    assert sorted(entry["state"] for entry in entries.values()) == ["done", "done", "failed"]
    (failed,) = (entry for entry in entries.values() if entry["state"] == "failed")
    assert failed["message"] == "Failed: the stub was told to"
    artifacts = service.artifacts(flow_run_id)
    assert artifacts["blocks"]["data"] == 100
    assert artifacts["blocks-map"]["description"] == "0 waiting, 0 running, 2 done, 1 failed"
    assert artifacts["blocks-map"]["data"].startswith("![blocks-map](data:image/png;base64,")
    assert failed["block"] in artifacts["failures"]["data"]

    (folder / "fail").unlink()
    again = service.ended(service.trigger("campaign/campaign", **stub, work_dir=str(folder)))
    assert again["message"] == "3 blocks of 6 cells: 3 done; 2 were done before; 1 block ran again"
    assert len(runs(folder)) == 4
    last = service.ended(service.trigger("campaign/campaign", **stub, work_dir=str(folder)))
    assert last["message"] == "nothing to do: 3 blocks of 6 cells: 3 done"
    assert len(runs(folder)) == 4


def test_a_campaign_whose_process_dies_is_run_once_more_and_takes_up_the_runs_it_started(
    service: Service, stub: dict[str, Any]
) -> None:
    folder = service.folder / "service" / "runs" / "interrupted"
    folder.mkdir(parents=True)
    (folder / "wait").touch()
    flow_run_id = service.trigger("campaign/campaign", **stub, work_dir=str(folder))
    until(lambda: len([entry for entry in ledger(folder).values() if entry["flow_run_id"]]) == 2)
    started = {entry["flow_run_id"] for entry in ledger(folder).values()}
    holder = int((folder / ".lock").read_text().split()[1])
    service.member(holder).kill()
    until(lambda: service.flow_run(flow_run_id)["run_count"] == 2, PATIENCE)
    (folder / "wait").unlink()
    state = service.ended(flow_run_id)
    assert state["message"] == "3 blocks of 6 cells: 3 done"
    assert service.flow_run(flow_run_id)["run_count"] == 2
    entries = ledger(folder).values()
    assert started < {entry["flow_run_id"] for entry in entries}
    assert {entry["attempt"] for entry in entries} == {1}
    assert len(runs(folder)) == 3


def test_cancelling_a_campaign_cancels_its_blocks(service: Service, stub: dict[str, Any]) -> None:
    folder = service.folder / "service" / "runs" / "called-off"
    folder.mkdir(parents=True)
    (folder / "wait").touch()
    flow_run_id = service.trigger("campaign/campaign", **stub, work_dir=str(folder))
    until(lambda: len([entry for entry in ledger(folder).values() if entry["flow_run_id"]]) == 2)
    started = {entry["flow_run_id"] for entry in ledger(folder).values()}
    service.post(f"/flow_runs/{flow_run_id}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}})
    assert service.ended(flow_run_id)["type"] == "CANCELLED"
    assert {service.ended(block)["type"] for block in started} == {"CANCELLED"}
    assert runs(folder) == []
    (folder / "wait").unlink()
    state = service.ended(service.trigger("campaign/campaign", **stub, work_dir=str(folder)))
    assert (state["name"], state["message"]) == ("Completed", "3 blocks of 6 cells: 3 done; 2 blocks ran again")
    assert len(runs(folder)) == 3


@pytest.mark.long
def test_four_blocks_of_the_sandbox_become_one_mosaic(service: Service) -> None:
    """Against one run on the whole region: the same pixels."""
    whole = service.trigger("s2sr-pipeline/local", work_dir="service/runs/whole")
    state = service.ended(service.trigger("campaign/campaign"))
    assert state["message"] in ("4 blocks of 4 cells: 4 done", "nothing to do: 4 blocks of 4 cells: 4 done")
    service.ended(whole)
    campaign, single = (Workspace(service.folder / "service" / "runs" / name) for name in ("campaign", "whole"))
    assert len(list((campaign.work_dir / "blocks").iterdir())) == 4
    for band in ("B02", "B03", "B04"):
        cells = [str(path) for path in sorted(single.composites.glob(f"*/*_{band}_median_clip.tif"))]
        assert len(cells) == 4
        expected = gdal.BuildVRT("", cells)
        with gdal.Open(str(campaign.composites / f"mosaic_{band}_median.vrt")) as mosaic:
            assert np.allclose(mosaic.GetGeoTransform(), expected.GetGeoTransform(), rtol=0, atol=1e-12)
            assert np.array_equal(mosaic.ReadAsArray(), expected.ReadAsArray())
        counts = gdal.BuildVRT("", [path.replace("_median_", "_count_") for path in cells])
        with gdal.Open(str(campaign.composites / f"mosaic_{band}_count.vrt")) as mosaic:
            assert np.array_equal(mosaic.ReadAsArray(), counts.ReadAsArray())
