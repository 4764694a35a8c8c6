from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from s2sr_core.cells.gridcell_csv import read_gridcells, write_gridcells
from s2sr_core.cells.gridcells import Gridcell, make_gridcells
from s2sr_core.errors import InputError
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.campaign import Campaign, CampaignSummary, check_for_mosaic, cut_into_blocks


def parameters(folder: Path, **changes: Any) -> RunParameters:
    csv = folder / "cells.csv"
    if not csv.exists():
        write_gridcells(make_gridcells((10.0, 60.0, 13.0, 62.0), 1.0), csv)
    fields: dict[str, Any] = {
        "bbox": (10.1, 60.1, 12.9, 61.9),
        "grid_csv": csv,
        "start": "2019-06-01",
        "end": "2019-09-01",
        "work_dir": folder / "campaign",
        "tap": True,
    }
    return RunParameters(**(fields | changes))


@given(
    st.lists(st.tuples(st.integers(-18, 17), st.integers(-9, 8)), min_size=1, max_size=60, unique=True),
    st.integers(1, 12),
)
def test_every_cell_is_in_one_block_and_no_block_is_too_large(corners: list[tuple[int, int]], most: int) -> None:
    cells = [Gridcell(f"c{x}_{y}", shapely.box(10 * x, 10 * y, 10 * x + 10, 10 * y + 10)) for x, y in corners]
    blocks = cut_into_blocks(cells, most)
    assert sorted(cell.cell_id for block in blocks for cell in block.cells) == sorted(cell.cell_id for cell in cells)
    assert all(1 <= len(block.cells) <= most for block in blocks)
    assert len({block.name for block in blocks}) == len(blocks)
    assert blocks == cut_into_blocks(list(reversed(cells)), most)


def test_blocks_are_compact() -> None:
    """A square of 16 cells in blocks of four: four squares, not four rows."""
    blocks = cut_into_blocks(make_gridcells((0.0, 0.0, 4.0, 4.0), 1.0), 4)
    shapes = [shapely.union_all([cell.polygon for cell in block.cells]).bounds for block in blocks]
    assert shapes == [(0, 0, 2, 2), (2, 0, 4, 2), (0, 2, 2, 4), (2, 2, 4, 4)]


def test_the_ledger_outlives_the_process(tmp_path: Path) -> None:
    campaign = Campaign(parameters(tmp_path), 2)
    ledger = campaign.ledger()
    assert [entry.state for entry in ledger.values()] == ["waiting"] * 3
    first, second, third = ledger.values()
    campaign.record_state(campaign.next_attempt(first), "done", flow_run_id="run-1", message="Completed")
    campaign.record_state(campaign.next_attempt(second), "failed", flow_run_id="run-2", message="Failed: why")
    began = campaign.next_attempt(third)

    again = Campaign(parameters(tmp_path), 2)
    states = {name: (entry.state, entry.attempt, entry.flow_run_id) for name, entry in again.ledger().items()}
    assert list(states.values()) == [
        ("done", 1, "run-1"),
        ("waiting", 1, "run-2"),  # what failed is tried again
        ("running", 1, ""),  # asked for, perhaps: the ticket tells
    ]
    assert again.idempotency_key(again.ledger()[third.block]) == campaign.idempotency_key(began)
    assert again.idempotency_key(again.next_attempt(again.ledger()[second.block])) != campaign.idempotency_key(second)
    for block in again.blocks:
        csv = Path(again.block_parameters(block)["grid_csv"])
        assert [cell.cell_id for cell in read_gridcells(csv)] == [cell.cell_id for cell in block.cells]


@pytest.mark.parametrize(
    "change",
    [
        {"end": "2019-08-01"},
        {"bands": ["B04"]},
        {"scl_mask": [0]},
        {"overwrite": True},
        {"bbox": (10.1, 60.1, 12.9, 60.2)},
    ],
)
def test_a_block_of_which_something_else_is_asked_waits_again(tmp_path: Path, change: dict[str, Any]) -> None:
    campaign = Campaign(parameters(tmp_path), 6)
    (entry,) = campaign.ledger().values()
    campaign.record_state(campaign.next_attempt(entry), "done")
    assert [entry.state for entry in Campaign(parameters(tmp_path), 6).ledger().values()] == ["done"]
    assert [entry.state for entry in Campaign(parameters(tmp_path, **change), 6).ledger().values()] == ["waiting"]


def test_a_run_under_way_that_was_asked_for_something_else_is_told_apart(tmp_path: Path) -> None:
    campaign = Campaign(parameters(tmp_path), 6)
    (entry,) = campaign.ledger().values()
    campaign.record_state(campaign.next_attempt(entry), "running", flow_run_id="run")
    changed = Campaign(parameters(tmp_path, end="2019-08-01"), 6)
    (entry,) = changed.ledger().values()
    assert entry.state == "running"
    assert not changed.is_current(entry)
    assert changed.is_current(changed.as_waiting(entry))


def test_a_torn_record_counts_as_none(tmp_path: Path) -> None:
    campaign = Campaign(parameters(tmp_path), 6)
    (entry,) = campaign.ledger().values()
    record = campaign.workspace.indices / "blocks" / f"{entry.block}.json"
    for text in ("", "{", '{"state": "done"}', json.dumps({"state": "nonsense"})):
        record.write_text(text)
        assert campaign.ledger() == {entry.block: entry}


def test_a_block_is_given_what_the_mosaic_rests_on_and_what_differs_from_defaults(tmp_path: Path) -> None:
    campaign = Campaign(parameters(tmp_path, count=True, max_cloud_cover=80), 6)
    (block,) = campaign.blocks
    assert set(campaign.block_parameters(block)) == {
        "bbox", "grid_csv", "start", "end", "every", "work_dir", "bands", "resolution", "crs", "tr", "tap", "count",
        "max_cloud_cover",
    }  # fmt: skip
    assert RunParameters(**campaign.block_parameters(block)).tap


@pytest.mark.parametrize(("change", "field"), [({"tap": False}, "tap"), ({"stage": "query"}, "stage")])
def test_what_cannot_be_mosaicked_is_refused(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=f"^{field} = "):
        check_for_mosaic(parameters(tmp_path, **change))


def test_the_summary_says_what_became_of_the_blocks(tmp_path: Path) -> None:
    campaign = Campaign(parameters(tmp_path), 2)
    entries = list(campaign.ledger().values())
    ended = [campaign.record_state(entry, "failed" if number == 2 else "done") for number, entry in enumerate(entries)]
    assert CampaignSummary.of(campaign, ended, 4).sentence() == "3 blocks of 6 cells: 2 done, 1 failed"
    done = [campaign.record_state(entry, "done") for entry in entries]
    assert CampaignSummary.of(campaign, done, 0).sentence() == "nothing to do: 3 blocks of 6 cells: 3 done"
    resumed = CampaignSummary.of(campaign, done, 2, before=1, again=1)
    assert resumed.sentence() == "3 blocks of 6 cells: 3 done; 1 was done before; 1 block ran again"
