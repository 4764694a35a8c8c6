"""Decoded copies: the pixels of a scene's band that count, harmonised and masked, decoded once for all cells.

A copy is a file of UInt16 with nodata 65535, part after part of the scene's occupancy, each row by row. It is made by
the first process that needs it, whole or not at all, and gone when the last cell that needs it is finished.
"""

from __future__ import annotations

import fcntl
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s2sr_core.files import written_beside
from s2sr_core.geo.gdal_runtime import IMAGE_DRIVERS, gdal
from s2sr_core.geo.lattice import Window
from s2sr_core.pixels import openjpeg
from s2sr_core.pixels.rules import SCENE_NODATA, harmonised
from s2sr_core.scenes.occupancy import Occupancy
from s2sr_core.scenes.scene import Scene, SceneBand
from s2sr_core.workspace import Workspace

UInt16Array = npt.NDArray[np.uint16]
logger = logging.getLogger(__name__)

_ALL_DN = np.arange(65536, dtype=np.uint16)


@dataclass(frozen=True, slots=True)
class Copy:
    """A decoded copy, made or not.

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


def copy_of(scene: Scene, band: SceneBand, workspace: Workspace) -> Copy | None:
    """The decoded copy of a band of ``scene``; None where phase 1 did not look for what counts."""
    if scene.occupancy is None:
        return None
    path = workspace.decoded_copy(str(scene.product.name), band.file.band)
    return Copy(path, band.file.path, band.offset, scene.occupancy)


def make_all(copies: Sequence[Copy]) -> None:
    """Make those of ``copies`` that are not there; while other processes make some of them, this one makes others.

    Raises
    ------
    RuntimeError
        Where an image cannot be decoded.
    """
    waiting = [copy for copy in copies if not copy.path.exists()]
    while waiting:
        busy = [copy for copy in waiting if not _made(copy, wait=False)]
        if len(busy) == len(waiting):
            _made(busy.pop(0), wait=True)
        waiting = busy


def _made(copy: Copy, *, wait: bool) -> bool:
    """Whether the copy is there now; without ``wait``, False where another process is at it."""
    copy.path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(copy.path.with_suffix(".lock"), wait) as mine:
        if mine and not copy.path.exists():
            _make(copy)
        return mine


def _make(copy: Copy) -> None:
    occupancy = Occupancy.read(copy.occupancy)
    rule = harmonised(_ALL_DN, np.zeros(_ALL_DN.shape, bool), copy.offset)
    read = _reader(copy.image)
    with written_beside(copy.path) as temporary, temporary.open("wb") as file:
        for part in occupancy.parts:
            x, y = part.offset_in(occupancy.window)
            counts = occupancy.counts[y : y + part.height, x : x + part.width]
            np.where(counts, rule[read(part)], np.uint16(SCENE_NODATA)).tofile(file)


def _reader(image: Path) -> Callable[[Window], UInt16Array]:
    """How windows of an image are read: by OpenJPEG where GDAL would take that too, else by GDAL and whole tiles."""
    dataset = gdal.OpenEx(str(image), gdal.OF_RASTER | gdal.OF_READONLY, allowed_drivers=list(IMAGE_DRIVERS))
    if dataset.GetDriver().ShortName == "JP2OpenJPEG":
        if openjpeg.is_available():
            return lambda window: openjpeg.read_window(image, window)
        _say_whole_tiles()

    def read(window: Window) -> UInt16Array:
        pixels: UInt16Array = dataset.ReadAsArray(window.x0, window.y0, window.width, window.height).astype(np.uint16)
        return pixels

    return read


@functools.cache
def _say_whole_tiles() -> None:
    logger.info("no OpenJPEG library can be called beside GDAL: whole JPEG 2000 tiles are decoded, which is slower")


@contextmanager
def _locked(path: Path, wait: bool) -> Iterator[bool]:
    """Hold a lock among processes; gives whether it was had."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError:
            pass  # a filesystem without locks: at worst two make the same copy
        yield True


class CopyReader:
    """Windows of a copy."""

    def __init__(self, path: Path, parts: Sequence[Window]) -> None:
        self._path = path
        self._corners = np.array([(part.x0, part.y0, part.x1, part.y1) for part in parts], np.int64).reshape(-1, 4)
        areas = (self._corners[:, 2] - self._corners[:, 0]) * (self._corners[:, 3] - self._corners[:, 1])
        self._starts = np.concatenate([[0], np.cumsum(areas)])

    def read(self, window: Window) -> UInt16Array | None:
        """The pixels of ``window``, nodata where no part is; None where there is none at all."""
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
                column, _ = shared.offset_in(part)
                x, y = shared.offset_in(window)
                pixels[y : y + shared.height, x : x + shared.width] = rows.reshape(-1, part.width)[
                    :, column : column + shared.width
                ]
        return pixels


class CopiesInUse:
    """Which cells still need the copies of which scenes; copies that none needs are removed."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._scenes_of: dict[tuple[str, str], list[str]] = {}
        self._needed: dict[tuple[str, str], set[str]] = {}

    def add(self, scene: Scene) -> None:
        """Its cells need the copies of its bands, before one of them is composited."""
        product = str(scene.product.name)
        for band in scene.bands:
            self._needed[product, band.file.band] = set(scene.cells)
            for cell_id in scene.cells:
                self._scenes_of.setdefault((cell_id, band.file.band), []).append(product)

    def finished(self, cell_id: str, band: str) -> None:
        """A composite is done, well or not."""
        for product in self._scenes_of.pop((cell_id, band), ()):
            cells = self._needed[product, band]
            cells.discard(cell_id)
            if not cells:
                copy = self._workspace.decoded_copy(product, band)
                for path in (copy, copy.with_suffix(".lock")):
                    path.unlink(missing_ok=True)
