"""The index of the composites in a folder: its rows, and how they are read back, whoever wrote them since."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any

import pandas as pd

from s2sr_core.cells.gridcell_csv import is_safe_id
from s2sr_core.composites.composite import Outcome
from s2sr_core.composites.composite_names import name_of
from s2sr_core.composites.records import inputs_in, pixels_in, scenes_in
from s2sr_core.files import read_record, table_in
from s2sr_core.periods import is_label
from s2sr_core.products.bands import ALL_BANDS
from s2sr_core.workspace import Workspace

logger = logging.getLogger(__name__)

COLUMNS = ("cell_id", "period", "band", "status", "scenes", "pixels", "valid_pixels", "valid_share", "path", "reason")
#: A column that earlier versions did not write: none of their composites had a period.
_PERIOD = "period"

Row = dict[str, str]
"""A row of the index, by column."""

Key = tuple[str, str, str]
"""Cell, period and band: what a row of the index is about."""


def key_of_row(row: Row) -> Key:
    """What a row is about."""
    return row["cell_id"], row["period"], row["band"]


def row_of(workspace: Workspace, outcome: Outcome) -> Row:
    """The row of one composite."""
    row = {
        "cell_id": outcome.cell_id,
        "period": outcome.period,
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
    if not set(COLUMNS) - {_PERIOD} <= set(table.columns):
        logger.warning("%s is not an index of composites: columns are missing", workspace.composite_index)
        return None
    return checked_rows(workspace, table.to_dict("records"))


def checked_rows(workspace: Workspace, rows: Sequence[Any]) -> list[Row]:
    """Those of ``rows`` that have each column as text, and name the composite of their cell, period and band, or none.

    A row without a period, as earlier versions wrote them, has the empty one.
    """
    checked = []
    for row in rows:
        if not isinstance(row, dict):
            continue
        row = {_PERIOD: "", **row}
        if not all(isinstance(row.get(column), str) for column in COLUMNS):
            continue
        cell_id, period, band = key_of_row(row)
        if is_safe_id(cell_id) and is_label(period) and band in ALL_BANDS:
            path, folder = workspace.composites / row["path"], workspace.cell_folder(cell_id, period)
            name = name_of(path) if path.parent == folder and path.suffix == ".tif" else None
            if row["path"] == "" or (name is not None and name.about == key_of_row(row)):
                checked.append({column: row[column] for column in COLUMNS})
    return checked


def recorded_rows(workspace: Workspace) -> list[Row]:
    """A row for each cell, period and band in the folder that has a record; of several, that of the median counts."""
    rows: dict[Key, Row] = {}
    folders = (workspace.composites.glob(f"{below}/cell_*_clip.json") for below in ("*", "*/*"))
    for path in sorted(itertools.chain(*folders), key=lambda path: (not path.stem.endswith("_median_clip"), path)):
        record = read_record(path) or {}
        inputs, counts = inputs_in(record), pixels_in(record)
        composite = path.with_suffix(".tif")
        if inputs is None or counts is None or not composite.exists():
            continue
        cell_id, band, scenes = str(inputs.get("cell_id")), str(inputs.get("band")), len(scenes_in(inputs))
        period = str(inputs.get("period", ""))
        owned, valid = counts["owned"], counts["valid"]
        outcome = Outcome(cell_id, band, "kept", composite, scenes, owned, valid, period=period)
        for row in checked_rows(workspace, [row_of(workspace, outcome)]):
            rows.setdefault(key_of_row(row), row)
    return list(rows.values())
