"""The index of the composites in a folder: its rows, and how they are read back, whoever wrote them since."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pandas as pd

from s2sr_core.cells.gridcell_csv import is_safe_id
from s2sr_core.composites.composite import Outcome
from s2sr_core.composites.records import inputs_in, pixels_in, scenes_in
from s2sr_core.files import read_record, table_in
from s2sr_core.products.bands import BANDS
from s2sr_core.workspace import Workspace

logger = logging.getLogger(__name__)

COLUMNS = ("cell_id", "band", "status", "scenes", "pixels", "valid_pixels", "valid_share", "path", "reason")

Row = dict[str, str]
"""A row of the index, by column."""


def row_of(workspace: Workspace, outcome: Outcome) -> Row:
    """The row of one composite."""
    row = {
        "cell_id": outcome.cell_id,
        "band": outcome.band,
        "status": outcome.status,
        "scenes": outcome.scenes,
        "pixels": outcome.owned,
        "valid_pixels": outcome.valid,
        "valid_share": round(outcome.valid / outcome.owned, 6) if outcome.owned else "",
        "path": "" if outcome.path is None else outcome.path.relative_to(workspace.composites),
        "reason": outcome.reason,
    }
    return {key: str(value) for key, value in row.items()}


def rows_in(workspace: Workspace) -> list[Row]:
    """The rows of the index or, if it cannot be read, those that the records in the folder give."""
    listed = listed_rows(workspace)
    return recorded_rows(workspace) if listed is None else listed


def listed_rows(workspace: Workspace) -> list[Row] | None:
    """The rows of the index; None if there is no index, or none that can be read."""
    try:
        table = pd.read_csv(table_in(workspace.composite_index), dtype=str, keep_default_na=False).fillna("")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read (%s)", workspace.composite_index, error)
        return None
    if not set(COLUMNS) <= set(table.columns):
        logger.warning("%s is not an index of composites: columns are missing", workspace.composite_index)
        return None
    return checked_rows(workspace, table[list(COLUMNS)].to_dict("records"))


def checked_rows(workspace: Workspace, rows: Sequence[Any]) -> list[Row]:
    """Those of ``rows`` that have each column as text, and name the composite of their cell and band, or none."""
    checked = []
    for row in rows:
        if not isinstance(row, dict) or not all(isinstance(row.get(column), str) for column in COLUMNS):
            continue
        cell_id, band = row["cell_id"], row["band"]
        if is_safe_id(cell_id) and band in BANDS:
            path = workspace.composite(cell_id, band).relative_to(workspace.composites)
            if row["path"] in ("", str(path)):
                checked.append({column: row[column] for column in COLUMNS})
    return checked


def recorded_rows(workspace: Workspace) -> list[Row]:
    """A row for each composite in the folder that has a record."""
    rows = []
    for path in sorted(workspace.composites.glob("*/cell_*_median_clip.json")):
        record = read_record(path) or {}
        inputs, counts = inputs_in(record), pixels_in(record)
        composite = path.with_suffix(".tif")
        if inputs is None or counts is None or not composite.exists():
            continue
        cell_id, band, scenes = str(inputs.get("cell_id")), str(inputs.get("band")), len(scenes_in(inputs))
        outcome = Outcome(cell_id, band, "kept", composite, scenes, counts["owned"], counts["valid"])
        rows.append(row_of(workspace, outcome))
    return checked_rows(workspace, rows)
