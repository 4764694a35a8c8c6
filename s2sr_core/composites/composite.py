"""Phase 2: one gridcell and its scenes → a composite for each band, clipped to the cell's polygon, and its record."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.cog import remove_raster
from s2sr_core.composites.decide import Earlier, decide
from s2sr_core.composites.recorded_files import FileState, RecordedFile, recorded_files
from s2sr_core.composites.records import inputs_of, key_of, left_out_in, pixels_in
from s2sr_core.composites.render import Rendering, render
from s2sr_core.composites.substitutes import Lines, PostponedError, Replacement, Substitute, Substitutes
from s2sr_core.composites.tags import tags_of
from s2sr_core.disk_space import explained
from s2sr_core.engines import ENGINES
from s2sr_core.engines.decoded import decode_all, decoded_band
from s2sr_core.engines.stack import CellStack, Layer
from s2sr_core.engines.undecodable import UndecodableError, check_decoded
from s2sr_core.errors import ProductError, Step
from s2sr_core.files import read_record, write_record, written_atomically
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Lattice, Window
from s2sr_core.periods import Period
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.scene import Scene, SceneBand

logger = logging.getLogger(__name__)

Status = Literal["written", "kept", "no scene", "failed", "postponed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one composite ended.

    Attributes
    ----------
    status: ``written`` now, ``kept`` because it was up to date, ``no scene`` covers the cell, ``failed``, or
        ``postponed`` until products are there that may replace those that are left out.
    scenes: how many scenes meet the cell, including those whose bands are not needed.
    owned, valid: pixels of the cell, and those of them with a value.
    step, reason: what failed, and why.
    left_out: errors of products whose image of the band cannot be decoded where the cell needs it.
    replaced: names of those of them for which others show all that they would.
    substitutes: the products that are used instead.
    period: the label of its period; empty in a run without periods.
    """

    cell_id: str
    band: str
    status: Status
    path: Path | None = None
    scenes: int = 0
    owned: int = 0
    valid: int = 0
    step: Step | None = None
    reason: str = ""
    left_out: tuple[ProductError, ...] = ()
    replaced: tuple[str, ...] = ()
    substitutes: tuple[Substitute, ...] = ()
    period: str = ""


def composite_cell(
    context: RunContext,
    cell: Gridcell,
    bands: Sequence[str],
    scenes: Sequence[Scene],
    failed_products: Collection[str] = (),
    periods: Sequence[Period] | None = None,
    lines: Lines = MappingProxyType({}),
) -> list[Outcome]:
    """Composite ``bands`` of ``cell`` from those of ``scenes`` that meet it; a band that fails leaves the others.

    ``failed_products`` are names of products that could not be used in this run, wholly or in a band. Each of
    ``periods`` (all of the run, if they are not given) has composites of its own. ``lines`` are products that may take
    the place of scenes whose image cannot be decoded; a composite that lacks those of such a scene is postponed.
    """
    periods = context.parameters.periods if periods is None else periods
    outcomes: list[Outcome] = []
    for period in periods:
        for group in [bands] if context.is_joint else [[band] for band in bands]:
            outcomes += _Group(context, cell, group, scenes, period, lines).brought_up_to_date(failed_products)
    return outcomes


