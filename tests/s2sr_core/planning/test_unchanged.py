"""When a run has nothing to do: the composites of a real run, then one change after the other."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import shapely

from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.outputs import indices
from s2sr_core.outputs.summary import Summary
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.unchanged import fingerprint, fingerprint_of_run, unchanged
from s2sr_core.run_context import RunContext
from s2sr_core.selection.candidates import Candidate

CELLS = [Gridcell("a", shapely.box(0, 0, 1, 1)), Gridcell("b", shapely.box(1, 0, 2, 1))]
SUMMARY = Summary(2, 2, 1, 0, downloaded=5, scenes=1, written=1, kept=1, owned=20, valid=10)


@pytest.fixture
def done(tmp_path: Path) -> RunContext:
    """A run that is over: one product of two files, a composite with its record, the tables."""
    write_gridcells(CELLS, tmp_path / "cells.csv")
    context = RunContext(
        RunParameters(
            bbox=(0, 0, 2, 1),
            grid_csv=tmp_path / "cells.csv",
            start="2019-06-01",
            end="2019-09-01",
            work_dir=tmp_path / "run",
        )
    )
    workspace = context.workspace
    product = workspace.imagery_raw / "P.SAFE"
    for path in (
        product / "manifest.safe",
        product / "GRANULE" / "image.jp2",
        workspace.composite("a", "B02"),
        workspace.record("a", "B02"),
        workspace.scene_index,
        workspace.composite_index,
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content")
    indices.write_run_record(context, SUMMARY.as_record(), [], state_of(context))
    return context


def found(*names: str, status: Any = "selected") -> list[Candidate[Any]]:
    return [Candidate(name, None, status) for name in names] + [Candidate("Q", None, "filtered", "months")]


def state_of(context: RunContext, **changes: Any) -> str | None:
    arguments = {"cells": CELLS, "found": found("P"), "manifest": b"P,selected\n"} | changes
    return fingerprint(context, **arguments)


def test_nothing_is_to_do_if_all_is_as_it_was(done: RunContext) -> None:
    assert unchanged(done, state_of(done)) == replace(SUMMARY, written=0, kept=2, downloaded=0)


@pytest.mark.parametrize(
    "changes",
    [{"end": "2020-01-01"}, {"months": "6-8"}, {"workers": 2}, {"engine": "reference"}],
)
def test_parameters_that_only_select_products_or_say_how_do_not_matter(
    done: RunContext, changes: dict[str, Any]
) -> None:
    """Which products they select is known when this is asked."""
    other = RunContext(RunParameters(**(dict(done.parameters) | changes)))
    assert unchanged(other, state_of(other)) is not None


@pytest.mark.parametrize(
    "changes",
    [
        *({"bands": ["B02"]}, {"tr": (0.1, 0.1)}, {"tap": True}, {"count": True}, {"quicklook": True}),
        *({"gdal_scale": True}, {"scl_opening": {9: 40}}, {"scl_min_size": 800}, {"mask_clear": [0, 1]}),
        *({"scl_mask": [3]}, {"scl_dilation": {9: 100}}, {"resampling": "cubic"}, {"scl_first": False}),
        *({"every": "month"}, {"statistic": ["mean"]}, {"layers": ["mad"]}, {"min_count": 2}, {"group_by": "datatake"}),
        *({"overwrite": True}, {"keep_tmp": True}, {"check_files": "always"}, {"check_files": "never"}),
        *({"stage": "composite"}, {"crs": "EPSG:3413"}, {"resolution": 10}, {"mask_dir": "/masks"}),
    ],
    ids=str,
)
def test_parameters_that_decide_what_is_made_do(done: RunContext, changes: dict[str, Any]) -> None:
    other = RunContext(RunParameters(**(dict(done.parameters) | changes)))
    assert unchanged(other, state_of(other)) is None


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({"start": "2019-06-15", "end": "2019-08-02"}, True),
        ({"end": "2019-09-02"}, False),  # another period, which gets a row
        ({"every": "10d"}, False),
        ({"every": "92d"}, False),
    ],
)
def test_a_window_that_makes_the_same_periods_does_not_matter(
    done: RunContext, changes: dict[str, Any], is_same: bool
) -> None:
    monthly = RunContext(RunParameters(**(dict(done.parameters) | {"every": "month"})))
    indices.write_run_record(monthly, SUMMARY.as_record(), [], state_of(monthly))
    other = RunContext(RunParameters(**(dict(monthly.parameters) | changes)))
    assert (unchanged(other, state_of(other)) is not None) == is_same


@pytest.mark.parametrize(
    "changes",
    [
        {"cells": CELLS[:1]},
        {"cells": [CELLS[0], Gridcell("b", shapely.box(1, 0, 2, 2))]},
        {"found": found("P", "R")},
        {"found": found("P", status="duplicate")},
        {"found": found("P", status="failed")},
        {"manifest": b"P,not needed\n"},
    ],
    ids=str,
)
def test_cells_and_products_do(done: RunContext, changes: dict[str, Any]) -> None:
    assert unchanged(done, state_of(done, **changes)) is None


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def _link(path: Path) -> None:
    target = path.rename(path.with_name("elsewhere"))
    path.symlink_to(target)


@pytest.mark.parametrize("change", [Path.unlink, _touch, lambda path: path.write_text("longer content")])
@pytest.mark.parametrize("name", ["image", "composite", "record"])
def test_files_of_products_and_composites_do(done: RunContext, name: str, change: Callable[[Path], object]) -> None:
    workspace = done.workspace
    files = {
        "image": workspace.imagery_raw / "P.SAFE" / "GRANULE" / "image.jp2",
        "composite": workspace.composite("a", "B02"),
        "record": workspace.record("a", "B02"),
    }
    change(files[name])
    assert unchanged(done, state_of(done)) is None


@pytest.mark.parametrize("status", ["duplicate", "twin"])
def test_files_of_repetitions_do_because_they_may_be_used(done: RunContext, tmp_path: Path, status: Any) -> None:
    image = tmp_path / "P" / "image.jp2"
    image.parent.mkdir()
    image.write_text("content")
    products = [*found("P"), Candidate("P", None, status, path=image.parent)]
    before = state_of(done, found=products)
    assert before is not None
    assert state_of(done, found=products) == before
    _touch(image)
    assert state_of(done, found=products) != before


def test_what_could_not_be_used_is_tried_again_though_no_file_has_changed(done: RunContext) -> None:
    """Also if it is replaced: a download may work now, and a folder on a network be read."""

    def after(**counts: int) -> str | None:
        return fingerprint_of_run(done, CELLS, found("P"), b"P,selected\n", replace(SUMMARY, **counts))

    assert after() == state_of(done)
    assert after(replaced_products=1) is None
    assert after(failed_products=1) is None
    assert after(failed=1) is None


def test_a_folder_behind_a_link_is_looked_at(done: RunContext) -> None:
    """What changes there would not be seen."""
    _link(done.workspace.imagery_raw / "P.SAFE" / "GRANULE")
    assert state_of(done) is None


def test_a_run_without_tables_or_record_is_looked_at(done: RunContext) -> None:
    now = state_of(done)
    done.workspace.scene_index.unlink()
    assert unchanged(done, now) is None
    done.workspace.scene_index.write_text("")
    indices.write_run_record(done, SUMMARY.as_record(), [])
    assert unchanged(done, now) is None
    indices.write_run_record(done, {"cells": "many"}, [], now)
    assert unchanged(done, now) is None
