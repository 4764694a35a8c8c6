"""From products to composites: each piece of work begins as soon as what it needs is there."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Coroutine, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from deployments.clusters import cluster_of
from deployments.server.limits import download_slot
from deployments.server.outage import answered
from flows.task_groups import TaskGroups
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import Outcome
from s2sr_core.engines.decoded import DecodedBandsInUse
from s2sr_core.errors import ProductError, Step
from s2sr_core.outputs.summary import Summary, counted
from s2sr_core.planning.schedule import Schedule
from s2sr_core.planning.units import (
    DOWNLOADS,
    SCL_DOWNLOADS,
    CompositeUnit,
    DownloadUnit,
    SceneUnit,
    cell_groups,
    download_unit,
    most_units,
    postponed_units,
    scene_unit,
    shares,
)
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.scene import Preparation
from s2sr_core.selection.candidates import Candidate
from s2sr_core.selection.downloads import Download, failed_download
from s2sr_core.selection.line import Line, Result
from s2sr_core.selection.observations import Standing, lost, observations_of
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

    Each unit of observations (products of one sensing time and tile) is a coroutine, and so is each unit of composites:
    what follows what is read in :meth:`_scl_first`, :meth:`_download`, :meth:`_prepare` and :meth:`_composite`. A group
    of cells is composited once no observation near it, in its periods, is under way.

    Attributes
    ----------
    outcomes: of all composites, ordered by cell, period and band.
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
        bands, periods, together = context.parameters.bands, context.parameters.periods, context.is_joint
        groups = cell_groups(cells, bands, self._workers, periods, together=together)
        observations = observations_of(found, keep_duplicates=context.parameters.keep_duplicates)
        self._schedule = Schedule(groups, observations)
        self._lines = [Line(each, fetches=source.fetches) for each in self._schedule.observations]
        in_line = {id(candidate) for each in observations for candidate in each.candidates}
        self._others = [candidate for candidate in found if id(candidate) not in in_line]
        self._failed = {candidate.title for candidate in self._others if candidate.status == "failed"}
        self._replaced: set[str] = set()
        self._downloads: list[Download] = []
        self._preparations: list[Preparation] = []
        self._postponed: list[tuple[CompositeUnit, list[Outcome]]] = []
        self._line_of = {each.title: line for line in self._lines for each in line.observation.candidates}
        self._copies = DecodedBandsInUse(context.workspace, context.parameters.periods)

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
                self._source.begin([product for line in self._lines for product in line.described()])
            for beginning in self._beginnings():
                groups.start(beginning)
            self._composite_free_cells()
            groups.wait(self._scl, self._checks, self._bands, *([self._scenes] if self._source.fetches else []))
            account.close()
            groups.wait(self._scenes)
            found = self._report_products()
            groups.wait(self._medians)
            while self._postponed and groups.source_down is None:
                self._composite_postponed()
        if groups.source_down is not None:
            raise groups.source_down
        self.outcomes.sort(key=lambda outcome: (outcome.cell_id, outcome.period, outcome.band))
        if undecodable := [error for outcome in self.outcomes for error in outcome.left_out]:
            self._note_substitutes()
            found = self._report_products(undecodable)
        replaced = self._replaced - self._failed
        return Summary.of(len(self._cells), found, self._preparations, self.outcomes, self._downloads, replaced)

    # ---------------------------------------------------------------------------------------- the order of the pipeline

    def _beginnings(self) -> Iterator[Coroutine[Any, Any, None]]:
        """Where each unit begins: on disk with phase 1, with SCL, or, if nothing can repeat it, with SCL and bands."""
        if not self._source.fetches:
            return map(self._prepare, shares(self._lines, most_units(self._workers)))
        at_once: list[Line] = []
        scl_first: list[Line] = []
        for line in self._lines:
            (at_once if line.is_alone and not self._parameters.scl_first else scl_first).append(line)
        return chain(
            map(self._download, shares(at_once, DOWNLOADS)),
            map(self._scl_first, shares(scl_first, SCL_DOWNLOADS)),
        )

    async def _scl_first(self, lines: Sequence[Line]) -> None:
        """SCL → a check what it shows and leaves unmasked → SCL of the next in line … → the bands that are needed."""
        while lines:
            if looking := [line for line in lines if line.must_be_looked_at]:
                results = await self._checks.run(self._unit(looking, bands=False))
                for line, standings in zip(looking, results, strict=True):
                    line.looked_at(standings)
            asked = [(line, index) for line in lines for index in line.next()]
            needed = []
            for line in (line for line in lines if not line.next()):
                if line.must_be_prepared:
                    needed.append(line)
                else:
                    self._settle(line)
            self._composite_free_cells()
            for share in shares(needed, DOWNLOADS // SCL_DOWNLOADS):
                self._groups.start(self._download(share))
            if asked:
                self._came(asked, await self._scl.run(self._downloads_of(asked, ())))
            lines = list(dict.fromkeys(line for line, _ in asked))

    async def _download(self, lines: Sequence[Line]) -> None:
        """Bands → phase 1, unless the run only downloads; for a product that cannot be had, the next in line."""
        asked = [(line, index) for line in lines for index in line.needs_bands() or line.next()]
        lost: list[Line] = []
        size = 0
        if asked:
            downloads = await self._bands.run(self._downloads_of(asked, self._parameters.bands))
            lost, size = self._came(asked, downloads), sum(download.size for download in downloads)
        if lost:
            self._groups.start(self._scl_first(lost))
        there = [line for line in lines if line not in lost]
        if self._computes and there:
            await self._prepare(there, decodes=size > 0)
        for line in there:
            if not self._computes:
                self._settle(line)

    async def _prepare(self, lines: Sequence[Line], *, decodes: bool = False) -> None:
        """Phase 1 → phase 2 of the cells near which nothing is under way any more."""
        results = await self._scenes.run(self._unit(lines, bands=True, decodes=decodes))
        again = []
        for line, standings in zip(lines, results, strict=True):
            if line.prepared(standings):
                self._settle(line)
            else:
                again.append(line)
        self._composite_free_cells()
        if again:
            self._groups.start(self._scl_first(again))

    async def _composite(self, unit: CompositeUnit) -> None:
        """Phase 2 → decoded copies that no composite needs any more are removed."""
        outcomes = await self._medians.run(unit)
        done = [outcome for outcome in outcomes if outcome.status != "postponed"]
        if len(done) < len(outcomes):
            self._postponed.append((unit, [outcome for outcome in outcomes if outcome.status == "postponed"]))
        self.outcomes += done
        for outcome in done:
            self._copies.finished(outcome.cell_id, outcome.band, outcome.period)

    def _composite_postponed(self) -> None:
        """Phase 2 again of what met an image that cannot be decoded, with the next product in line."""
        postponed, self._postponed = self._postponed, []
        errors = [error for _, outcomes in postponed for outcome in outcomes for error in outcome.left_out]
        lines = list(dict.fromkeys(self._line_of[error.product] for error in errors))
        if asked := [(line, index) for line in lines for index in line.next_substitute()]:
            with download_slot():
                self._groups.start(self._fetch_substitutes(asked))
                self._groups.wait(self._bands)
        if self._groups.source_down is None:
            for unit, outcomes in postponed:
                for again in postponed_units(unit, outcomes, self._line_of):
                    self._groups.start(self._composite(again))
            self._groups.wait(self._medians)

    async def _fetch_substitutes(self, asked: Sequence[tuple[Line, int]]) -> None:
        downloads = await self._bands.run(self._downloads_of(asked, self._parameters.bands))
        self._downloads += downloads
        for (line, index), download in zip(asked, downloads, strict=True):
            line.fetched_substitute(index, download)
            self._failed.update(line.failed())

    def _note_substitutes(self) -> None:
        """Which products were used in some composites instead of others, and which ones are replaced in all of them."""
        used: defaultdict[tuple[str, Path], list[Outcome]] = defaultdict(list)
        for outcome in self.outcomes:
            for each in outcome.substitutes:
                used[each.product, each.path].append(outcome)
        for (product, path), outcomes in used.items():
            instead_of = {
                name
                for outcome in outcomes
                for each in outcome.substitutes
                if each.path == path
                for name in each.instead_of
            }
            self._line_of[product].is_used_instead(path, _used_instead(product, instead_of, outcomes))
        left_out = {error.product for outcome in self.outcomes for error in outcome.left_out}
        lost = {
            error.product
            for outcome in self.outcomes
            for error in outcome.left_out
            if error.product not in outcome.replaced
        }
        self._replaced |= left_out - lost

    def _composite_free_cells(self) -> None:
        units = self._schedule.units_ready(self._failed) if self._computes else []
        if units and not self._medians.count:
            answered(begin_composites, self._context)
        for unit in units:
            self._groups.start(self._composite(unit))

    @property
    def _computes(self) -> bool:
        return self._parameters.stage != "download"

    def _unit(self, lines: Sequence[Line], *, bands: bool, decodes: bool = False) -> SceneUnit:
        near = self._schedule.cells_near
        work = [(line.contenders(bands=bands), near(line.observation)) for line in lines]
        return scene_unit(work, decodes=decodes)

    def _downloads_of(self, asked: Sequence[tuple[Line, int]], bands: Sequence[str]) -> DownloadUnit:
        products = [line.description(index) for line, index in asked]
        return download_unit(self._source, products, bands, [line.occupancy(index) for line, index in asked])

    # ------------------------------------------------------------------------------------------------- what is known

    def _came(self, asked: Sequence[tuple[Line, int]], downloads: Sequence[Download]) -> list[Line]:
        """Take note of downloads; gives the lines in which one failed."""
        self._downloads += downloads
        lost = []
        for (line, index), download in zip(asked, downloads, strict=True):
            if not line.fetched(index, download) and line not in lost:
                lost.append(line)
        return lost

    def _settle(self, line: Line) -> None:
        """All is known of an observation: the schedule awaits nothing more of it."""
        for scene in line.scenes:
            self._copies.add(scene)
        self._failed.update(line.failed())
        self._replaced.update(line.replaced())
        self._schedule.settle(line.observation, line.scenes)

    def _report_products(self, undecodable: Sequence[ProductError] = ()) -> list[Candidate[Any]]:
        """Write how each product was judged in the end; gives the found ones with their last status.

        ``undecodable`` are the images that composites were made without: errors of the products that are used.
        """
        results = [each for line in self._lines for each in _with_errors(line.results(), undecodable)]
        if not self._computes:  # only SCL was looked at: the scenes lack the bands that they need
            results = [replace(result, preparation=_without_scene(result.preparation)) for result in results]
        self._preparations = [result.preparation for result in results if result.preparation is not None]
        self._preparations.sort(key=lambda preparation: preparation.product)
        if self._source.fetches:
            answered(note_not_needed, self._context, quote(self._preparations))
        else:
            results += [Result(candidate, candidate) for candidate in self._others]
        results.sort(key=lambda result: (result.candidate.title, str(result.candidate.path)))
        answered(write_scene_index, self._context, quote(results))
        statuses = {id(result.found): result.status for result in results}
        return [replace(each, status=statuses.get(id(each), each.status)) for each in self._found]


def _with_errors(results: Sequence[Result], undecodable: Sequence[ProductError]) -> Iterator[Result]:
    """The products of an observation with the errors that composites met, each of which is told once."""
    used = {each.candidate.title for each in results if each.preparation is not None and each.preparation.scene}
    for result in results:
        title, done = result.candidate.title, result.preparation or Preparation(result.candidate.title, None, ())
        found = {error.band: error for error in undecodable if error.product == title}
        if found and (done.scene is not None or title not in used):
            yield replace(result, preparation=replace(done, errors=(*done.errors, *found.values())))
        else:
            yield result


def _used_instead(product: str, instead_of: Collection[str], outcomes: Sequence[Outcome]) -> str:
    """What a product is used for, as a reason."""
    lost = " and ".join("the preferred copy" if name == product else name for name in sorted(instead_of))
    bands = " ".join(sorted({outcome.band for outcome in outcomes}))
    cells = len({outcome.cell_id for outcome in outcomes})
    return f"is used instead of {lost} in {bands} of {counted(cells, 'cell')}, where its image cannot be decoded"


def _without_scene(preparation: Preparation | None) -> Preparation | None:
    """None unless phase 1 has said all that it will: the product has failed, or its bands are not needed."""
    if preparation is None or (preparation.scene is not None and not preparation.scene.is_not_needed):
        return None
    return preparation


# ------------------------------------------------------------------------- results of units whose task runs were lost


def _lost_downloads(unit: DownloadUnit, reason: str) -> list[Download]:
    return [failed_download(unit.source, product.name, reason, Step.DOWNLOAD) for product in unit.products]


def _lost_scenes(unit: SceneUnit, reason: str) -> list[list[Standing]]:
    return [[lost(contender, reason) for contender in contenders] for contenders, _ in unit.observations]


def _lost_composites(unit: CompositeUnit, reason: str) -> list[Outcome]:
    return [
        Outcome(cell.cell_id, band, "failed", scenes=count, step=Step.TASK, reason=reason, period=period.label)
        for cell, scenes in unit.cells
        for period in unit.periods
        for count in [sum(period.contains(scene.product.name.sensing_time) for scene in scenes)]
        for band in unit.bands
    ]
