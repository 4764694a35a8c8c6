"""Phase 1: preparing scenes."""

from __future__ import annotations

from prefect import task

from s2sr_core.engines.fast import decode_ahead
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.units import SceneUnit
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.prepare import classify_product, prepare_product
from s2sr_core.scenes.scene import Preparation
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
def classify_scenes(unit: SceneUnit, parameters: RunParameters) -> list[Preparation]:
    """Look at SCL of a product (or of a few, if there are very many): are its bands needed?

    Raises
    ------
    PartlyFailedError
        If a product cannot be used.
    """
    context = RunContext(parameters, worker_number())
    with logged(context):
        results = [classify_product(context, product, cells) for product, cells in unit.products]
    return _complete(results)


@task(
    name="prepare-scene",
    tags={"s2sr", "phase-1"},
    **COMMON,
    **RETRIES,
    **UNIT_TIMEOUT,
)
def prepare_scene(unit: SceneUnit, parameters: RunParameters) -> list[Preparation]:
    """Mask, harmonise and warp one product (or a few, if there are very many), as VRTs.

    Raises
    ------
    PartlyFailedError
        If a product, or a band of one, cannot be used.
    """
    context = RunContext(parameters, worker_number())
    with logged(context):
        results = [
            prepare_product(context, product, cells, unit.classified.get(str(product.name)))
            for product, cells in unit.products
        ]
        for result in results:
            if unit.decodes and result.scene is not None:
                decode_ahead(context, result.scene)
    return _complete(results)


def _complete(results: list[Preparation]) -> list[Preparation]:
    errors = [error for result in results for error in result.errors]
    if errors:
        raise PartlyFailedError(f"{len(errors)} errors, first: {errors[0]}", results)
    return results
