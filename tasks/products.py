"""Querying CDSE and downloading products."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError, ProductError
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import DownloadUnit
from s2sr_core.products.safe import read_product
from s2sr_core.progress import progress
from s2sr_core.scenes.scene import Preparation
from s2sr_core.selection.candidates import Candidate, Download
from s2sr_core.sources.cdse import client
from s2sr_core.sources.cdse.catalogue import CatalogueProduct
from s2sr_core.sources.cdse.query import query_products as query
from s2sr_core.sources.cdse.query import update_not_needed, write_manifest
from s2sr_core.workspace import Workspace
from tasks.partly_failed import PartlyFailedError
from tasks.settings import COMMON, INDEX_TIMEOUT, UNIT_TIMEOUT


@task(name="query-products", tags={"s2sr", "query"}, retries=2, retry_delay_seconds=20, **COMMON, **INDEX_TIMEOUT)
def query_products(parameters: RunParameters, cells: Sequence[Gridcell]) -> list[Candidate[CatalogueProduct]]:
    """Every product the catalogue gives, judged, written to ``indices/query_manifest.csv``."""
    with progress("products found", None) as advance:
        candidates = query(parameters, cells, client.catalogue(), advance)
    write_manifest(Workspace(parameters.work_dir).query_manifest, candidates)
    return candidates


@task(name="note-not-needed", tags={"s2sr", "download"}, **COMMON, **INDEX_TIMEOUT)
def note_not_needed(parameters: RunParameters, preparations: Sequence[Preparation]) -> None:
    """Say in ``indices/query_manifest.csv`` which products are not needed, why, and how many bytes that saved."""
    scenes = [preparation.scene for preparation in preparations if preparation.scene is not None]
    update_not_needed(Workspace(parameters.work_dir).query_manifest, [scene for scene in scenes if scene.is_not_needed])


def _may_pass(task: Task[..., object], task_run: TaskRun, state: State[object]) -> bool:
    """Whether another attempt could go better: not where the account is refused, nor where CDSE's answer is final."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, PartlyFailedError):
        return any(download.candidate.step == "connection" for download in error.results)
    return not isinstance(error, InputError)


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
def download_products(unit: DownloadUnit, parameters: RunParameters) -> list[Download]:
    """Complete the products of ``unit`` in ``imagery_raw/``: metadata, SCL and its bands.

    Files that are there and right are not asked for.

    Raises
    ------
    InputError
        Where CDSE refuses the account.
    PartlyFailedError
        Where a product cannot be had; the others are there.
    """
    downloader = client.downloader(Workspace(parameters.work_dir).imagery_raw, parameters.download_connections)
    downloads = []
    for product in unit.products:
        title, path = str(product.name), downloader.folder / product.name.folder
        size = 0
        try:
            size = downloader.download(product, unit.bands)
            candidate = Candidate(title, read_product(path), "selected", name=product.name, path=path)
        except ProductError as error:
            candidate = Candidate(title, None, "failed", error.reason, error.step, product.name, path)
        downloads.append(Download(candidate, size))
    failed = [download.candidate for download in downloads if download.candidate.status == "failed"]
    if failed:
        first = failed[0]
        raise PartlyFailedError(f"{len(failed)} products failed, first: {first.title}: {first.reason}", downloads)
    return downloads
