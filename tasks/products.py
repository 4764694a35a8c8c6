"""Finding products in a source, and downloading them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import task
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError, SourceDownError, Step
from s2sr_core.planning.units import DownloadUnit
from s2sr_core.products.safe import Product
from s2sr_core.progress import progress
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.scene import Preparation
from s2sr_core.selection.candidates import Candidate
from s2sr_core.selection.downloads import Download, download
from s2sr_core.selection.judge import find_products
from s2sr_core.selection.query_manifest import mark_not_needed, write_query_manifest
from s2sr_core.sources.source import RemoteProduct, Source
from tasks.partly_failed import PartlyFailedError
from tasks.settings import COMMON, INDEX_TIMEOUT, UNIT_TIMEOUT


@task(name="index-scenes", tags={"s2sr", "index"}, **COMMON, **INDEX_TIMEOUT)
def index_scenes(context: RunContext, source: Source[Product], cells: Sequence[Gridcell]) -> list[Candidate[Product]]:
    """Every product on disk, judged by its name and metadata."""
    with progress("products found", None) as advance:
        return find_products(source, context.parameters, cells, advance)


def _may_pass(task: Task[..., object], task_run: TaskRun, state: State[object]) -> bool:
    """Whether another attempt may succeed: not if the account is refused, the source is down, or the answer final."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, PartlyFailedError):
        return any(download.candidate.step == Step.CONNECTION for download in error.results)
    return not isinstance(error, InputError | SourceDownError)


@task(
    name="query-products",
    tags={"s2sr", "query"},
    retries=2,
    retry_delay_seconds=20,
    retry_condition_fn=_may_pass,
    **COMMON,
    **INDEX_TIMEOUT,
)
def query_products(
    context: RunContext, source: Source[RemoteProduct], cells: Sequence[Gridcell]
) -> list[Candidate[RemoteProduct]]:
    """Every product that the source lists, judged, written to ``indices/query_manifest.csv``."""
    with progress("products found", None) as advance:
        candidates = find_products(source, context.parameters, cells, advance)
    write_query_manifest(context.workspace.query_manifest, candidates)
    return candidates


@task(name="note-not-needed", tags={"s2sr", "download"}, **COMMON, **INDEX_TIMEOUT)
def note_not_needed(context: RunContext, preparations: Sequence[Preparation]) -> None:
    """Say in ``indices/query_manifest.csv`` which products are not needed, why, and how many bytes that saved."""
    scenes = [preparation.scene for preparation in preparations if preparation.scene is not None]
    mark_not_needed(context.workspace.query_manifest, [scene for scene in scenes if scene.is_not_needed])


@task(
    name="download-product",
    tags={"s2sr", "download"},
    retries=2,
    retry_delay_seconds=10,
    retry_jitter_factor=0.5,
    retry_condition_fn=_may_pass,
    **COMMON,
    **UNIT_TIMEOUT,
)
def download_products(unit: DownloadUnit) -> list[Download]:
    """Complete the products of ``unit`` on disk: metadata, SCL and its bands.

    Files that are there and right are not asked for.

    Raises
    ------
    InputError
        If the account is refused.
    SourceDownError
        If the source is out of reach for longer than the run waits.
    PartlyFailedError
        If a product cannot be had; the others are there.
    """
    asked = zip(unit.products, unit.occupancies, strict=True)
    downloads = [download(unit.source, product, unit.bands, occupancy) for product, occupancy in asked]
    failed = [each.candidate for each in downloads if each.candidate.status == "failed"]
    if failed:
        first: Candidate[Any] = failed[0]
        raise PartlyFailedError(f"{len(failed)} products failed, first: {first.title}: {first.reason}", downloads)
    return downloads
