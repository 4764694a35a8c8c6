"""Writing the tables of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from prefect import task

from s2sr_core.composites.composite import Outcome
from s2sr_core.composites.mosaic import mosaic_cells
from s2sr_core.outputs import indices
from s2sr_core.outputs.quicklook import draw_cell
from s2sr_core.outputs.report import failures_of, products_of, report_of, write_report
from s2sr_core.outputs.summary import Summary
from s2sr_core.progress import progress
from s2sr_core.run_context import RunContext
from s2sr_core.selection.line import Result
from tasks.artifacts import never_failing, publish_markdown, publish_pictures, publish_table
from tasks.settings import COMMON, INDEX_TIMEOUT


@task(name="write-scene-index", tags={"s2sr", "publish"}, **COMMON, **INDEX_TIMEOUT)
def write_scene_index(context: RunContext, results: Sequence[Result]) -> None:
    """``indices/scene_index.csv`` and, if there are errors, ``indices/phase1_errors.csv``."""
    workspace = context.workspace
    indices.write_scene_index(workspace.scene_index, results, context.parameters.bands)
    indices.write_phase1_errors(workspace.phase1_errors, results)


@task(name="begin-composites", tags={"s2sr", "publish"}, **COMMON, **INDEX_TIMEOUT)
def begin_composites(context: RunContext) -> None:
    """Note in the run's record that composites are about to change."""
    indices.begin_run(context.workspace)


@task(name="draw-quicklooks", tags={"s2sr", "publish"}, **COMMON, **INDEX_TIMEOUT)
def draw_quicklooks(context: RunContext, cells: Sequence[tuple[str, str]]) -> list[Path]:
    """A PNG of each cell and period (id and label) that has a composite."""
    with progress("quicklooks", len(cells)) as advance:
        drawn, bands, statistic = [], context.parameters.bands, context.parameters.statistic_names[0]
        for cell_id, period in cells:
            drawn.append(draw_cell(context.workspace, cell_id, bands, period, statistic))
            advance()
    return [path for path in drawn if path is not None]


@task(name="publish-catalogue", tags={"s2sr", "publish"}, **COMMON, **INDEX_TIMEOUT)
def publish_catalogue(context: RunContext, outcomes: Sequence[Outcome]) -> None:
    """Mosaics, the STAC collection and the tile index of all composites that ``indices/composite_index.csv`` lists."""
    from s2sr_core.outputs import stac, tile_index  # pystac takes a second

    workspace = context.workspace
    indices.update_composite_index(context, outcomes)
    mosaic_cells(workspace, context.parameters)
    tile_index.write_tile_index(workspace.tile_index, stac.publish(workspace))


@task(name="write-manifests", tags={"s2sr", "publish"}, **COMMON, **INDEX_TIMEOUT)
def write_manifests(
    context: RunContext, outcomes: Sequence[Outcome], summary: Summary, fingerprint: str | None = None
) -> Summary:
    """The tables and the record that end a run, as :func:`s2sr_core.outputs.indices.write_manifests`."""
    return indices.write_manifests(context, outcomes, summary, fingerprint)


#: Columns of the tables of products, what matters first; those without a value are left out.
_USED = ("sensing_time", "valid_share", "cloud_cover", "reason", "product")
_LEFT_OUT = ("status", "reason", "product", "sensing_time", "cloud_cover")


def show_results(context: RunContext, summary: Summary, seconds: Mapping[str, float], *, queried: bool) -> None:
    """The report of a run in its folder; the same, its tables and its pictures on the page of its flow run.

    ``seconds`` are those of each stage; ``queried`` tells whether there is a query manifest of this run.
    """
    with never_failing("the report"):
        report = report_of(context, summary, seconds, products_of(context, queried=queried))
        write_report(context.workspace, report)
        publish_markdown("report", report.as_markdown(), summary.sentence())
        publish_pictures(report.pictures)
    with never_failing("the tables"):
        scenes = products_of(context, queried=queried)
        used, left_out = scenes[scenes["status"] == "selected"], scenes[scenes["status"] != "selected"]
        publish_table(
            "scenes-used",
            _rows(used, _USED),
            f"{len(used)} scenes; valid_share: of the pixels near the cells.",
        )
        left_out = left_out.sort_values(["status", "product"], kind="stable")
        publish_table("scenes-left-out", _rows(left_out, _LEFT_OUT), f"{len(left_out)} products are left out.")
        if summary.failures and not (failures := failures_of(context.workspace)).empty:
            publish_table("failures", _rows(failures, failures.columns), f"{len(failures)} failures.")


def _rows(table: pd.DataFrame, columns: Iterable[str]) -> list[dict[str, str]]:
    """Rows of those ``columns`` in which some row has a value."""
    shown = [column for column in columns if column in table and (table[column] != "").any()]
    return [{str(key): str(value) for key, value in row.items()} for row in table[shown].to_dict("records")]
