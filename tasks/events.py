"""Events that automations can wait for."""

from __future__ import annotations

from prefect.events import emit_event

from s2sr_core.outputs.report import address_of
from s2sr_core.outputs.summary import Summary
from s2sr_core.run_context import RunContext
from tasks.artifacts import never_failing, region_of

#: Composites of a work folder were written; its resource is ``s2sr.region.<the two last folders of work_dir>``.
PUBLISHED = "s2sr.composites.published"


def announce_composites(context: RunContext, summary: Summary) -> None:
    """Emit :data:`PUBLISHED` if composites were written: with the run's sentence, and where the index can be opened."""
    if not summary.written:
        return
    workspace = context.workspace
    resource = {
        "prefect.resource.id": f"s2sr.region.{region_of(workspace.work_dir)}",
        "prefect.resource.name": workspace.work_dir.name,
        "s2sr.work-dir": str(workspace.work_dir.absolute()),
        "s2sr.index": address_of(workspace.composite_index) or str(workspace.composite_index.absolute()),
    }
    with never_failing("the event"):
        emit_event(PUBLISHED, resource, payload={"sentence": summary.sentence(), "written": summary.written})
