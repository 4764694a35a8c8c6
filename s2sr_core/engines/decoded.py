"""Decoded bands: the pixels of a scene's band that count, harmonised and masked, decoded once for all cells.

A decoded band is a file of UInt16 with nodata 65535, part after part of the scene's occupancy, each row by row. The
first process that needs it writes it, whole or not at all; it is removed when the last cell that needs it is finished.
Parts that cannot be decoded hold nodata, and a file next to it says which they are, and why: no cell tries them again.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s2sr_core.files import locked, read_record, write_record, written_atomically
from s2sr_core.geo.lattice import Window
from s2sr_core.jpeg2000.windows import window_reader
from s2sr_core.periods import ALWAYS, Period, period_of
from s2sr_core.pixels.rules import SCENE_NODATA, harmonised
from s2sr_core.scenes.occupancy import Occupancy
from s2sr_core.scenes.scene import Scene, SceneBand
from s2sr_core.workspace import Workspace, decoded_name

UInt16Array = npt.NDArray[np.uint16]

_ALL_DN = np.arange(65536, dtype=np.uint16)


@dataclass(frozen=True, slots=True)
class DecodedBand:
    """A decoded band of a scene, there or not.

    Attributes
    ----------
    path: where it is, or will be.
    image: the image it is decoded from.
    offset: DN added to harmonise it.
    occupancy: the file that says which pixels count.
    """

    path: Path
    image: Path
    offset: int
    occupancy: Path

    @property
    def failed(self) -> Path:
        """The record of the parts that cannot be decoded; there only if the decoded band is, and has such parts."""
        return self.path.with_suffix(".failed")

    def missing_bytes(self) -> int:
        """The size of the decoded band; 0 if it is there."""
        return 0 if self.path.exists() else _size(Occupancy.read_parts(self.occupancy))


def decoded_band(scene: Scene, band: SceneBand) -> DecodedBand | None:
    """Of a band of ``scene``, next to its occupancy; None if phase 1 did not find out which pixels count."""
    if scene.occupancy is None:
        return None
    path = scene.occupancy.with_name(decoded_name(str(scene.product.name), band.file.band))
    return DecodedBand(path, band.file.path, band.offset, scene.occupancy)


def decode_all(bands: Sequence[DecodedBand]) -> None:
    """Decode those of ``bands`` that are missing; while other processes decode some of them, this one does others.

    What of an image cannot be decoded is recorded (:func:`failed_parts`).

    Raises
    ------
    OSError
        If a decoded band cannot be written, as on a full disk.
    """
    missing = [band for band in bands if not band.path.exists()]
    while missing:
        busy = [band for band in missing if not _is_there(band, wait=False)]
        if len(busy) == len(missing):
            _is_there(busy.pop(0), wait=True)
        missing = busy


def _is_there(band: DecodedBand, *, wait: bool) -> bool:
    """Whether the band is decoded now; without ``wait``, False if another process is at it."""
    band.path.parent.mkdir(parents=True, exist_ok=True)
    with locked(band.path.with_suffix(".lock"), wait=wait) as lock:
        if lock is not None and not band.path.exists():
            _decode(band)
        return lock is not None


def _decode(band: DecodedBand) -> None:
    occupancy = Occupancy.read(band.occupancy)
    rule = harmonised(_ALL_DN, np.zeros(_ALL_DN.shape, bool), band.offset)
    failures = {}
    with written_atomically(band.path) as temporary, window_reader(band.image) as read:
        with temporary.open("wb") as file:
            for number, part in enumerate(occupancy.parts):
                x, y = part.offset_in(occupancy.window)
                counts = occupancy.counts[y : y + part.height, x : x + part.width]
                try:
                    pixels = np.where(counts, rule.take(read(part, counts)), np.uint16(SCENE_NODATA))
                except RuntimeError as error:
                    failures[str(number)] = _reason(band.image, error)
                    pixels = np.full(part.shape, SCENE_NODATA, np.uint16)
                file.write(np.ascontiguousarray(pixels).data)  # tofile() does not say what a full disk lacks
        size = _size(occupancy.parts)
        if temporary.stat().st_size != size:
            raise OSError(errno.EIO, f"has {temporary.stat().st_size} bytes, not {size}", str(temporary))
        if failures:
            write_record(band.failed, failures)
        else:
            band.failed.unlink(missing_ok=True)


def _size(parts: Sequence[Window]) -> int:
    return 2 * sum(part.width * part.height for part in parts)


def failed_parts(band: DecodedBand) -> dict[Window, str]:
    """The parts of a decoded band that could not be decoded, each with the reason."""
    failures = read_record(band.failed)
    if failures is None:
        return {}
    parts = Occupancy.read_parts(band.occupancy)
    return {parts[int(number)]: reason for number, reason in failures.items()}


def _reason(image: Path, error: RuntimeError) -> str:
    text = " ".join(str(error).split())
    return f"{image.name} cannot be decoded" + (f" ({text})" if text else "")


class DecodedReader:
    """Windows of a decoded band, whose file holds ``parts``."""

    def __init__(self, path: Path, parts: Sequence[Window]) -> None:
        self._path = path
        self._corners = np.array([(part.x0, part.y0, part.x1, part.y1) for part in parts], np.int64).reshape(-1, 4)
        areas = (self._corners[:, 2] - self._corners[:, 0]) * (self._corners[:, 3] - self._corners[:, 1])
        self._starts = np.concatenate([[0], np.cumsum(areas)])

    def read(self, window: Window) -> UInt16Array | None:
        """The pixels of ``window``, nodata where no part is; None if no part meets it."""
        x0, y0, x1, y1 = self._corners.T
        meets = (x0 < window.x1) & (window.x0 < x1) & (y0 < window.y1) & (window.y0 < y1)
        if not meets.any():
            return None
        pixels = np.full(window.shape, SCENE_NODATA, np.uint16)
        with self._path.open("rb") as file:
            for index in np.flatnonzero(meets):
                part = Window(*map(int, self._corners[index]))
                shared = part & window
                first = int(self._starts[index]) + (shared.y0 - part.y0) * part.width
                file.seek(2 * first)
                rows = np.fromfile(file, np.uint16, shared.height * part.width)
                if rows.size != shared.height * part.width:
                    raise OSError(errno.EIO, "is too short", str(self._path))
                column, _ = shared.offset_in(part)
                x, y = shared.offset_in(window)
                pixels[y : y + shared.height, x : x + shared.width] = rows.reshape(-1, part.width)[
                    :, column : column + shared.width
                ]
        return pixels


class DecodedBandsInUse:
    """Which cells still need the decoded bands of which scenes; those that none needs are removed.

    A scene lies in one of ``periods``, which are in order, and the composites of that one alone need it.
    """

    def __init__(self, workspace: Workspace, periods: Sequence[Period] = (ALWAYS,)) -> None:
        self._workspace, self._periods = workspace, periods
        self._scenes_of: dict[tuple[str, str, str], list[str]] = {}
        self._needed: dict[tuple[str, str], set[str]] = {}

    def add(self, scene: Scene) -> None:
        """Its cells need its decoded bands; to be called before one of the cells is composited."""
        product, period = str(scene.product.name), period_of(scene.product.name.sensing_time, self._periods)
        if period is None:
            return
        for band in scene.bands:
            self._needed[product, band.file.band] = set(scene.cells)
            for cell_id in scene.cells:
                self._scenes_of.setdefault((cell_id, band.file.band, period.label), []).append(product)

    def finished(self, cell_id: str, band: str, period: str = "") -> None:
        """The composite of a period (its label) is finished or has failed."""
        for product in self._scenes_of.pop((cell_id, band, period), ()):
            cells = self._needed[product, band]
            cells.discard(cell_id)
            if not cells:
                decoded = self._workspace.decoded_band(product, band)
                for path in (decoded, *(decoded.with_suffix(suffix) for suffix in (".lock", ".failed"))):
                    path.unlink(missing_ok=True)
