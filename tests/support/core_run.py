"""A run of the core in a process of its own, from products to tables, which can kill itself before its n-th step.

A step is whatever Python does to a file of the work folder: open, rename, remove, make a folder. So a number is the
same moment in every run.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.composites.composite import composite_cell
from s2sr_core.outputs import indices
from s2sr_core.outputs.summary import Summary
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.prepare import prepare_product
from s2sr_core.selection.candidates import selected_products
from s2sr_core.selection.judge import find_products
from s2sr_core.selection.query_manifest import write_query_manifest
from s2sr_core.sources import source_of
from s2sr_core.workspace import Workspace

_EVENTS = frozenset({"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"})


def run_in_a_process(parameters: RunParameters, *, kill_at: int = 0) -> tuple[int, str]:
    """Exit code and output of such a run; it kills itself before step ``kill_at``, and prints how many it did."""
    done = subprocess.run(
        [sys.executable, "-m", "support.core_run", parameters.model_dump_json(), str(kill_at)],
        cwd=Path(__file__).resolve().parents[1],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _main(parameters: RunParameters, kill_at: int) -> None:
    steps, folder = itertools.count(1), str(parameters.work_dir)
    last = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal last
        if event in _EVENTS and (event == "os.remove" or str(arguments[0]).startswith(folder)):
            last = next(steps)
            if last == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    _run(parameters)
    print(last)


def _run(parameters: RunParameters) -> None:
    """The steps of the flow, one after another."""
    context, workspace, source = RunContext(parameters), Workspace(parameters.work_dir), source_of(parameters)
    with workspace.opened():
        cells = choose_gridcells(parameters)
        write_gridcells(cells, workspace.selected_gridcells)
        found = find_products(source, parameters, cells)
        if source.fetches:
            write_query_manifest(workspace.query_manifest, found)
        products = []
        for product in selected_products(found):
            source.fetch(product, parameters.bands)
            products.append(source.open(product))
        preparations = [prepare_product(context, product, cells) for product in products]
        scenes = [preparation.scene for preparation in preparations if preparation.scene]
        indices.begin_run(workspace)
        outcomes = [outcome for cell in cells for outcome in composite_cell(context, cell, parameters.bands, scenes)]
        remaining = indices.update_composite_index(context, outcomes)
        indices.write_phase2_errors(workspace.phase2_errors, outcomes)
        summary = Summary.of(len(cells), found, preparations, outcomes)
        indices.write_run_record(context, summary.as_record(), remaining)
        assert not summary.failures, summary.sentence()
        workspace.clear_tmp()


if __name__ == "__main__":
    _main(RunParameters.model_validate_json(sys.argv[1]), int(sys.argv[2]))
