"""A run with nothing to do, without a flow: a folder as a run leaves it, looked at again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.trees import write_tree

from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import make_gridcells
from s2sr_core.errors import InputError, SourceDownError, SourceError
from s2sr_core.files import write_record
from s2sr_core.outputs import indices
from s2sr_core.outputs.summary import Summary
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.nothing_to_do import run_if_nothing_to_do
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.planning.unchanged import fingerprint
from s2sr_core.run_context import RunContext
from s2sr_core.selection.judge import find_products
from s2sr_core.sources import source_of

SUMMARY = Summary(1, 1, 1, 0, scenes=1, written=2, owned=20, valid=10)


@pytest.fixture
def done(tmp_path: Path) -> RunContext:
    """What a run leaves: one cell, one product, two composites with tables and records."""
    write_tree(tmp_path / "archive")
    write_gridcells(make_gridcells((-149.75, 68.5, -149.5, 68.75), 0.25), tmp_path / "cells.csv")
    parameters = RunParameters(
        bbox=(-149.7, 68.55, -149.6, 68.7),
        grid_csv=tmp_path / "cells.csv",
        start="2019-06-01",
        end="2019-09-01",
        source=tmp_path / "archive",
        work_dir=tmp_path / "run",
        bands=["B02", "B04"],
    )
    context = RunContext(parameters)
    workspace, cells = context.workspace, choose_gridcells(parameters)
    for band in parameters.bands:
        for path in (workspace.composite(cells[0].cell_id, band), workspace.record(cells[0].cell_id, band)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("content")
    workspace.indices.mkdir()
    workspace.scene_index.write_text("product\n")
    indices.update_composite_index(context, [])
    found = find_products(source_of(parameters), parameters, cells)
    assert [candidate.status for candidate in found] == ["selected"]
    indices.write_run_record(context, SUMMARY.as_record(), [], fingerprint(context, cells, found, b""))
    write_record(workspace.flow_run, {"ended": "2026-01-01T00:00:00+00:00"})
    return context


def again(context: RunContext, **changes: Any) -> Summary | None:
    """The same command, or with other parameters."""
    context = RunContext(RunParameters(**(dict(context.parameters) | changes)))
    return run_if_nothing_to_do(context, source_of(context.parameters))


def test_it_says_so_and_leaves_tables_and_a_record_of_its_own(done: RunContext) -> None:
    workspace = done.workspace
    summary = again(done, end="2019-08-30")
    assert summary == replace(SUMMARY, written=0, kept=2)
    assert summary.sentence().startswith("nothing to do: ")
    record = json.loads(workspace.run_record.read_text())
    assert record["parameters"]["end"].startswith("2019-08-30")
    assert record["summary"]["kept"] == 2
    assert len(pd.read_csv(workspace.selected_gridcells)) == 1
    assert not workspace.tmp.exists()
    assert "nothing to do" in workspace.log(0).read_text()
    assert again(done) == summary  # and so it remains


def _another_product(context: RunContext) -> None:
    assert context.parameters.source is not None
    (old,) = context.parameters.source.glob("*.SAFE")
    (old / "more").write_text("content")


def _dead_run(context: RunContext) -> None:
    write_record(context.workspace.flow_run, {"ended": None})


def _no_flow_run(context: RunContext) -> None:
    context.workspace.flow_run.unlink()


def _no_record(context: RunContext) -> None:
    context.workspace.run_record.unlink()


def _no_composite(context: RunContext) -> None:
    next(context.workspace.composites.glob("*/*.tif")).unlink()


@pytest.mark.parametrize("change", [_another_product, _dead_run, _no_flow_run, _no_record, _no_composite])
def test_a_change_or_a_dead_run_is_for_the_flow(done: RunContext, change: Callable[[RunContext], None]) -> None:
    change(done)
    before = {path: path.stat().st_mtime_ns for path in done.workspace.indices.iterdir()}
    assert again(done) is None
    assert {path: path.stat().st_mtime_ns for path in done.workspace.indices.iterdir()} == before


class _Broken:
    """A source that cannot be asked."""

    fetches = False

    def __init__(self, error: Exception) -> None:
        self._error, self.asked = error, 0

    def find(self, *_: object) -> Iterator[Any]:
        self.asked += 1
        raise self._error
        yield


def test_a_source_that_refuses_is_asked_again_by_the_flow(done: RunContext) -> None:
    assert run_if_nothing_to_do(done, _Broken(SourceError("no"))) is None  # type: ignore[arg-type]
    with pytest.raises(SourceDownError):
        run_if_nothing_to_do(done, _Broken(SourceDownError("down")))  # type: ignore[arg-type]


def test_the_source_is_not_asked_if_something_else_has_changed(done: RunContext) -> None:
    source = _Broken(SourceError("no"))
    _no_composite(done)
    assert run_if_nothing_to_do(done, source) is None  # type: ignore[arg-type]
    assert not source.asked


def test_a_folder_in_use_is_refused(done: RunContext) -> None:
    with done.workspace.opened(), pytest.raises(InputError, match="is in use by another run"):
        again(done)
