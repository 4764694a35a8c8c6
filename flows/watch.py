"""A watch: a run of the pipeline as soon as something new was published."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.campaign import find_deployment
from flows.signature import parameters_of
from s2sr_core.errors import InputError, SourceError
from s2sr_core.outputs.summary import counted
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.planning.watch import WatchParameters, once_a_day, unseen_products
from s2sr_core.selection.judge import find_products
from s2sr_core.signature import takes_fields_of
from s2sr_core.sources import source_of
from s2sr_core.workspace import Workspace


@flow(name="watch-products", flow_run_name="watch {work_dir}", validate_parameters=False)
@takes_fields_of(RunParameters, WatchParameters)
def watch(**fields: Any) -> State:
    """Start a run of the pipeline if the source lists products that the last run in ``work_dir`` has not seen.

    It only asks the catalogue. The run it starts has the same parameters; one that is under way is not started twice.
    """
    try:
        own = {name: fields.pop(name) for name in WatchParameters.model_fields}
        parameters, plan = parameters_of(RunParameters, fields), parameters_of(WatchParameters, own)
        with get_client(sync_client=True) as client:
            find_deployment(client, plan.deployment)
        source, workspace = source_of(parameters), Workspace(parameters.work_dir)
        found = find_products(source, parameters, choose_gridcells(parameters))
    except (InputError, SourceError) as error:
        return Failed(message=str(error), data=error)
    new = unseen_products(found, workspace.query_manifest if source.fetches else workspace.scene_index)
    if not new:
        return Completed(message=f"nothing new among {counted(len(found), 'product')}")
    now = flow_run.scheduled_start_time or datetime.now(UTC)
    run_deployment(
        plan.deployment,
        parameters=_same(parameters),
        timeout=0,
        as_subflow=False,  # a task run that stands for it here would never end
        flow_run_name=f"{workspace.work_dir.name}: {counted(len(new), 'new product')}",
        idempotency_key=once_a_day(workspace.work_dir, new, now.date()),
    )
    return Completed(
        message=f"{counted(len(new), 'new product')}, first {new[0]}: a run of {plan.deployment} composites them"
    )


def _same(parameters: RunParameters) -> dict[str, Any]:
    """What was given, as plain JSON; ``work_dir`` as an absolute path."""
    given: dict[str, Any] = json.loads(parameters.model_dump_json(exclude_defaults=True))
    return given | {"work_dir": str(parameters.work_dir.absolute())}
