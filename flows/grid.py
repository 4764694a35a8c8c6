"""A grid: the CSV of gridcells that the pipeline works on."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.signature import parameters_of
from s2sr_core.cells.make_grid import make_grid
from s2sr_core.errors import InputError
from s2sr_core.outputs.summary import counted
from s2sr_core.parameters import GridParameters
from s2sr_core.signature import takes_fields_of
from tasks.artifacts import publish_markdown


@flow(name="make-grid", flow_run_name="grid {out}", validate_parameters=False)
@takes_fields_of(GridParameters)
def grid(**fields: Any) -> State:
    """Write a CSV of gridcells on a regular grid in degrees, anchored at -180/-90."""
    try:
        parameters = parameters_of(GridParameters, fields)
        count = make_grid(parameters)
    except InputError as error:
        return Failed(message=str(error), data=error)
    sentence = f"{counted(count, 'gridcell')} of {parameters.cell_size:g} degrees: {parameters.out}"
    publish_markdown("grid", sentence, sentence)
    return Completed(message=sentence)