class _Group:
    """Composites of a cell and period that are computed together: of one band or, with joint statistics, of more.

    Joint statistics are of all bands of the run, also if only some of them are to be written here.
    """

    def __init__(
        self,
        context: RunContext,
        cell: Gridcell,
        bands: Sequence[str],
        scenes: Sequence[Scene],
        period: Period,
        lines: Lines,
    ) -> None:
        self._context, self._cell, self._bands = context, cell, bands
        self._substitutes = Substitutes(context, cell, lines)
        together = context.parameters.bands if context.is_joint else bands
        self._composites = {band: _Composite(context, cell, band, scenes, period) for band in together}
        self._outcomes: dict[str, Outcome] = {}

    def brought_up_to_date(self, failed_products: Collection[str]) -> list[Outcome]:
        """Decide what to do, and do it. One outcome per band.

        Scenes whose images cannot be decoded are left out; the next in line take their place.
        """
        with self._substitutes.opened():
            try:
                self._try_again()
                while pending := self._decide(failed_products):
                    self._compute(pending)
            except PostponedError:
                for band in self._bands:
                    self._outcomes.setdefault(band, self._composites[band].postponed(self._left_out()))
            except Exception as error:  # noqa: BLE001  # recorded with its reason; the next band is another matter
                self._fail([band for band in self._bands if band not in self._outcomes], error)
        return [self._finished(band) for band in self._bands]

    def _try_again(self) -> None:
        """Decode the images that could not be decoded when the earlier composites were made."""
        for composite in self._composites.values():
            try:
                composite.try_again()
            except UndecodableError as error:
                self._leave_out(error)

    def _leave_out(self, error: UndecodableError) -> None:
        """Leave the scenes out of the band that were found to be undecodable, and use the next in line.

        With joint statistics these are used in all bands: a scene without one of them counts nowhere.
        """
        composite = self._composites[error.band]
        lost = [composite.leave_out(product, reason) for product, reason in error.reasons.items()]
        for scene in lost:
            if (replacement := self._substitutes.instead_of(scene)) is not None:
                for each in self._composites.values():
                    each.replace(replacement)

    def _left_out(self) -> tuple[ProductError, ...]:
        return tuple(error for composite in self._composites.values() for error in composite.left_out)

    def _decide(self, failed_products: Collection[str]) -> dict[str, dict[str, Any]]:
        """The inputs of the bands that must be computed; what needs no computation is an outcome."""
        failed = {*failed_products, *(name for each in self._composites.values() for name in each.lost)}
        scenes = {band: composite.scenes for band, composite in self._composites.items()}
        pending = {}
        for band in self._bands:
            if band not in self._outcomes:
                composite = self._composites[band]
                inputs = inputs_of(self._context, self._cell, band, scenes, composite.period)
                with self._recording(band):
                    outcome = composite.unless_computed(inputs, failed)
                    if outcome is not None:
                        self._outcomes[band] = outcome
                    else:
                        pending[band] = inputs
        return pending

    def _compute(self, pending: Mapping[str, dict[str, Any]]) -> None:
        """Compute the pixels of these bands and write them, unless an image turns out to be undecodable."""
        for band in pending:
            self._composites[band].begin()
        engine = ENGINES[self._context.parameters.engine]
        stacks = [composite.stack() for composite in self._composites.values()]
        try:
            renderings = render(engine, stacks, self._cell, self._context.statistics, set(pending))
        except UndecodableError as error:
            self._leave_out(error)
            return
        for band, inputs in pending.items():
            with self._recording(band):
                self._outcomes[band] = self._composites[band].written(inputs, renderings[band])

    @contextlib.contextmanager
    def _recording(self, band: str) -> Iterator[None]:
        """An error of the block is the outcome of this band, and leaves the others."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            self._fail([band], error)

    def _fail(self, bands: Sequence[str], error: Exception) -> None:
        for band in bands:
            composite = self._composites[band]
            logger.error("cell %s failed in step %s", composite.title, composite.step, exc_info=error)
            folders = self._context.workspace.tmp, self._context.workspace.composites
            self._outcomes[band] = composite.failed(explained(error, *folders, needed=composite.bytes_needed()))
            composite.discard()

    def _finished(self, band: str) -> Outcome:
        composite, outcome = self._composites[band], self._outcomes[band]
        if (composite.left_out or composite.substitutes) and outcome.status != "postponed":
            reason = outcome.reason or composite.made_without()
            outcome = replace(
                outcome,
                left_out=composite.left_out,
                replaced=tuple(sorted(composite.replaced)),
                substitutes=composite.substitutes,
                reason=reason,
            )
        logger.info("cell %s: %s from %d scenes", composite.title, outcome.status, outcome.scenes)
        return outcome


class _Composite:
    """One composite and its files.

    Attributes
    ----------
    step: the work that was begun last.
    title: cell, period and band, for people.
    period: of the composite.
    scenes: that have pixels of the band in the cell's window, by name.
    undecodable: what is wrong with products that are left out, by name.
    replaced: names of those of them for which others show all that they would.
    """

    def __init__(self, context: RunContext, cell: Gridcell, band: str, scenes: Sequence[Scene], period: Period) -> None:
        self.step = Step.SELECT
        self.title = " ".join(filter(None, (cell.cell_id, period.label, band)))
        self._context, self._workspace = context, context.workspace
        self._cell, self._band, self.period, self._given = cell, band, period, tuple(scenes)
        self._lattice: Lattice = context.parameters.lattice_of(cell)
        self._window: Window = cell.window_on(self._lattice)
        self.scenes = list(self._that_meet_the_cell(scenes))
        self._path, *_ = self._paths = [
            self._workspace.composite(cell.cell_id, band, statistic.name, period.label)
            for statistic in context.statistics
        ]
        self._record = self._workspace.record(cell.cell_id, band, context.statistics[0].name, period.label)
        self.undecodable: dict[str, str] = {}
        self.replaced: set[str] = set()
        self._instead_of: dict[Path, tuple[str, ...]] = {}

    @property
    def _name(self) -> str:
        """Cell, period and band, for files."""
        return self.title.replace(" ", "_")

    @property
    def left_out(self) -> tuple[ProductError, ...]:
        """Errors of the products whose image of the band cannot be decoded where the cell needs it."""
        return tuple(
            ProductError(product, reason, step=Step.DECODE, band=self._band)
            for product, reason in sorted(self.undecodable.items())
        )

    @property
    def lost(self) -> set[str]:
        """Names of the products that are left out, and are not replaced."""
        return self.undecodable.keys() - self.replaced

    @property
    def substitutes(self) -> tuple[Substitute, ...]:
        """The products that are used instead of others, by name."""
        return tuple(
            Substitute(str(scene.product.name), scene.product.path, self._instead_of[scene.product.path])
            for scene, _ in self.scenes
            if scene.product.path in self._instead_of
        )

    def made_without(self) -> str:
        """Which products the composite is made without, and with which instead, as a reason."""
        without = [f"made without {error}" for error in self.left_out]
        lost = sorted({name for each in self.substitutes for name in each.instead_of})
        instead = "" if without else f" of {' and '.join(lost)}"
        names = " and ".join(each.product for each in self.substitutes)
        return "; ".join([*without, *([f"made with {names} instead{instead}"] if names else [])])

    def unless_computed(self, inputs: Mapping[str, Any], failed_products: Collection[str]) -> Outcome | None:
        """Decide what to do, and do it, unless the composite must be computed: None then."""
        self.step = Step.SELECT
        earlier = self._earlier()
        decision = decide(inputs, earlier, failed_products, overwrite=self._context.parameters.overwrite)
        match decision.action:
            case "keep" if (counts := pixels_in(earlier.record or {})) is not None:
                self._note_copies(earlier)
                return self._outcome("kept", counts)
            case "keep earlier":
                self.step = Step.SCENES
                return self.failed(decision.reason, self._path)
            case "no scene":
                self._remove_earlier()
                return Outcome(
                    self._cell.cell_id, self._band, "no scene", reason=decision.reason, period=self.period.label
                )
        return None

    def postponed(self, left_out: tuple[ProductError, ...]) -> Outcome:
        """The outcome of a composite that needs products which are not there, instead of some that are left out."""
        return Outcome(self._cell.cell_id, self._band, "postponed", left_out=left_out, period=self.period.label)

    def failed(self, reason: str, path: Path | None = None) -> Outcome:
        """The outcome of a composite that failed in :attr:`step`; ``path`` if an earlier one is kept."""
        return Outcome(
            self._cell.cell_id,
            self._band,
            "failed",
            path,
            len(self.scenes),
            step=self.step,
            reason=reason,
            period=self.period.label,
        )

    def bytes_needed(self) -> int | None:
        """What this composite takes on disk in all: decoded bands that are missing, rasters on their way, and files.

        They are not compressed, or are counted as if they were not. None if it cannot be known.
        """
        statistics = self._context.statistics
        pixels = self._window.width * self._window.height * sum(np.dtype(each.dtype).itemsize for each in statistics)
        try:
            decoded = sum(layer.decoded.missing_bytes() for layer in self._layers() if layer.decoded)
        except (OSError, ValueError):
            return None
        return decoded + 2 * pixels + pixels // 3  # overviews: a quarter, a sixteenth …

    def discard(self) -> None:
        """Remove what a computation that failed left in tmp/: on a full disk it would fail the next one too."""
        for raster in self._workspace.vrts(self._context.rank).glob(f"{self._name}_*.tif"):
            with contextlib.suppress(OSError):
                raster.unlink()

    def try_again(self) -> None:
        """Decode the images that could not be decoded when the earlier composite was made.

        One that can be decoded now is a scene more, for which the composite is computed again; the decoded band stays.

        Raises
        ------
        UndecodableError
            If some cannot be decoded now either.
        """
        if not self._window:
            raise ValueError("the cell holds no pixel centre; choose a smaller pixel size (tr)")
        if not (products := left_out_in(read_record(self._record) or {})):
            return
        stack = self.stack()
        layers = [layer for layer in stack.layers if layer.product in products]
        decode_all([layer.decoded for layer in layers if layer.decoded])
        check_decoded(stack, layers)

    def leave_out(self, product: str, reason: str) -> Scene:
        """Leave out the scene of ``product``, which was found to be undecodable; gives the scene."""
        logger.warning("cell %s is made without %s: %s", self.title, product, reason)
        self.undecodable[product] = reason
        lost = next(scene for scene, _ in self.scenes if str(scene.product.name) == product)
        self.scenes = [pair for pair in self.scenes if pair[0] is not lost]
        return lost

    def replace(self, replacement: Replacement) -> None:
        """Use the scenes of a replacement instead of those of the same observation."""
        before = {scene.product.path for scene in self._given}
        others = [scene for scene, _ in self.scenes if scene.product.path not in replacement.line]
        self.scenes = list(self._that_meet_the_cell([*others, *replacement.scenes]))
        self.replaced -= replacement.lost
        if replacement.is_complete:
            self.replaced |= replacement.lost
        for scene in replacement.scenes:
            if scene.product.path not in before:
                logger.info("cell %s is made with %s instead", self.title, scene.product.name)
                self._instead_of[scene.product.path] = tuple(sorted(replacement.lost))

    def _outcome(self, status: Status, pixels: dict[str, int]) -> Outcome:
        return Outcome(
            self._cell.cell_id,
            self._band,
            status,
            self._path,
            len(self.scenes),
            pixels["owned"],
            pixels["valid"],
            period=self.period.label,
        )

    def _that_meet_the_cell(self, scenes: Sequence[Scene]) -> Iterator[tuple[Scene, SceneBand]]:
        """The scenes of the period that have pixels of the band in the cell's window, by name."""
        sensed = [scene for scene in scenes if self.period.contains(scene.product.name.sensing_time)]
        for scene in sorted(sensed, key=lambda scene: scene.product.name):
            band = scene.band(self._band)
            if self._cell.cell_id in scene.cells and band and band.piece_for(self._lattice, self._window):
                yield scene, band

    def _earlier(self) -> Earlier:
        record = read_record(self._record)
        recorded = recorded_files(record or {})
        states = {path.name: _state(path, recorded.get(path.name)) for path in self._paths}
        return Earlier(record, states)

    def _note_copies(self, earlier: Earlier) -> None:
        """Record the times of files that were copied, so that the next run need not read them."""
        if earlier.record is None or FileState.COPIED not in earlier.files.values():
            return
        files = recorded_files(earlier.record)
        files |= {path.name: RecordedFile.of(path, files[path.name].sha256) for path in self._paths}
        with contextlib.suppress(OSError):  # it only saves time
            write_record(self._record, {**earlier.record, "files": _as_json(files)})

    def begin(self) -> None:
        """Note that pixels are computed next."""
        self.step = Step.STATISTIC
        for leftover in self._path.parent.glob(f".cell_{self._name}_*.part*"):
            leftover.unlink()  # of a process that was killed while writing

    def written(self, inputs: dict[str, Any], rendering: Rendering) -> Outcome:
        """Write what was computed, and record it."""
        self.step = Step.WRITE
        files = self._write(rendering)
        self.step = Step.RECORD
        pixels = {"owned": rendering.owned, "valid": rendering.valid}
        record = {
            "key": key_of(inputs),
            "inputs": inputs,
            "not_needed": [str(scene.product.name) for scene, _ in self.scenes if scene.is_not_needed],
            "not_checked": [str(scene.product.name) for scene, _ in self.scenes if scene.is_not_checked],
            "left_out": self.undecodable,
            "substitutes": {each.product: list(each.instead_of) for each in self.substitutes},
            "pixels": pixels,
            "files": _as_json(files),
            "engine": self._context.parameters.engine,
            "gdal": gdal.__version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_record(self._record, record)
        return self._outcome("written", pixels)

    def stack(self) -> CellStack:
        """The band's scenes, for an engine."""
        folder, resampling = self._workspace.vrts(self._context.rank), self._context.parameters.resampling
        return CellStack(self._band, self._name, self._lattice, self._window, tuple(self._layers()), resampling, folder)

    def _layers(self) -> Iterator[Layer]:
        for scene, band in self.scenes:
            if not scene.is_not_needed and (piece := band.piece_for(self._lattice, self._window)):
                decoded = decoded_band(scene, band)
                name = scene.product.name
                observation = self._context.observation(name)
                yield Layer(str(name), name.sensing_time, observation, piece, scene.grid, scene.scale, decoded)

    def _write(self, rendering: Rendering) -> dict[str, RecordedFile]:
        """Replace what is there, once all of it is written; returns the files for the record."""
        checksums: dict[Path, str] = {}
        sensing_times = [scene.product.name.sensing_time for scene, _ in self.scenes]
        with contextlib.ExitStack() as targets:
            for raster, statistic, path in zip(rendering.rasters, self._context.statistics, self._paths, strict=True):
                tags = tags_of(self._context, self._cell.cell_id, self._band, statistic, sensing_times, self.period)
                checksums[path] = raster.finish(targets.enter_context(written_atomically(path)), tags)
            self._remove_earlier()
        return {path.name: RecordedFile.of(path, checksum) for path, checksum in checksums.items()}

    def _remove_earlier(self) -> None:
        """Remove what is there, its record first: without one it counts as incomplete.

        Files of another run's statistics stay, with their record, unless they are written here.
        """
        named = {self._path.parent / name for name in recorded_files(read_record(self._record) or {})}
        self._record.unlink(missing_ok=True)
        named &= set(self._path.parent.glob(f"cell_{self._name}_*_clip.tif"))
        count = self._workspace.count(self._cell.cell_id, self._band, self.period.label)
        removed = {*self._paths, *named}
        others = self._take_over()
        for path in removed if count.name in others else {*removed, count}:
            remove_raster(path)
        for path in self._workspace.descriptions(self._cell.cell_id, self.period.label):
            path.unlink(missing_ok=True)

    def _take_over(self) -> set[str]:
        """Remove the files that are written here from records of other runs; gives what these still name."""
        others: set[str] = set()
        for path in self._path.parent.glob(f"cell_{self._name}_*_clip.json"):
            if (record := read_record(path)) is None:
                continue
            files = recorded_files(record)
            rest = {name: file for name, file in files.items() if name not in {each.name for each in self._paths}}
            if not rest:
                path.unlink(missing_ok=True)
            elif len(rest) < len(files):
                write_record(path, {**record, "files": _as_json(rest)})
            others |= rest.keys()
        return others


def _state(path: Path, recorded: RecordedFile | None) -> FileState:
    if recorded is None:
        return FileState.UNRECORDED if path.exists() else FileState.MISSING
    try:
        return recorded.state(path)
    except OSError:  # what cannot be read cannot be kept
        return FileState.CHANGED


def _as_json(files: Mapping[str, RecordedFile]) -> dict[str, Any]:
    return {name: asdict(file) for name, file in files.items()}
