"""Stands in for the pipeline in the tests of campaigns: takes its parameters and writes nothing but records."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from s2sr_core.cells.gridcell_csv import read_gridcells
from s2sr_core.parameters import RunParameters
from s2sr_core.signature import takes_fields_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Prefect's worker finds the flow by path

from support.waiting import until


@flow(name="block-stub", validate_parameters=False)
@takes_fields_of(RunParameters)
def block(**fields: Any) -> State:
    """Note which cells were asked for and when; a file ``fail`` names a cell to fail at, ``wait`` makes all wait."""
    parameters = RunParameters(**fields)
    cells = [cell.cell_id for cell in read_gridcells(parameters.grid_csv)]
    campaign, begun = parameters.work_dir.parents[1], time.time()
    until(lambda: not (campaign / "wait").exists(), deadline=600)
    parameters.work_dir.mkdir(parents=True, exist_ok=True)
    record = {"cells": cells, "bands": parameters.bands, "begun": begun, "ended": time.time()}
    with (parameters.work_dir / "runs.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    fail = campaign / "fail"
    if fail.exists() and fail.read_text().strip() in cells:
        return Failed(message="the stub was told to")
    return Completed(message=f"{len(cells)} cells of {Path(parameters.work_dir).name}")
