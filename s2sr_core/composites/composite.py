"""Phase 2: one gridcell and its scenes → a composite for each band, clipped to the cell's polygon, and its record."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.records import ingredients, key_of
from s2sr_core.engines import ENGINES
from s2sr_core.engines.decoded import copy_of
from s2sr_core.engines.stack import CellStack, Layer, PixelWindow
from s2sr_core.files import read_record, write_record, written_beside
from s2sr_core.geo.clip import owned_pixels
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Lattice, Window
from s2sr_core.parameters import RunParameters
from s2sr_core.pixels.rules import COMPOSITE_NODATA
from s2sr_core.scenes.scene import Scene, SceneBand
from s2sr_core.workspace import Workspace

logger = logging.getLogger(__name__)

Status = Literal["written", "kept", "no scene", "failed"]
#: Level 6, the default, takes twice the time for 3 % fewer bytes.
_CREATION = {"COMPRESS": "DEFLATE", "LEVEL": "1", "PREDICTOR": "YES", "BLOCKSIZE": "512", "BIGTIFF": "IF_SAFER"}
#: Rows that are compared at once when a file is read back.
_CHECKED_ROWS = 512
#: Nodata of counts: outside the cell; inside, 0 says that no value is valid.
COUNT_NODATA = 65535


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one composite.

    Attributes
    ----------
    status: ``written`` now, ``kept`` because it was up to date, ``no scene`` covers the cell, or ``failed``.
    scenes: how many scenes meet the cell, including those whose bands are not needed.
    owned, valid: pixels of the cell, and those of them with a value.
    step, reason: what failed, and why.
    """

    cell_id: str
    band: str
    status: Status
    path: Path | None = None
    scenes: int = 0
    owned: int = 0
    valid: int = 0
    step: str = ""
    reason: str = ""


def composite_cell(
    cell: Gridcell,
    bands: Sequence[str],
    scenes: Sequence[Scene],
    parameters: RunParameters,
    workspace: Workspace,
    rank: int,
    failed_products: Collection[str] = (),
) -> list[Outcome]:
    """Composite ``bands`` of ``cell`` from those of ``scenes`` that meet it; a band that fails leaves the others.

    ``failed_products`` are names of products that could not be used in this run, wholly or in a band.
    """
    outcomes = []
    for band in bands:
        job = _Job(cell, band, scenes, parameters, workspace, rank, failed_products)
        try:
            outcome = job.run()
        except Exception as error:  # recorded with its reason; the next band is another matter
            logger.exception("cell %s %s failed in step %s", cell.cell_id, band, job.step)
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            outcome = Outcome(cell.cell_id, band, "failed", scenes=len(job.inputs), step=job.step, reason=reason)
        logger.info("cell %s %s: %s from %d scenes", cell.cell_id, band, outcome.status, outcome.scenes)
        outcomes.append(outcome)
    return outcomes


