"""A run that has nothing to do, from start to end: no server, no workers, and no pixel is read."""

from __future__ import annotations

import logging
from typing import Any

from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.errors import SourceDownError, SourceError
from s2sr_core.files import read_record, written_atomically
from s2sr_core.logs import logged_to
from s2sr_core.outputs.indices import write_manifests
from s2sr_core.outputs.summary import Summary
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.planning.unchanged import fingerprint, manifest_of, may_be_unchanged, unchanged
from s2sr_core.progress import progress
from s2sr_core.run_context import RunContext
from s2sr_core.selection.judge import find_products
from s2sr_core.sources.source import Source

logger = logging.getLogger("s2sr_core.flow")


def run_if_nothing_to_do(context: RunContext, source: Source[Any]) -> Summary | None:
    """Do the run if all that decides about composites is as the last run left it; else None, and nothing is written.

    The tables and the record are those that the flow writes then. The report remains that of the last run.

    Raises
    ------
    InputError
        If the input is bad, or another run uses the folder.
    SourceDownError
        If the source is out of reach for longer than a run waits.
    """
    workspace, parameters = context.workspace, context.parameters
    if not workspace.run_record.exists() or not (read_record(workspace.flow_run) or {}).get("ended"):
        return None  # what a dead run left on a server or a cluster is cleaned up by the flow
    cells, manifest = choose_gridcells(parameters), manifest_of(context, source)
    if not may_be_unchanged(context, cells, manifest):
        return None
    with workspace.opened(), logged_to(workspace.log(context.rank)):
        try:
            with progress("products found", None) as advance:
                found = find_products(source, parameters, cells, advance)
        except SourceDownError:
            raise
        except SourceError:  # the flow asks again, more than once
            return None
        now = fingerprint(context, cells, found, manifest)
        if (summary := unchanged(context, now)) is None:
            return None
        with written_atomically(workspace.selected_gridcells) as path:
            write_gridcells(cells, path)
        summary = write_manifests(context, [], summary, now)
        workspace.clear_tmp()
        logger.info(summary.sentence())
        return summary
