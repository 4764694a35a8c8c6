"""Writing the tables of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from prefect import task

from s2sr_core.composites.composite import Outcome
from s2sr_core.outputs import indices, maps
from s2sr_core.outputs.quicklook import draw_cell
from s2sr_core.outputs.report import report
from s2sr_core.outputs.summary import Summary, counted
from s2sr_core.progress import progress
from s2sr_core.run_context import RunContext
from s2sr_core.selection.line import Result
from tasks.artifacts import never_failing, publish_markdown, publish_picture, publish_table
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
def draw_quicklooks(context: RunContext, cell_ids: Sequence[str]) -> list[Path]:
    """A PNG of each cell that has a composite."""
    with progress("quicklooks", len(cell_ids)) as advance:
        drawn = []
        for cell_id in cell_ids:
            drawn.append(draw_cell(context.workspace, cell_id, context.parameters.bands))
            advance()
    return [path for path in drawn if path is not None]


@task(name="write-manifests", tags={"s2sr", "publish"}, **COMMON, **INDEX_TIMEOUT)
def write_manifests(
    context: RunContext, outcomes: Sequence[Outcome], summary: Summary, fingerprint: str | None = None
) -> Summary:
    """``indices/composite_index.csv``, ``logs/phase2_errors.csv`` and the run's record, written last.

    Returns ``summary`` with what was found of another lattice.
    """
    workspace = context.workspace
    indices.write_phase2_errors(workspace.phase2_errors, outcomes)
    others = indices.update_composite_index(context, outcomes)
    summary = summary.with_other_lattice(len(others))
    indices.write_run_record(context, summary.as_record(), others, fingerprint)
    return summary


#: Columns of the tables of products, what matters first; those without a value are left out.
_USED = ("sensing_time", "valid_share", "cloud_cover", "reason", "product")
_LEFT_OUT = ("status", "reason", "product", "sensing_time", "cloud_cover")
_FAILURES = ("reason", "step", "cell_id", "band", "product")


def show_results(context: RunContext, summary: Summary, seconds: Mapping[str, float], *, queried: bool) -> None:
    """The report, the tables and the pictures of a run on the page of its flow run.

    ``seconds`` are those of each stage; ``queried`` tells whether there is a query manifest of this run.
    """
    parameters, workspace = context.parameters, context.workspace
    with never_failing("the report"):
        publish_markdown("report", report(context, summary, seconds), summary.sentence())
    with never_failing("the tables"):
        scenes = _scenes(context, queried)
        used, left_out = scenes[scenes["status"] == "selected"], scenes[scenes["status"] != "selected"]
        publish_table(
            "scenes-used",
            _rows(used, _USED),
            f"{len(used)} scenes; valid_share: of the pixels near the cells.",
        )
        left_out = left_out.sort_values(["status", "product"], kind="stable")
        publish_table("scenes-left-out", _rows(left_out, _LEFT_OUT), f"{len(left_out)} products are left out.")
        failures = [path for path in (workspace.phase1_errors, workspace.phase2_errors) if path.exists()]
        if summary.failures and failures:
            table = pd.concat([pd.read_csv(path, dtype=str) for path in failures]).fillna("")
            publish_table("failures", _rows(table, _FAILURES), f"{len(table)} failures.")
    if summary.written + summary.kept == 0:
        return
    with never_failing("the pictures"):
        cells = pd.read_csv(workspace.selected_gridcells, dtype=str)["cell_id"].tolist()
        medians: dict[str, list[Path]] = {
            band: _existing(workspace.composite, cells, band) for band in parameters.bands
        }
        counts = _existing(workspace.count, cells, parameters.bands[0])
        show_pictures(medians, counts, f"{workspace.work_dir.name}: {counted(len(cells), 'cell')}")


def show_pictures(medians: Mapping[str, Sequence[Path]], counts: Sequence[Path], what: str) -> None:
    """Maps of composites, by band, and of the counts of the first band on the page of the flow run."""
    with never_failing("the pictures"):
        if (picture := maps.true_colour(medians, what)) is not None:
            publish_picture("quicklook", picture, f"{what}; white if there is no value.")
        band = next(iter(medians))
        if (picture := maps.valid_counts(counts, f"{what}, {band}")) is not None:
            publish_picture("valid-counts", picture, f"{what}: values behind each pixel of {band}.")


def _existing(path: Callable[[str, str], Path], cell_ids: Sequence[str], band: str) -> list[Path]:
    return [raster for cell_id in cell_ids if (raster := path(cell_id, band)).exists()]


def _scenes(context: RunContext, queried: bool) -> pd.DataFrame:
    """The products of the run, by sensing time: of the scene index, and what the query left out."""
    tables, only_queried = [], context.parameters.stage == "query"
    if not only_queried:
        tables.append(pd.read_csv(context.workspace.scene_index, dtype=str))
    if queried:
        found = pd.read_csv(context.workspace.query_manifest, dtype=str)
        looked_at = found["product"].isin([product for table in tables for product in table["product"]])
        tables.append(found[~looked_at & (only_queried | (found["status"] != "selected"))])
    return pd.concat(tables).fillna("").sort_values(["sensing_time", "product"], kind="stable")


def _rows(table: pd.DataFrame, columns: Sequence[str]) -> list[dict[str, str]]:
    """Rows of those ``columns`` in which some row has a value."""
    shown = [column for column in columns if column in table and (table[column] != "").any()]
    return [{str(key): str(value) for key, value in row.items()} for row in table[shown].to_dict("records")]
