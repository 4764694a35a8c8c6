"""The pipeline: from a box, a CSV of gridcells and a time window to one median composite a cell and band."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed
from prefect.utilities.annotations import quote

from deployments.clusters import cluster_of
from deployments.server.cancellation import RunCancelledError, cancelled_by_api
from flows.dataflow import Course, threads
from flows.recovery import noted
from flows.signature import takes_fields_of
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import ClusterError, InputError
from s2sr_core.logs import log_environment, logged_to
from s2sr_core.outputs.summary import Summary, counted
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.preflight import check
from s2sr_core.selection.candidates import Candidate
from s2sr_core.sources.cdse.catalogue import CatalogueProduct
from s2sr_core.sources.cdse.http import CdseError
from s2sr_core.sources.cdse.query import read_manifest
from s2sr_core.validation import checked
from s2sr_core.workspace import Workspace
from tasks.artifacts import Bars
from tasks.gridcells import select_gridcells
from tasks.products import query_products
from tasks.reports import draw_quicklooks, show_results, write_manifests
from tasks.scenes import index_scenes

logger = logging.getLogger("s2sr_core.flow")


def _run_name() -> str:
    return f"composite {Path(str(flow_run.parameters['work_dir'])).name}"


# The model checks the parameters, and says what is wrong in one sentence.
@flow(name="s2sr-pipeline", flow_run_name=_run_name, validate_parameters=False)
@takes_fields_of(RunParameters)
def pipeline(**fields: Any) -> State:
    """Composite Sentinel-2 L2A scenes: one cloud-free median GeoTIFF for each gridcell and band."""
    try:
        parameters = checked(RunParameters, fields)
        check(parameters)
        cluster_of(parameters).check()
        workspace = Workspace(parameters.work_dir)
        with (
            workspace.opened(),
            logged_to(workspace.log(0)),
            noted(workspace, parameters),
            cancelled_by_api(),
            Bars().shown() as bars,
        ):
            log_environment()
            summary = _run(parameters)
            logger.info(summary.sentence())
            show_results(parameters, summary, bars.seconds())
            if not parameters.keep_tmp:
                workspace.clear_tmp()
    except (InputError, CdseError, ClusterError) as error:
        return Failed(message=str(error), data=error)
    except RunCancelledError as error:
        return Cancelled(message=str(error))
    return _final_state(summary)


def _run(parameters: RunParameters) -> Summary:
    """The stages asked for, one after the other."""
    cells = select_gridcells(parameters)
    found: Sequence[Candidate[Any]]
    found = index_scenes(parameters, quote(cells)) if parameters.is_offline else _manifest(parameters, cells)
    if parameters.stage == "query":
        return Summary.of(len(cells), found)
    cluster = cluster_of(parameters)
    if parameters.stage == "download":
        with threads(cluster.worker_count()) as runner:
            return Course(runner, parameters, cells, found).run()

    with cluster.task_runner() as runner:
        course = Course(runner, parameters, cells, found)
        summary = course.run()
    if parameters.quicklook:
        draw_quicklooks(parameters, sorted({outcome.cell_id for outcome in course.outcomes if outcome.path}))
    return write_manifests(parameters, quote(course.outcomes), summary)


def _manifest(parameters: RunParameters, cells: Sequence[Gridcell]) -> list[Candidate[CatalogueProduct]]:
    """What the catalogue holds; for the download stage, what it held when it was queried."""
    if parameters.stage == "download":
        return read_manifest(Workspace(parameters.work_dir).query_manifest)
    return query_products(parameters, quote(cells))


def _final_state(summary: Summary) -> State:
    """Completed; Completed with n failures; Failed."""
    if summary.nothing_worked:
        return Failed(message=summary.sentence(), data=summary)
    if summary.failures:
        name = f"Completed with {counted(summary.failures, 'failure')}"
        return Completed(name=name, message=summary.sentence(), data=summary)
    return Completed(message=summary.sentence(), data=summary)
