"""A repair: the last run of a work folder, whose process died, is continued with the parameters of its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Failed

from flows.pipeline import run_pipeline
from flows.signature import parameters_of
from s2sr_core.errors import InputError
from s2sr_core.planning.last_run import RepairParameters, parameters_of_last_run
from s2sr_core.signature import takes_fields_of


def _run_name() -> str:
    return f"repair {Path(str(flow_run.parameters['work_dir'])).name}"


@flow(name="repair", flow_run_name=_run_name, validate_parameters=False)
@takes_fields_of(RepairParameters)
def repair(**fields: Any) -> State:
    """Continue the last run of a work folder, with its parameters; clean up what its dead process left."""
    try:
        parameters = parameters_of_last_run(parameters_of(RepairParameters, fields).work_dir, {})
    except InputError as error:
        return Failed(message=str(error), data=error)
    return run_pipeline(dict(parameters))
