"""The pipeline: from a box, a CSV of gridcells and a time window to one median composite a cell and band."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.concurrency.sync import concurrency
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from deployments.clusters.local import local_runner, worker_count
from deployments.limits import DOWNLOADS, LEASE_SECONDS
from flows.recovery import noted
from flows.units import Units
from s2sr_core.cdse.catalogue import CatalogueProduct
from s2sr_core.cdse.http import CdseError
from s2sr_core.cdse.query import read_manifest
from s2sr_core.command_line import checked
from s2sr_core.composite import Outcome
from s2sr_core.errors import InputError, ProductError
from s2sr_core.gridcells import Gridcell
from s2sr_core.logs import log_environment, logged_to
from s2sr_core.parameters import RunParameters
from s2sr_core.plan import (
    CompositeUnit,
    DownloadUnit,
    SceneUnit,
    composite_units,
    download_units,
    scene_unit,
    scene_units,
)
from s2sr_core.preflight import check
from s2sr_core.safe import Product
from s2sr_core.scene import Preparation
from s2sr_core.selection import Candidate, CellsNear, Download
from s2sr_core.signature import takes_fields_of
from s2sr_core.summary import Summary, counted
from s2sr_core.workspace import Workspace
from tasks.artifacts import Bars
from tasks.composites import composite_cells
from tasks.gridcells import select_gridcells
from tasks.products import download_products, query_products
from tasks.reports import begin_composites, draw_quicklooks, show_results, write_manifests, write_scene_index
from tasks.scenes import index_scenes, prepare_scene

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
        workspace = Workspace(parameters.work_dir)
        with (
            workspace.opened(),
            logged_to(workspace.log(0)),
            noted(workspace, parameters),
            Bars().shown() as bars,
        ):
            log_environment()
            summary = _run(parameters)
            logger.info(summary.sentence())
            show_results(parameters, summary, bars.seconds())
            if not parameters.keep_tmp:
                workspace.clear_tmp()
    except (InputError, CdseError) as error:
        return Failed(message=str(error), data=error)
    return _final_state(summary)


def _run(parameters: RunParameters) -> Summary:
    """The stages asked for, one after the other."""
    cells = select_gridcells(parameters)
    is_offline = parameters.source is not None or parameters.stage == "composite"
    manifest = [] if is_offline else _manifest(parameters, cells)
    if parameters.stage == "query":
        return Summary.of(len(cells), manifest)
    if parameters.stage == "download":
        with _threads(parameters) as threads:
            downloads = list(chain(*_downloads(threads, parameters, manifest)))
        write_scene_index(parameters, quote([download.candidate for download in downloads]), quote([]))
        return Summary.of(len(cells), manifest, downloads=downloads)

    with local_runner(parameters.workers) as runner:
        if is_offline:
            candidates, downloads = index_scenes(parameters, quote(cells)), []
            preparations = _prepare(runner, parameters, cells, candidates)
        else:
            downloads, preparations = _download_and_prepare(runner, parameters, cells, manifest)
            candidates = [download.candidate for download in downloads]
        write_scene_index(parameters, quote(candidates), quote(preparations))
        begin_composites(parameters)
        outcomes = _composite(runner, parameters, cells, preparations, _failed(candidates, preparations))
    if parameters.quicklook:
        draw_quicklooks(parameters, sorted({outcome.cell_id for outcome in outcomes if outcome.path}))
    summary = Summary.of(len(cells), candidates if is_offline else manifest, preparations, outcomes, downloads)
    return write_manifests(parameters, quote(outcomes), summary)


def _threads(parameters: RunParameters) -> ThreadPoolTaskRunner[Any]:
    """For downloads, which stay in this process: compute nodes often have no way out."""
    return ThreadPoolTaskRunner(max_workers=parameters.download_connections)


def _manifest(parameters: RunParameters, cells: Sequence[Gridcell]) -> list[Candidate[CatalogueProduct]]:
    """What the catalogue holds; for the download stage, what it held when it was queried."""
    if parameters.stage == "download":
        return read_manifest(Workspace(parameters.work_dir).query_manifest)
    return query_products(parameters, quote(cells))


def _downloads(
    threads: TaskRunner[Any], parameters: RunParameters, manifest: Sequence[Candidate[CatalogueProduct]]
) -> Iterator[list[Download]]:
    """Download the products of the manifest that count, in this process; a result for each, as they come."""
    imagery = Workspace(parameters.work_dir).imagery_raw

    def failed(unit: DownloadUnit, reason: str) -> list[Download]:
        return [
            Download(
                Candidate(str(p.name), None, "failed", reason, "download", p.name, imagery / p.name.folder), size=0
            )
            for p in unit.products
        ]

    products = [c.product for c in manifest if c.status == "selected" and c.product is not None]
    downloads = Units(threads, download_products, parameters, failed, "downloads")
    # Where the server has that limit, one run at a time uses the account's connections.
    with concurrency(DOWNLOADS, lease_duration=LEASE_SECONDS):
        downloads.submit(download_units(products))
        yield from downloads.results()


def _download_and_prepare(
    runner: TaskRunner[Any],
    parameters: RunParameters,
    cells: Sequence[Gridcell],
    manifest: Sequence[Candidate[CatalogueProduct]],
) -> tuple[list[Download], list[Preparation]]:
    """Download on threads, and prepare each product on the workers as soon as it is there."""
    near, downloads, scenes = CellsNear(cells), [], _scenes(runner, parameters)
    with _threads(parameters) as threads:
        for results in _downloads(threads, parameters, manifest):
            downloads += results
            if products := _products([download.candidate for download in results]):
                more = f" and {len(products) - 1} more" if len(products) > 1 else ""
                title = f"scene {products[0].name}{more}"
                scenes.submit([scene_unit(products, near, title)])
    downloads.sort(key=lambda download: download.candidate.title)
    return downloads, _by_name(scenes)


def _prepare(
    runner: TaskRunner[Any],
    parameters: RunParameters,
    cells: Sequence[Gridcell],
    candidates: Sequence[Candidate[Product]],
) -> list[Preparation]:
    """Phase 1 of an archive on the workers."""
    scenes = _scenes(runner, parameters)
    scenes.submit(scene_units(_products(candidates), cells, worker_count(parameters.workers)))
    return _by_name(scenes)


def _scenes(runner: TaskRunner[Any], parameters: RunParameters) -> Units[SceneUnit, Preparation]:
    def failed(unit: SceneUnit, reason: str) -> list[Preparation]:
        names = [str(product.name) for product, _ in unit.products]
        return [Preparation(name, None, (ProductError(name, reason, step="prepare"),)) for name in names]

    return Units(runner, prepare_scene, parameters, failed, "scenes")


def _by_name(scenes: Units[SceneUnit, Preparation]) -> list[Preparation]:
    return sorted(chain(*scenes.results()), key=lambda preparation: preparation.product)


def _products(candidates: Sequence[Candidate[Product]]) -> list[Product]:
    return [c.product for c in candidates if c.status == "selected" and c.product is not None]


def _failed(candidates: Sequence[Candidate[Product]], preparations: Sequence[Preparation]) -> frozenset[str]:
    """Names of the products that could not be used, wholly or in a band."""
    failed = {candidate.title for candidate in candidates if candidate.status == "failed"}
    return frozenset(failed | {preparation.product for preparation in preparations if preparation.errors})


def _composite(
    runner: TaskRunner[Any],
    parameters: RunParameters,
    cells: Sequence[Gridcell],
    preparations: Sequence[Preparation],
    failed_products: frozenset[str],
) -> list[Outcome]:
    """Phase 2 on the workers: an outcome for each cell and band, ordered by both."""

    def failed(unit: CompositeUnit, reason: str) -> list[Outcome]:
        return [
            Outcome(cell.cell_id, band, "failed", scenes=len(scenes), step="task", reason=reason)
            for cell, scenes in unit.cells
            for band in unit.bands
        ]

    scenes = [preparation.scene for preparation in preparations if preparation.scene is not None]
    composites = Units(runner, composite_cells, parameters, failed, "cells")
    workers = worker_count(parameters.workers)
    composites.submit(composite_units(cells, scenes, parameters.bands, workers, failed_products))
    return sorted(chain(*composites.results()), key=lambda outcome: (outcome.cell_id, outcome.band))


def _final_state(summary: Summary) -> State:
    """Completed; Completed with n failures; Failed."""
    if summary.nothing_worked:
        return Failed(message=summary.sentence(), data=summary)
    if summary.failures:
        name = f"Completed with {counted(summary.failures, 'failure')}"
        return Completed(name=name, message=summary.sentence(), data=summary)
    return Completed(message=summary.sentence(), data=summary)
