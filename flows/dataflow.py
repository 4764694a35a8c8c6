"""From products to composites: each piece of work begins as soon as what it needs is there."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from prefect.concurrency.sync import concurrency
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from deployments.clusters import cluster_of
from deployments.server import limits
from flows.task_groups import Work
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import Outcome
from s2sr_core.engines.decoded import CopiesInUse
from s2sr_core.errors import ProductError
from s2sr_core.outputs.summary import Summary
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import (
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
from s2sr_core.planning.schedule import Schedule
from s2sr_core.products.safe import Product
from s2sr_core.scenes.scene import Preparation, Scene
from s2sr_core.selection.candidates import Candidate, Described, Download
from s2sr_core.workspace import Workspace
from tasks.composites import composite_cells
from tasks.products import download_products, note_not_needed
from tasks.reports import begin_composites, write_scene_index
from tasks.scenes import classify_scenes, prepare_scene


def threads(count: int) -> ThreadPoolTaskRunner[Any]:
    """Tasks in this process: downloads, because compute nodes often have no way out, and what needs no cluster."""
    return ThreadPoolTaskRunner(max_workers=count)


class Course:
    """The way of the products that count: SCL → a look at it → bands → phase 1 → phase 2.

    A product goes on by itself; a group of cells is composited once no product near it is under way. An archive begins
    at phase 1, the download stage ends before it, and without ``scl_first`` SCL comes with the bands.

    Attributes
    ----------
    found: every product, judged.
    outcomes: of all composites, ordered by cell and band.
    """

    def __init__(
        self,
        runner: TaskRunner[Any],
        parameters: RunParameters,
        cells: Sequence[Gridcell],
        found: Sequence[Candidate[Any]],
    ) -> None:
        self.parameters, self.cells, self.found = parameters, cells, found
        self.outcomes: list[Outcome] = []
        self._runner, self._workers = runner, cluster_of(parameters).worker_count()
        self._computes = parameters.stage != "download"
        self._schedule = Schedule(cell_groups(cells, parameters.bands, self._workers), _selected(found))
        self._products = {str(product.name): product for product in self._schedule.products}
        self._on_disk = {candidate.title: candidate for candidate in found} if parameters.is_offline else {}
        self._failed = {candidate.title for candidate in self._on_disk.values() if candidate.status == "failed"}
        self._downloads: list[Download] = []
        self._preparations: list[Preparation] = []
        self._copies = CopiesInUse(Workspace(parameters.work_dir))
        self._classified: dict[str, Scene] = {}

    def run(self) -> Summary:
        """Do it all, and write the index of scenes as soon as phase 1 is over."""
        parameters, products = self.parameters, self._schedule.products
        with threads(parameters.download_connections) as connections, contextlib.ExitStack() as account:
            work = Work(parameters)
            scl = work.units("SCL", connections, download_products, self._lost_downloads, self._look)
            self._looks = work.units("looks at SCL", self._runner, classify_scenes, _lost_scenes, self._download_bands)
            self._bands = work.units("downloads", connections, download_products, self._lost_downloads, self._prepare)
            self._scenes = work.units("scenes", self._runner, prepare_scene, _lost_scenes, self._prepared)
            self._composites = work.units(
                "composites", self._runner, composite_cells, _lost_composites, self._composited
            )
            if parameters.is_offline:
                self._scenes.submit(scene_units(products, self.cells, self._workers))
            else:
                # Where the server has that limit, one run at a time uses the account.
                account.enter_context(concurrency(limits.DOWNLOADS, lease_duration=limits.LEASE_SECONDS))
                if parameters.scl_first:
                    scl.submit(download_units(products, (), SCL_DOWNLOADS))
                else:
                    self._bands.submit(download_units(products, parameters.bands, DOWNLOADS))
            self._composite()
            work.wait(scl, self._looks, self._bands)
            account.close()
            work.wait(self._scenes)
            self._report_products()
            work.wait(self._composites)
        self.outcomes.sort(key=lambda outcome: (outcome.cell_id, outcome.band))
        return Summary.of(len(self.cells), self.found, self._preparations, self.outcomes, self._downloads)

    def _look(self, downloads: list[Download]) -> None:
        """SCL is there: find out whether the bands are needed."""
        self._looks.submit(scene_unit(self._downloaded(downloads), self._schedule.cells_near))

    def _download_bands(self, preparations: list[Preparation]) -> None:
        """Download the bands of scenes that are needed; the others are done, and so are those that failed."""
        needed = [
            preparation.scene
            for preparation in preparations
            if preparation.scene is not None and not preparation.scene.is_not_needed
        ]
        names = [str(scene.product.name) for scene in needed]
        self._classified |= dict(zip(names, needed, strict=True))
        self._prepared([preparation for preparation in preparations if preparation.product not in names])
        products = [self._products[name] for name in names]
        self._bands.submit(download_units(products, self.parameters.bands, DOWNLOADS // SCL_DOWNLOADS))

    def _prepare(self, downloads: list[Download]) -> None:
        """The bands are there: phase 1."""
        products = self._downloaded(downloads)
        if self._computes:
            came = any(download.size for download in downloads)
            self._scenes.submit(scene_unit(products, self._schedule.cells_near, self._classified, decodes=came))

    def _prepared(self, preparations: list[Preparation]) -> None:
        """Phase 1 is done with these, one way or the other."""
        self._preparations += preparations
        for preparation in preparations:
            if preparation.scene is not None:
                self._copies.add(preparation.scene)
            if preparation.errors:
                self._failed.add(preparation.product)
            self._schedule.settle(preparation.product, preparation.scene)
        self._composite()

    def _composite(self) -> None:
        """Phase 2 of the cells near which no product is under way any more."""
        units = self._schedule.units_ready(self._failed) if self._computes else []
        if units and not self._composites.count:
            begin_composites(self.parameters)
        self._composites.submit(units)

    def _composited(self, outcomes: list[Outcome]) -> None:
        """Decoded copies that no composite needs any more are removed."""
        self.outcomes += outcomes
        for outcome in outcomes:
            self._copies.finished(outcome.cell_id, outcome.band)

    def _downloaded(self, downloads: list[Download]) -> list[Product]:
        """Those that are there, to go on with; nothing more comes of the others."""
        candidates = [download.candidate for download in downloads]
        self._downloads += downloads
        self._on_disk |= {candidate.title: candidate for candidate in candidates}
        for candidate in candidates:
            if candidate.status == "failed":
                self._failed.add(candidate.title)
                self._schedule.settle(candidate.title)
        self._composite()
        return _selected(candidates)

    def _report_products(self) -> None:
        self._preparations.sort(key=lambda preparation: preparation.product)
        if not self.parameters.is_offline:
            note_not_needed(self.parameters, quote(self._preparations))
        candidates = sorted(self._on_disk.values(), key=lambda candidate: candidate.title)
        write_scene_index(self.parameters, quote(candidates), quote(self._preparations))

    def _lost_downloads(self, unit: DownloadUnit, reason: str) -> list[Download]:
        folder = Workspace(self.parameters.work_dir).imagery_raw
        names = [product.name for product in unit.products]
        return [
            Download(Candidate(str(name), None, "failed", reason, "download", name, folder / name.folder), size=0)
            for name in names
        ]


def _selected[P: Described](candidates: Sequence[Candidate[P]]) -> list[P]:
    return [c.product for c in candidates if c.status == "selected" and c.product is not None]


def _lost_scenes(unit: SceneUnit, reason: str) -> list[Preparation]:
    names = [str(product.name) for product, _ in unit.products]
    return [Preparation(name, None, (ProductError(name, reason, step="prepare"),)) for name in names]


def _lost_composites(unit: CompositeUnit, reason: str) -> list[Outcome]:
    return [
        Outcome(cell.cell_id, band, "failed", scenes=len(scenes), step="task", reason=reason)
        for cell, scenes in unit.cells
        for band in unit.bands
    ]
