"""The pipeline: from a box, a CSV of gridcells and a folder of products to one median composite a cell and band."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from prefect import Task, flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner
from prefect.utilities.annotations import quote

from deployments.clusters.local import local_runner, worker_count
from s2sr_core.composite import Outcome
from s2sr_core.errors import InputError, ProductError
from s2sr_core.gridcells import Gridcell
from s2sr_core.logs import log_environment, logged_to
from s2sr_core.parameters import RunParameters
from s2sr_core.plan import CompositeUnit, SceneUnit, composite_units, scene_units
from s2sr_core.progress import progress
from s2sr_core.scene import Preparation, Scene
from s2sr_core.selection import Candidate
from s2sr_core.signature import takes_fields_of
from s2sr_core.summary import Summary, counted
from s2sr_core.workspace import Workspace
from tasks.composites import composite_cells
from tasks.gridcells import select_gridcells
from tasks.partly_failed import PartlyFailedError
from tasks.reports import draw_quicklooks, write_manifests, write_scene_index
from tasks.scenes import index_scenes, prepare_scene

logger = logging.getLogger("s2sr_core.flow")


@flow(name="s2sr-pipeline", flow_run_name="composite {work_dir.name}")
@takes_fields_of(RunParameters)
def pipeline(**fields: Any) -> State:
    """Composite Sentinel-2 L2A scenes: one cloud-free median GeoTIFF for each gridcell and band."""
    try:
        parameters = RunParameters(**fields)
        workspace = Workspace(parameters.work_dir)
        with workspace.opened(), logged_to(workspace.log(0)):
            log_environment()
            summary = _run(parameters)
            logger.info(summary.sentence())
            if not parameters.keep_tmp:
                workspace.clear_tmp()
    except InputError as error:
        return Failed(message=str(error), data=error)
    return _final_state(summary)


def _run(parameters: RunParameters) -> Summary:
    cells = select_gridcells(parameters)
    candidates = index_scenes(parameters, quote(cells))
    with local_runner(parameters.workers) as runner:
        workers = worker_count(parameters.workers)
        preparations = _prepare(runner, parameters, cells, candidates, workers)
        write_scene_index(parameters, quote(candidates), quote(preparations))
        scenes = [preparation.scene for preparation in preparations if preparation.scene is not None]
        outcomes = _composite(runner, parameters, cells, scenes, workers)
    if parameters.quicklook:
        draw_quicklooks(parameters, sorted({outcome.cell_id for outcome in outcomes if outcome.path}))
    summary = Summary.of(len(cells), candidates, preparations, outcomes)
    return write_manifests(parameters, quote(outcomes), summary)


def _prepare(
    runner: TaskRunner[Any],
    parameters: RunParameters,
    cells: Sequence[Gridcell],
    candidates: Sequence[Candidate],
    workers: int,
) -> list[Preparation]:
    """Phase 1 on the workers: a result for each selected product, ordered by name."""
    products = [c.product for c in candidates if c.status == "selected" and c.product is not None]

    def failed(unit: SceneUnit, reason: str) -> list[Preparation]:
        names = [str(product.name) for product, _ in unit.products]
        return [Preparation(name, None, (ProductError(name, reason, step="prepare"),)) for name in names]

    units = scene_units(products, cells, workers)
    preparations = _run_units(runner, prepare_scene, units, parameters, "scenes", failed)
    return sorted(preparations, key=lambda preparation: preparation.product)


def _composite(
    runner: TaskRunner[Any],
    parameters: RunParameters,
    cells: Sequence[Gridcell],
    scenes: Sequence[Scene],
    workers: int,
) -> list[Outcome]:
    """Phase 2 on the workers: an outcome for each cell and band, ordered by both."""

    def failed(unit: CompositeUnit, reason: str) -> list[Outcome]:
        return [
            Outcome(cell.cell_id, band, "failed", scenes=len(scenes_of_cell), step="task", reason=reason)
            for cell, scenes_of_cell in unit.cells
            for band in unit.bands
        ]

    units = composite_units(cells, scenes, parameters.bands, workers)
    outcomes = _run_units(runner, composite_cells, units, parameters, "composites", failed)
    return sorted(outcomes, key=lambda outcome: (outcome.cell_id, outcome.band))


def _run_units[U: (SceneUnit, CompositeUnit), R](
    runner: TaskRunner[Any],
    task: Task[..., list[R]],
    units: Sequence[U],
    parameters: RunParameters,
    title: str,
    failed: Callable[[U, str], list[R]],
) -> list[R]:
    """Run ``task`` for each unit; ``failed`` makes the results of a unit whose task was lost altogether."""
    futures: dict[PrefectFuture[list[R]], U] = {}
    for unit in units:
        named = task.with_options(task_run_name=f"{task.name} {unit.title}")
        futures[runner.submit(named, {"unit": unit, "parameters": parameters})] = unit
    results: list[R] = []
    with progress(title, len(units)) as advance:
        for future in as_completed(list(futures)):
            try:
                results += future.result()
            except PartlyFailedError as error:
                results += error.results
            except Exception as error:  # noqa: BLE001  # the task crashed or its worker died: recorded, the rest goes on
                results += failed(futures[future], " ".join(f"{type(error).__name__}: {error}".split()))
            advance()
    return results


def _final_state(summary: Summary) -> State:
    """Completed; Completed with n failures; Failed."""
    if summary.nothing_worked:
        return Failed(message=summary.sentence(), data=summary)
    if summary.failures:
        return Completed(
            name=f"Completed with {counted(summary.failures, 'failure')}", message=summary.sentence(), data=summary
        )
    return Completed(message=summary.sentence(), data=summary)
