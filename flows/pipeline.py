"""The pipeline: from a box, a CSV of gridcells and a time window to one median composite per cell and band."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import TaskRunner
from prefect.utilities.annotations import quote

from deployments.clusters import cluster_of
from deployments.process.signals import flow_stops_on_signals
from deployments.server.cancellation import RunCancelledError, RunPausedError, requests_of_server, wait_while_paused
from deployments.server.orphans import settle_task_runs, task_runs_ended
from deployments.server.outage import answered, check_server, was_away
from deployments.server.run_server import is_server_of_run
from flows.dataflow import Dataflow, Threads
from flows.recovery import opened_again, recorded_flow_run
from flows.signature import parameters_of
from s2sr_core.account import account_hidden
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import Outcome
from s2sr_core.errors import ClusterError, InputError, InstallationError, SourceError
from s2sr_core.files import write_text
from s2sr_core.logs import log_environment
from s2sr_core.outputs.summary import Summary, counted
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.preflight import check_inputs
from s2sr_core.planning.unchanged import fingerprint, fingerprint_of_run, manifest_of, unchanged
from s2sr_core.run_context import RunContext
from s2sr_core.selection.candidates import Candidate, size_of
from s2sr_core.selection.query_manifest import read_query_manifest
from s2sr_core.signature import takes_fields_of
from s2sr_core.sources import source_of
from s2sr_core.sources.source import Source
from tasks.artifacts import Bars, keys_of
from tasks.events import announce_composites
from tasks.gridcells import select_gridcells
from tasks.logs import logged
from tasks.products import index_scenes, query_products
from tasks.reports import draw_quicklooks, publish_catalogue, show_results, write_manifests

logger = logging.getLogger("s2sr_core.flow")


def _run_name() -> str:
    return f"composite {Path(str(flow_run.parameters['work_dir'])).name}"


# The model checks the parameters, and says what is wrong in one sentence.
@flow(name="s2sr-pipeline", flow_run_name=_run_name, validate_parameters=False)
@takes_fields_of(RunParameters)
def pipeline(**fields: Any) -> State:
    """Composite Sentinel-2 L2A scenes: one cloud-free median GeoTIFF for each gridcell and band."""
    return run_pipeline(fields)


def run_pipeline(fields: Mapping[str, Any]) -> State:
    """The pipeline within a flow run, whose page shows its task runs and results; ``fields`` are its parameters."""
    try:
        parameters = parameters_of(RunParameters, fields)
        context, source = RunContext(parameters), source_of(parameters)
        check_inputs(parameters, source)
        cluster_of(parameters).check()
        with account_hidden(), flow_stops_on_signals():
            summary = _run_in_folder(context, source)
    except (InputError, InstallationError, SourceError, ClusterError) as error:
        return Failed(message=str(error), data=error)
    except RunCancelledError as error:
        return Cancelled(message=str(error))
    return summary if isinstance(summary, State) else _final_state(summary)


def _run_in_folder(context: RunContext, source: Source[Any]) -> Summary | State:
    """The recipe, with the folder of the run to itself; paused, it gives everything back, and begins again afterwards.

    What is complete is kept, as for a run that is started again. The state is that of a run that was not resumed.
    """
    workspace = context.workspace
    while True:
        try:
            with (
                opened_again(workspace),
                logged(context),
                recorded_flow_run(context),
                requests_of_server(),
                task_runs_ended(UUID(str(flow_run.id))) as began,
                keys_of(context.parameters.work_dir, unseen=is_server_of_run()),
                Bars().shown() as bars,
            ):
                log_environment()
                summary = _run(context, source, began)
                if was_away():
                    answered(check_server)
                # Jobs end with their last unit, before its worker has told all.
                if was_away() or context.parameters.cluster != "local":
                    settle_task_runs(UUID(str(flow_run.id)))
                logger.info(summary.sentence())
                show_results(context, summary, bars.seconds(), queried=source.fetches)
                announce_composites(context, summary)
                if not context.parameters.keep_tmp:
                    workspace.clear_tmp()
                return summary
        except RunPausedError as paused:
            state = wait_while_paused(paused)
            if not state.is_running():
                return state


def _run(context: RunContext, source: Source[Any], began: threading.Event) -> Summary:
    """The recipe: select gridcells, find products, make composites of them, publish the results.

    ``began`` is set before the first unit of work is submitted.
    """
    cells, manifest = answered(select_gridcells, context), manifest_of(context, source)
    found = _find_products(context, source, cells)
    if context.parameters.stage == "query":
        return Summary.of(len(cells), found)
    before = fingerprint(context, cells, found, manifest)
    if (same := unchanged(context, before)) is not None:
        if source.fetches:  # with the products that are not needed, which a query does not know
            write_text(context.workspace.query_manifest, manifest.decode())
        return answered(write_manifests, context, quote([]), same, before)
    began.set()
    with _task_runner(context, found) as runner:
        dataflow = Dataflow(runner, context, source, cells, found)
        summary = dataflow.run()
    if context.parameters.stage == "download":
        return summary
    _draw(context, dataflow.outcomes)
    answered(publish_catalogue, context, quote(dataflow.outcomes))
    after = fingerprint_of_run(context, cells, found, manifest_of(context, source), summary)
    return answered(write_manifests, context, quote(dataflow.outcomes), summary, after)


def _find_products(context: RunContext, source: Source[Any], cells: list[Gridcell]) -> list[Candidate[Any]]:
    """What the source holds; for the download stage, what it held when it was queried."""
    if not source.fetches:
        return answered(index_scenes, context, source, quote(cells))
    if context.parameters.stage == "download":
        return list(read_query_manifest(context.workspace.query_manifest))
    return answered(query_products, context, source, quote(cells))


def _task_runner(context: RunContext, found: Sequence[Candidate[Any]]) -> AbstractContextManager[TaskRunner[Any]]:
    """Where the tasks of both phases run; the download stage looks at SCL in this process."""
    cluster = cluster_of(context.parameters)
    if context.parameters.stage == "download":
        return Threads(cluster.worker_count())
    return cluster.that_pays(size_of(found)).task_runner()


def _draw(context: RunContext, outcomes: list[Outcome]) -> None:
    if context.parameters.quicklook:
        answered(
            draw_quicklooks,
            context,
            sorted({(outcome.cell_id, outcome.period) for outcome in outcomes if outcome.path}),
        )


def _final_state(summary: Summary) -> State:
    """Completed; Completed with n failures; Failed."""
    if summary.nothing_worked:
        return Failed(message=summary.sentence(), data=summary)
    if summary.failures:
        name = f"Completed with {counted(summary.failures, 'failure')}"
        return Completed(name=name, message=summary.sentence(), data=summary)
    return Completed(message=summary.sentence(), data=summary)
