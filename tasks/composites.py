"""Phase 2: compositing gridcells."""

from __future__ import annotations

from prefect import task

from s2sr_core.composites.composite import Outcome, composite_cell
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.units import CompositeUnit
from s2sr_core.run_context import RunContext
from tasks.logs import logged
from tasks.partly_failed import PartlyFailedError
from tasks.settings import COMMON, RETRIES, UNIT_TIMEOUT
from tasks.worker_number import worker_number


@task(
    name="composite-cell",
    tags={"s2sr", "phase-2"},
    **COMMON,
    **RETRIES,
    **UNIT_TIMEOUT,
)
def composite_cells(unit: CompositeUnit, parameters: RunParameters) -> list[Outcome]:
    """Composite the bands of the cells of ``unit``.

    Raises
    ------
    PartlyFailedError
        If a composite failed; the others are written.
    """
    context = RunContext(parameters, worker_number(parameters.work_dir))
    with logged(context):
        outcomes = [
            outcome
            for cell, scenes in unit.cells
            for outcome in composite_cell(
                context, cell, unit.bands, scenes, unit.failed_products, unit.periods, unit.lines
            )
        ]
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed:
        first = failed[0]
        title = " ".join(filter(None, (first.cell_id, first.period, first.band)))
        raise PartlyFailedError(f"{len(failed)} composites failed, first: {title}: {first.reason}", outcomes)
    return outcomes
