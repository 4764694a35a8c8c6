"""The nightly update: the pipeline on the window from the season's start to now."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Failed

from flows.pipeline import run_pipeline
from flows.signature import parameters_of
from s2sr_core.errors import InputError
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.season import SeasonParameters
from s2sr_core.signature import takes_fields_of


@flow(name="season-update", flow_run_name="season from {season_start}", validate_parameters=False)
@takes_fields_of(SeasonParameters, RunParameters, without=("start", "end"))
def season_update(**fields: Any) -> State:
    """Composite the season under way: only new products are downloaded, only what changed is computed.

    Each season has a folder of its own below ``work_dir``, named by its first day.
    """
    try:
        season = parameters_of(SeasonParameters, {"season_start": fields.pop("season_start")})
        start, end = season.window(flow_run.scheduled_start_time or datetime.now(UTC))
        work_dir = Path(fields.pop("work_dir")) / f"{start:%Y-%m-%d}"
        parameters = parameters_of(RunParameters, {**fields, "start": start, "end": end, "work_dir": work_dir})
    except InputError as error:
        return Failed(message=str(error), data=error)
    return run_pipeline(dict(parameters))
