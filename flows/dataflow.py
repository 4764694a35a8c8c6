"""From products to composites: each piece of work begins as soon as what it needs is there."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from deployments.clusters import cluster_of
from deployments.server.limits import download_slot
from flows.task_groups import TaskGroups
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import Outcome
from s2sr_core.engines.decoded import DecodedBandsInUse
from s2sr_core.errors import ProductError, Step
from s2sr_core.outputs.summary import Summary
from s2sr_core.planning.schedule import Schedule
from s2sr_core.planning.units import (
    DOWNLOADS,
    SCL_DOWNLOADS,
    CompositeUnit,
    DownloadUnit,
    SceneUnit,
    cell_groups,
    download_units,
    scene_unit,
    scene_units,
)
from s2sr_core.products.safe import Product
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.scene import Preparation, Scene
from s2sr_core.selection.candidates import Candidate, selected_products
from s2sr_core.selection.downloads import Download, failed_download
from s2sr_core.sources.source import Source
from tasks.composites import composite_cells
from tasks.products import download_products, note_not_needed
from tasks.reports import begin_composites, write_scene_index
from tasks.scenes import classify_scenes, prepare_scene


class Threads(ThreadPoolTaskRunner[Any]):
    """Tasks in this process: downloads, because compute nodes often have no way out, and what needs no cluster.

    If an error leaves the block, nobody waits for tasks that have begun: one may be in a read that cannot be ended.
    """

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc_type is not None and self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
        super().__exit__(exc_type, exc_value, traceback)


class Dataflow:
    """The products that count, on their way to composites.

    Each unit of products is a coroutine, and so is each unit of composites: what follows what is read in
    :meth:`_scl_first`, :meth:`_download`, :meth:`_prepare` and :meth:`_composite`. A group of cells is composited once
    no product near it is under way.

    Attributes
    ----------
    outcomes: of all composites, ordered by cell and band.
    """

    def __init__(
        self,
        runner: TaskRunner[Any],
        context: RunContext,
        source: Source[Any],
        cells: Sequence[Gridcell],
        found: Sequence[Candidate[Any]],
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._context, self._parameters, self._source = context, context.parameters, source
        self._cells, self._found = cells, found
        self._runner, self._workers = runner, cluster_of(context.parameters).worker_count()
        groups = cell_groups(cells, context.parameters.bands, self._workers)
        self._schedule = Schedule(groups, selected_products(found))
        self._products = {str(product.name): product for product in self._schedule.products}
        self._on_disk = {} if source.fetches else {(candidate.title, candidate.path): candidate for candidate in found}
        self._failed = {candidate.title for candidate in self._on_disk.values() if candidate.status == "failed"}
        self._downloads: list[Download] = []
        self._preparations: list[Preparation] = []
        self._copies = DecodedBandsInUse(context.workspace)
        self._classified: dict[str, Scene] = {}

    def run(self) -> Summary:
        """Do it all, and write the index of scenes as soon as phase 1 is over.

        Raises
        ------
        SourceDownError
            If the source is out of reach. What had come by then is composited and recorded.
        """
        parameters, runner = self._parameters, self._runner
        with Threads(parameters.download_connections) as connections, contextlib.ExitStack() as account:
            groups = self._groups = TaskGroups()
            self._scl = groups.group("SCL", download_products, connections, _lost_downloads)
            self._checks = groups.group("SCL checks", classify_scenes, runner, _lost_scenes, parameters=parameters)
            self._bands = groups.group("downloads", download_products, connections, _lost_downloads)
            self._scenes = groups.group("scenes", prepare_scene, runner, _lost_scenes, parameters=parameters)
            self._medians = groups.group("composites", composite_cells, runner, _lost_composites, parameters=parameters)
            if self._source.fetches:
                # If the server has that limit, one run at a time uses the account.
                account.enter_context(download_slot())
                self._source.begin(self._schedule.products)
            for beginning in self._beginnings():
                groups.start(beginning)
            self._composite_free_cells()
            groups.wait(self._scl, self._checks, self._bands)
            account.close()
            groups.wait(self._scenes)
            self._report_products()
            groups.wait(self._medians)
        if groups.source_down is not None:
            raise groups.source_down
        self.outcomes.sort(key=lambda outcome: (outcome.cell_id, outcome.band))
        if any(outcome.left_out for outcome in self.outcomes):
            self._add_undecodable()
            self._report_products()
        return Summary.of(len(self._cells), self._found, self._preparations, self.outcomes, self._downloads)

    # ---------------------------------------------------------------------------------------- the order of the pipeline

    def _beginnings(self) -> Iterator[Coroutine[Any, Any, None]]:
        """Where each unit of products begins: with SCL, with SCL and bands, or on disk with phase 1."""
        source, products, bands = self._source, self._schedule.products, self._parameters.bands
        if not source.fetches:
            on_disk = [source.open(product) for product in products]
            return map(self._prepare, scene_units(on_disk, self._cells, self._workers))
        if self._parameters.scl_first:
            return map(self._scl_first, download_units(source, products, (), SCL_DOWNLOADS))
        return map(self._download, download_units(source, products, bands, DOWNLOADS))

    async def _scl_first(self, unit: DownloadUnit) -> None:
        """SCL → a check whether it leaves a pixel unmasked → the bands of products that are needed."""
        products = self._came(await self._scl.run(unit))
        if not products:
            return
        preparations = await self._checks.run(scene_unit(products, self._schedule.cells_near))
        needed = self._needed(preparations)
        for rest in download_units(self._source, needed, self._parameters.bands, DOWNLOADS // SCL_DOWNLOADS):
            self._groups.start(self._download(rest))

    async def _download(self, unit: DownloadUnit) -> None:
        """Bands → phase 1, unless the run only downloads."""
        downloads = await self._bands.run(unit)
        products = self._came(downloads)
        if products and self._computes:
            decodes = any(download.size for download in downloads)
            await self._prepare(scene_unit(products, self._schedule.cells_near, self._classified, decodes))

    async def _prepare(self, unit: SceneUnit) -> None:
        """Phase 1 → phase 2 of the cells near which no product is under way any more."""
        self._settle(await self._scenes.run(unit))
        self._composite_free_cells()

    async def _composite(self, unit: CompositeUnit) -> None:
        """Phase 2 → decoded copies that no composite needs any more are removed."""
        outcomes = await self._medians.run(unit)
        self.outcomes += outcomes
        for outcome in outcomes:
            self._copies.finished(outcome.cell_id, outcome.band)

    def _composite_free_cells(self) -> None:
        units = self._schedule.units_ready(self._failed) if self._computes else []
        if units and not self._medians.count:
            begin_composites(self._context)
        for unit in units:
            self._groups.start(self._composite(unit))

    @property
    def _computes(self) -> bool:
        return self._parameters.stage != "download"

    # ------------------------------------------------------------------------------------------------- what is known

    def _came(self, downloads: Sequence[Download]) -> list[Product]:
        """The products that are on disk now; the schedule awaits nothing more of the others."""
        candidates = [download.candidate for download in downloads]
        self._downloads += downloads
        self._on_disk |= {(candidate.title, candidate.path): candidate for candidate in candidates}
        for candidate in candidates:
            if candidate.status == "failed":
                self._failed.add(candidate.title)
                self._schedule.settle(candidate.title)
        self._composite_free_cells()
        return selected_products(candidates)

    def _needed(self, preparations: Sequence[Preparation]) -> list[Any]:
        """Products whose bands are needed, as their source describes them; the others are done, failed ones too."""
        scenes = [preparation.scene for preparation in preparations if preparation.scene is not None]
        needed = {str(scene.product.name): scene for scene in scenes if not scene.is_not_needed}
        self._classified |= needed
        self._settle([preparation for preparation in preparations if preparation.product not in needed])
        self._composite_free_cells()
        return [self._products[name] for name in needed]

    def _settle(self, preparations: Sequence[Preparation]) -> None:
        """Phase 1 is done with these products, whether they are scenes now or failed."""
        self._preparations += preparations
        for preparation in preparations:
            if preparation.scene is not None:
                self._copies.add(preparation.scene)
            if preparation.errors:
                self._failed.add(preparation.product)
            self._schedule.settle(preparation.product, preparation.scene)

    def _add_undecodable(self) -> None:
        """Add the images that composites were made without to the errors of their products."""
        errors: dict[str, dict[str, ProductError]] = {}
        for outcome in self.outcomes:
            for error in outcome.left_out:
                errors.setdefault(error.product, {}).setdefault(error.band, error)
        for index, known in enumerate(self._preparations):
            if found := errors.get(known.product):
                self._preparations[index] = replace(known, errors=(*known.errors, *found.values()))

    def _report_products(self) -> None:
        self._preparations.sort(key=lambda preparation: preparation.product)
        if self._source.fetches:
            note_not_needed(self._context, quote(self._preparations))
        candidates = sorted(self._on_disk.values(), key=lambda candidate: candidate.title)
        write_scene_index(self._context, quote(candidates), quote(self._preparations))


# ------------------------------------------------------------------------- results of units whose task runs were lost


def _lost_downloads(unit: DownloadUnit, reason: str) -> list[Download]:
    return [failed_download(unit.source, product.name, reason, Step.DOWNLOAD) for product in unit.products]


def _lost_scenes(unit: SceneUnit, reason: str) -> list[Preparation]:
    names = [str(product.name) for product, _ in unit.products]
    return [Preparation(name, None, (ProductError(name, reason, step=Step.PREPARE),)) for name in names]


def _lost_composites(unit: CompositeUnit, reason: str) -> list[Outcome]:
    return [
        Outcome(cell.cell_id, band, "failed", scenes=len(scenes), step=Step.TASK, reason=reason)
        for cell, scenes in unit.cells
        for band in unit.bands
    ]
