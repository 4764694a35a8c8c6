"""Phase 1: preparing scenes."""

from __future__ import annotations

from prefect import task

from s2sr_core.engines.fast import decode_ahead
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.units import SceneUnit
from s2sr_core.run_context import RunContext
from s2sr_core.selection.observations import Standing, stand
from tasks.logs import logged
from tasks.partly_failed import PartlyFailedError
from tasks.settings import COMMON, RETRIES, UNIT_TIMEOUT
from tasks.worker_number import worker_number


@task(
    name="classify-scene",
    tags={"s2sr", "phase-1"},
    **COMMON,
    **RETRIES,
    **UNIT_TIMEOUT,
)
def classify_scenes(unit: SceneUnit, parameters: RunParameters) -> list[list[Standing]]:
    """Look at SCL of an observation (or of a few, if there are very many): which products of it count, and need bands?

    Raises
    ------
    PartlyFailedError
        If a product cannot be used, also if another takes its place.
    """
    context = RunContext(parameters, worker_number(parameters.work_dir))
    with logged(context):
        results = [stand(context, contenders, cells, bands=False) for contenders, cells in unit.observations]
    return _complete(results)


@task(
    name="prepare-scene",
    tags={"s2sr", "phase-1"},
    **COMMON,
    **RETRIES,
    **UNIT_TIMEOUT,
)
def prepare_scene(unit: SceneUnit, parameters: RunParameters) -> list[list[Standing]]:
    """Mask, harmonise and warp what counts of an observation (or of a few, if there are very many), as VRTs.

    Raises
    ------
    PartlyFailedError
        If a product, or a band of one, cannot be used, also if another takes its place.
    """
    context = RunContext(parameters, worker_number(parameters.work_dir))
    with logged(context):
        results = [stand(context, contenders, cells) for contenders, cells in unit.observations]
        for standing in (standing for standings in results for standing in standings):
            if unit.decodes and standing.scene is not None:
                decode_ahead(context, standing.scene)
    return _complete(results)


def _complete(results: list[list[Standing]]) -> list[list[Standing]]:
    preparations = [standing.preparation for standings in results for standing in standings]
    errors = [error for preparation in preparations if preparation is not None for error in preparation.errors]
    if errors:
        raise PartlyFailedError(f"{len(errors)} errors, first: {errors[0]}", results)
    return results
