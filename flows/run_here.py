"""One run of the pipeline in this process, with a Prefect server of its own if no other is configured."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from deployments.mpi.launched_rank import launched_rank
from deployments.process.copies import imports_uncollected
from s2sr_core import stopping
from s2sr_core.disk_space import explained, is_full_disk
from s2sr_core.errors import InputError, RunError, SourceDownError
from s2sr_core.parameters import RunParameters
from s2sr_core.signals import handlers_kept_quiet
from s2sr_core.workspace import Workspace

# What computes, queries or orchestrates is imported where it is first needed: bad input needs none of it.
if TYPE_CHECKING:
    from s2sr_core.outputs.summary import Summary


def run_here(parameters: RunParameters) -> Summary:
    """Check what can be checked in advance, then run the flow; its server has ended when this returns.

    A run that has nothing to do, and whose Prefect is not configured, needs no flow, because nobody would see it.

    Raises
    ------
    InputError
        If the input is bad.
    RunError
        If the run ends without a summary: it broke, or it is paused.
    StoppedError
        If this process shall stop.
    """
    Workspace(parameters.work_dir).check_writable()

    with imports_uncollected():
        from deployments.clusters import cluster_of
        from deployments.server.configured import check_prefect, may_have_api
        from s2sr_core.planning.nothing_to_do import run_if_nothing_to_do
        from s2sr_core.planning.preflight import check_inputs
        from s2sr_core.run_context import RunContext
        from s2sr_core.sources import source_of
        from s2sr_core.user_folders import check_prefect_home

    source = source_of(parameters)
    check_inputs(parameters, source)
    cluster = cluster_of(parameters)
    cluster.check()
    check_prefect_home()
    is_seen = may_have_api()
    if not is_seen:
        try:
            if (summary := run_if_nothing_to_do(RunContext(parameters), source)) is not None:
                return summary
        except SourceDownError as error:
            raise RunError(f"Failed: {error}") from error
    with imports_uncollected():
        check_prefect()

        from prefect.exceptions import Pause

        from deployments.server.run_server import server_begun, server_of_run
        from flows.pipeline import pipeline
        from s2sr_core.outputs.summary import Summary
    with ExitStack() as held:
        # Both are copies of this process, which has imported what they need, and has no threads yet.
        cluster.begin()
        begun = None if is_seen else held.enter_context(server_begun(copied=launched_rank().size == 1))
        held.enter_context(handlers_kept_quiet())
        with server_of_run(cluster.host(), Workspace(parameters.work_dir).tmp, begun):
            try:
                state = pipeline(**dict(parameters), return_state=True)
            except Pause as pause:
                raise RunError("the run is paused in Prefect; the same command continues.") from pause
            result = state.result(raise_on_failure=False)
        if not isinstance(result, Summary):
            stopping.check()
    if isinstance(result, InputError):
        raise result
    if isinstance(result, BaseException) and is_full_disk(result):
        raise RunError(f"{explained(result, parameters.work_dir)}.") from result
    if not isinstance(result, Summary):
        raise RunError(f"{state.name}: {state.message}")
    return result
