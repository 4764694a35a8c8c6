"""How windows of a product's image are read: by the decoder of this package where it pays, else as GDAL would.

The verdict on what cannot be decoded is GDAL's, which looks at the tiles of the window alone: OpenJPEG reads on, and
does not get past another tile that is damaged.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from s2sr_core.geo import jp2_check
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Window
from s2sr_core.jpeg2000 import openjpeg

if TYPE_CHECKING:
    from s2sr_core.jpeg2000.image import Image

UInt16Array = npt.NDArray[np.uint16]
BoolArray = npt.NDArray[np.bool_]
#: Window, and which of its pixels count.
Reader = Callable[[Window, BoolArray], UInt16Array]
logger = logging.getLogger(__name__)

#: Pixels of an image that are worth compiling the decoder for (ten seconds, once on each machine).
LARGE = 2048 * 2048
#: Side of a window of each image that OpenJPEG decodes too.
_COMPARED = 32


@contextlib.contextmanager
def window_reader(path: Path) -> Iterator[Reader]:
    """A function that gives the pixels of a window of an image (rows × columns), as GDAL reads them.

    Those that do not count can be anything. It raises RuntimeError where GDAL cannot decode the window.
    """
    with contextlib.ExitStack() as files:
        by_gdal = _ByGdal(path)
        if not by_gdal.uses_openjpeg:
            yield by_gdal.read
            return
        if openjpeg.is_available():
            usual = _by_openjpeg(path, by_gdal)
        else:
            _say_whole_tiles()
            usual = by_gdal.read
        image: Image | None = None
        if by_gdal.pixels >= LARGE and not problem():
            from s2sr_core.jpeg2000.image import opened  # numba takes its time

            try:
                image = files.enter_context(opened(path))
            except (RuntimeError, OSError) as error:
                logger.info("OpenJPEG decodes %s alone: %s", path.name, error)
        yield usual if image is None else _Compared(path, image, usual).read


@functools.cache
def problem() -> str:
    """What is wrong with the windows that this package gives of a small known image; empty if nothing is.

    It is said in the log, once in each process.
    """
    from s2sr_core.jpeg2000.image import opened

    def read(window: Window) -> UInt16Array:
        with opened(jp2_check.IMAGE) as image:
            return image.read_window(window)

    wrong = jp2_check.problem_of(read)
    if wrong:
        logger.warning("OpenJPEG decodes alone: of a small image that comes with s2sr our own decoder %s", wrong)
    return wrong


@functools.cache
def _say_whole_tiles() -> None:
    logger.info("GDAL's OpenJPEG library cannot be called directly: whole JPEG 2000 tiles are decoded, which is slower")


class _ByGdal:
    """Windows by GDAL, which decodes whole tiles."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._dataset: gdal.Dataset | None = None
        with contextlib.suppress(RuntimeError):  # to read it fails with the reason, for each window
            self._dataset = self._open()

    @property
    def uses_openjpeg(self) -> bool:
        return self._dataset is not None and self._dataset.GetDriver().ShortName == "JP2OpenJPEG"

    @property
    def pixels(self) -> int:
        """How many the image has."""
        return 0 if self._dataset is None else int(self._dataset.RasterXSize * self._dataset.RasterYSize)

    def read(self, window: Window, _counts: BoolArray) -> UInt16Array:
        dataset, self._dataset = self._dataset or self._open(), None  # one that failed is not used again
        pixels: UInt16Array = dataset.ReadAsArray(window.x0, window.y0, window.width, window.height).astype(np.uint16)
        self._dataset = dataset
        return pixels

    def _open(self) -> gdal.Dataset:
        options = gdal.OF_RASTER | gdal.OF_READONLY
        return gdal.OpenEx(str(self._path), options, allowed_drivers=jp2_check.image_drivers())


def _by_openjpeg(path: Path, by_gdal: _ByGdal) -> Reader:
    def read(window: Window, counts: BoolArray) -> UInt16Array:
        try:
            return openjpeg.read_window(path, window)
        except RuntimeError:
            return by_gdal.read(window, counts)

    return read


class _Compared:
    """Windows by the decoder of this package, whose first pixels of each image are compared with the usual ones."""

    def __init__(self, path: Path, image: Image, usual: Reader) -> None:
        self._path = path
        self._image: Image | None = image
        self._usual = usual
        self._is_compared = False

    def read(self, window: Window, counts: BoolArray) -> UInt16Array:
        if self._image is None:
            return self._usual(window, counts)
        try:
            pixels = self._image.read_window(window, counts)
        except (RuntimeError, OSError):  # what is wrong with it, if anything is, the usual way says
            return self._usual(window, counts)
        if not self._is_compared and counts.any():
            if not self._is_same(window, counts, pixels):
                logger.warning("OpenJPEG decodes %s alone: our own decoder gives other pixels", self._path.name)
                self._image = None
                return self._usual(window, counts)
            self._is_compared = True
        return pixels

    def _is_same(self, window: Window, counts: BoolArray, pixels: UInt16Array) -> bool:
        """Compare a part of the window around the first pixel that counts."""
        y, x = divmod(int(counts.argmax()), counts.shape[1])
        part = slice(y, y + _COMPARED), slice(x, x + _COMPARED)
        compared = Window(window.x0 + x, window.y0 + y, window.x0 + x + _COMPARED, window.y0 + y + _COMPARED) & window
        usual = self._usual(compared, counts[part])
        return bool((usual == pixels[part])[counts[part]].all())
