"""Writing the tables of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import task

from s2sr_core import indices
from s2sr_core.composite import Outcome
from s2sr_core.parameters import RunParameters
from s2sr_core.progress import progress
from s2sr_core.quicklook import draw_cell
from s2sr_core.safe import Product
from s2sr_core.scene import Preparation
from s2sr_core.selection import Candidate
from s2sr_core.summary import Summary
from s2sr_core.workspace import Workspace
from tasks.settings import COMMON, INDEX_TIMEOUT


@task(name="write-scene-index", tags={"s2sr", "publish"}, **COMMON, **INDEX_TIMEOUT)
def write_scene_index(
    parameters: RunParameters, candidates: Sequence[Candidate[Product]], preparations: Sequence[Preparation]
) -> None:
    """``indices/scene_index.csv`` and, where there is one to tell, ``indices/phase1_errors.csv``."""
    workspace = Workspace(parameters.work_dir)
    by_name = {preparation.product: preparation for preparation in preparations}
    indices.write_scene_index(workspace.scene_index, candidates, by_name, parameters.bands)
    indices.write_phase1_errors(workspace.phase1_errors, candidates, preparations)


@task(name="begin-composites", tags={"s2sr", "publish"}, **COMMON, **INDEX_TIMEOUT)
def begin_composites(parameters: RunParameters) -> None:
    """Note in the run's record that composites are about to change."""
    indices.begin_run(Workspace(parameters.work_dir))


@task(name="draw-quicklooks", tags={"s2sr", "publish"}, **COMMON, **INDEX_TIMEOUT)
def draw_quicklooks(parameters: RunParameters, cell_ids: Sequence[str]) -> list[Path]:
    """A PNG of each cell that has a composite."""
    workspace = Workspace(parameters.work_dir)
    with progress("quicklooks", len(cell_ids)) as advance:
        drawn = []
        for cell_id in cell_ids:
            drawn.append(draw_cell(workspace, cell_id, parameters.bands))
            advance()
    return [path for path in drawn if path is not None]


@task(name="write-manifests", tags={"s2sr", "publish"}, **COMMON, **INDEX_TIMEOUT)
def write_manifests(parameters: RunParameters, outcomes: Sequence[Outcome], summary: Summary) -> Summary:
    """``indices/composite_index.csv``, ``logs/phase2_errors.csv`` and the run's record, written last.

    Returns ``summary`` with what was found of another lattice.
    """
    workspace = Workspace(parameters.work_dir)
    indices.write_phase2_errors(workspace.phase2_errors, outcomes)
    others = indices.update_composite_index(workspace, outcomes, parameters)
    summary = summary.with_other_lattice(len(others))
    indices.write_run_record(workspace, parameters, summary.as_record(), others)
    return summary