class _Job:
    """One composite on its way; ``step`` says how far it came."""

    def __init__(
        self,
        cell: Gridcell,
        band: str,
        scenes: Sequence[Scene],
        parameters: RunParameters,
        workspace: Workspace,
        rank: int,
        failed_products: Collection[str],
    ) -> None:
        self.step = "select"
        self.failed_products = failed_products
        self.cell, self.band = cell, band
        self.parameters, self.workspace, self.rank = parameters, workspace, rank
        self.lattice: Lattice = parameters.lattice_of(cell.bounds)
        self.window: Window = self.lattice.owned(cell.bounds)
        self.inputs: list[tuple[Scene, SceneBand]] = []
        for scene in sorted(scenes, key=lambda scene: scene.product.name):
            scene_band = scene.band(band)
            if cell.cell_id in scene.cells and scene_band and scene_band.piece_for(self.lattice, self.window):
                self.inputs.append((scene, scene_band))

    def run(self) -> Outcome:
        cell_id, band = self.cell.cell_id, self.band
        if not self.window:
            raise ValueError("the cell holds no pixel centre; choose a smaller pixel size (tr)")
        made_of = ingredients(self.cell, band, self.inputs, self.parameters)
        if not self.inputs:
            lost = self._lost_since(made_of)
            return self._kept_for_lost(lost) if lost else self._no_scene()
        key = key_of(made_of)
        record = self._up_to_date(key)
        if record is None and (lost := self._lost_since(made_of)):
            return self._kept_for_lost(lost)
        if record is None:
            record = {
                "key": key,
                "made_of": made_of,
                "not_needed": [str(scene.product.name) for scene, _ in self.inputs if scene.is_not_needed],
                "pixels": self._compute(),
                "bytes": {path.name: path.stat().st_size for path in self._files()},
                "engine": self.parameters.engine,
                "gdal": gdal.__version__,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            self.step = "record"
            write_record(self.workspace.record(cell_id, band), record)
            status: Status = "written"
        else:
            status = "kept"
        pixels = record["pixels"]
        path = self.workspace.composite(cell_id, band)
        return Outcome(cell_id, band, status, path, len(self.inputs), pixels["owned"], pixels["valid"])

    def _up_to_date(self, key: str) -> dict[str, Any] | None:
        """The record of what is there, where that is what would be computed."""
        if self.parameters.overwrite:
            return None
        record = read_record(self.workspace.record(self.cell.cell_id, self.band))
        if record is None or record.get("key") != key:
            return None
        sizes = record.get("bytes", {})
        whole = all(path.is_file() and path.stat().st_size == sizes.get(path.name) for path in self._files())
        return record if whole else None

    def _files(self) -> list[Path]:
        """The rasters that the run asks for."""
        composite = self.workspace.composite(self.cell.cell_id, self.band)
        count = self.workspace.count(self.cell.cell_id, self.band)
        return [composite, count] if self.parameters.count else [composite]

    def _lost_since(self, made_of: Mapping[str, Any]) -> list[str]:
        """Products that what is there was made of and that failed in this run, where nothing but inputs changed.

        A product that cannot be read today is no reason to replace a composite by one of fewer scenes, or by none.
        """
        record = read_record(self.workspace.record(self.cell.cell_id, self.band))
        if record is None or self.parameters.overwrite or not self.failed_products:
            return []
        if not self.workspace.composite(self.cell.cell_id, self.band).is_file():
            return []
        before = record.get("made_of", {})
        if {**before, "inputs": []} != {**made_of, "inputs": []}:
            return []
        now = {entry["product"] for entry in made_of["inputs"]}
        return sorted(
            entry["product"]
            for entry in before["inputs"]
            if entry["product"] in self.failed_products and entry["product"] not in now
        )

    def _kept_for_lost(self, lost: Sequence[str]) -> Outcome:
        self.step = "scenes"
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        reason = f"{lost[0]}{more} cannot be used now; the composite of an earlier run, made with it, is kept"
        path = self.workspace.composite(self.cell.cell_id, self.band)
        return Outcome(self.cell.cell_id, self.band, "failed", path, len(self.inputs), step=self.step, reason=reason)

    def _no_scene(self) -> Outcome:
        """No file; one that an earlier run left is of other scenes and would be a seam."""
        removed = self.workspace.composite(self.cell.cell_id, self.band).exists()
        self._remove_old()
        reason = "no scene that can be used covers the cell" if self.failed_products else "no scene covers the cell"
        reason += "; the composite of an earlier run was removed" if removed else ""
        return Outcome(self.cell.cell_id, self.band, "no scene", reason=reason)

    def _remove_old(self) -> None:
        """Take away what is there, its record first: without one it counts as incomplete."""
        for path in (self.workspace.record, self.workspace.composite, self.workspace.count):
            path(self.cell.cell_id, self.band).unlink(missing_ok=True)
        self.workspace.quicklook(self.cell.cell_id).unlink(missing_ok=True)

    def _layers(self) -> Iterator[Layer]:
        for scene, scene_band in self.inputs:
            if not scene.is_not_needed and (piece := scene_band.piece_for(self.lattice, self.window)):
                yield Layer(piece, scene.grid, scene.scale, copy_of(scene, scene_band, self.workspace))

    def _compute(self) -> dict[str, int]:
        """Compute, clip and write the rasters; returns the pixel counts of the record."""
        cell_id, band = self.cell.cell_id, self.band
        folder = self.workspace.vrts(self.rank)
        for leftover in self.workspace.cell_folder(cell_id).glob(f".cell_{cell_id}_{band}_*.part*"):
            leftover.unlink()  # of a process that was killed while writing
        stack = CellStack(
            f"{cell_id}_{band}", self.lattice, self.window, tuple(self._layers()), self.parameters.resampling, folder
        )
        medians = _Raster(folder / f"{stack.name}_median.tif", self, gdal.GDT_Float32, COMPOSITE_NODATA)
        counts = None
        if self.parameters.count:
            counts = _Raster(folder / f"{stack.name}_count.tif", self, gdal.GDT_UInt16, COUNT_NODATA)
        owned = valid = 0
        self.step = "median"
        read_windows = ENGINES[self.parameters.engine] if stack.layers else _empty_windows
        for part in read_windows(stack, with_counts=counts is not None):
            inside = owned_pixels(self.cell.polygon, self.lattice, part.window)
            median = np.where(inside, part.median, np.float32(COMPOSITE_NODATA))
            medians.write(part.window, median)
            if counts is not None and part.count is not None:
                counts.write(part.window, np.where(inside, part.count, np.uint16(COUNT_NODATA)))
            owned += int(np.count_nonzero(inside))
            valid += int(np.count_nonzero(median != COMPOSITE_NODATA))
        self.step = "write"
        with contextlib.ExitStack() as targets:
            medians.finish(targets.enter_context(written_beside(self.workspace.composite(cell_id, band))))
            if counts is not None:
                counts.finish(targets.enter_context(written_beside(self.workspace.count(cell_id, band))))
            self._remove_old()
        return {"owned": owned, "valid": valid}


def _empty_windows(stack: CellStack, *, with_counts: bool) -> Iterator[PixelWindow]:
    """What engines make of no scene at all; they are given one at least."""
    for part in stack.window.tiles(_CHECKED_ROWS):
        count = np.zeros(part.shape, np.uint16) if with_counts else None
        yield PixelWindow(part, np.full(part.shape, COMPOSITE_NODATA, np.float32), count)


class _Raster:
    """A raster of a job's window, written window by window into a plain GeoTIFF and finished as a COG."""

    def __init__(self, scratch: Path, job: _Job, data_type: int, nodata: float) -> None:
        self._scratch, self._window = scratch, job.window
        rows, columns = job.window.shape
        options = ["TILED=YES", "BIGTIFF=IF_SAFER"]
        dataset = gdal.GetDriverByName("GTiff").Create(str(scratch), columns, rows, 1, data_type, options=options)
        dataset.SetProjection("EPSG:4326")
        dataset.SetGeoTransform(job.lattice.geotransform(job.window))
        band = dataset.GetRasterBand(1)
        band.SetNoDataValue(nodata)
        is_count = data_type == gdal.GDT_UInt16
        band.SetDescription(f"{job.band} count of values" if is_count else job.band)
        self._dataset = dataset
        self._overviews = "NEAREST" if is_count else "AVERAGE"

    def write(self, window: Window, pixels: np.ndarray[Any, Any]) -> None:
        self._dataset.GetRasterBand(1).WriteArray(pixels, *window.offset_in(self._window))

    def finish(self, target: Path) -> None:
        """Write the COG to ``target`` and drop the scratch file."""
        self._dataset.FlushCache()
        options = [*(f"{key}={value}" for key, value in _CREATION.items()), f"OVERVIEW_RESAMPLING={self._overviews}"]
        gdal.GetDriverByName("COG").CreateCopy(str(target), self._dataset, options=options).Close()
        # A full disk shows in none of these calls: blocks that could not be written are missing, that is all.
        with target.open("rb") as file:
            os.fsync(file.fileno())
        with gdal.Open(str(target)) as written:
            for part in Window(0, 0, self._window.width, self._window.height).tiles(_CHECKED_ROWS):
                area = (0, part.y0, part.width, part.height)
                if not np.array_equal(written.ReadAsArray(*area), self._dataset.ReadAsArray(*area)):
                    raise OSError(errno.EIO, "what was written does not read back the same")
        self._dataset.Close()
        self._scratch.unlink()
