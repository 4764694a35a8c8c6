"""Whether what decodes JPEG 2000 gives right windows: a small image whose pixels are known, before any product is read.

A driver of GDAL may open an image and give wrong pixels for a window of it (GDAL's issues 14563, 14748 and 14780 report
that of JP2Grok), and no error tells. So each decoder must read windows of ``jp2_check.jp2`` right, once in each
process; a driver that does not is taken out of GDAL, so that VRTs do not use it either. It takes some 15 ms.

The image is built like Sentinel-2's, lossless with 15 bits in UInt16, only smaller: 128 × 160 pixels in tiles of
64 × 64 with code blocks of 16 × 16 (tests/s2sr_core/geo/test_jp2_check.py makes it again). No file is written.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s2sr_core.errors import InstallationError
from s2sr_core.geo.gdal_runtime import IMAGE_DRIVERS, gdal
from s2sr_core.geo.lattice import Window

UInt16Array = npt.NDArray[np.uint16]
logger = logging.getLogger(__name__)

IMAGE = Path(__file__).with_suffix(".jp2")
SHAPE = (128, 160)
#: The whole image; whole tiles; across two and four tiles, along edges of code blocks and off them; single pixels.
WINDOWS = (
    Window(0, 0, 160, 128),
    Window(64, 0, 128, 64),
    Window(128, 64, 160, 128),
    Window(60, 10, 70, 20),
    Window(50, 50, 81, 77),
    Window(16, 16, 48, 48),
    Window(101, 33, 118, 127),
    Window(0, 63, 160, 65),
    Window(159, 127, 160, 128),
    Window(63, 63, 64, 64),
)


def pixels_of_image() -> UInt16Array:
    """The pixels of the image (rows × columns): a slope of which no two parts are alike, with some noise."""
    row, column = np.arange(SHAPE[0])[:, None], np.arange(SHAPE[1])
    noise = (7919 * row + 104_729 * column + 31 * row * column) % 3
    pixels: UInt16Array = (4000 + 61 * row + 97 * column + row * column // 9 + noise).astype(np.uint16)
    return pixels


def problem_of(read: Callable[[Window], npt.NDArray[np.generic]]) -> str:
    """What is wrong with the windows of the image that ``read`` gives; empty if nothing is."""
    expected = pixels_of_image()
    for window in WINDOWS:
        try:
            found = read(window)
        except RuntimeError as error:
            return " ".join(f"cannot read it: {error}".split())
        right = expected[window.y0 : window.y1, window.x0 : window.x1]
        if not np.array_equal(found, right):
            place = f"{window.width} x {window.height} pixels at column {window.x0} and row {window.y0}"
            return f"gives wrong pixels for a window of {place}"
    return ""


@functools.cache
def check_drivers() -> Mapping[str, str]:
    """Try each of GDAL's drivers for JPEG 2000, and take those that fail out of this process.

    Returns the drivers in GDAL's order, each with what is wrong with it; empty if nothing is.
    """
    names = [gdal.GetDriver(number).ShortName for number in range(gdal.GetDriverCount())]
    problems = {name: problem_of(_reader(name)) for name in names if name in IMAGE_DRIVERS and name.startswith("JP2")}
    for name, problem in problems.items():
        if problem:
            logger.warning("GDAL's driver %s is not used: of a small image that comes with s2sr it %s", name, problem)
            gdal.GetDriverByName(name).Deregister()
    return problems


@functools.cache
def image_drivers() -> list[str]:
    """The drivers of GDAL with which images of products may be opened: those that read right, and GeoTIFF's.

    Raises
    ------
    InstallationError
        If there are drivers for JPEG 2000, and none reads right.
    """
    problems = check_drivers()
    if problems and all(problems.values()):
        what = "; ".join(f"{name} {problem}" for name, problem in problems.items())
        raise InstallationError(
            f"no JPEG 2000 driver of GDAL {gdal.__version__} reads right ({what}); install a GDAL with another one, "
            "such as JP2OpenJPEG (see s2sr-pipeline --doctor)."
        )
    return [name for name in IMAGE_DRIVERS if not problems.get(name)]


def _reader(driver: str) -> Callable[[Window], npt.NDArray[np.generic]]:
    def read(window: Window) -> npt.NDArray[np.generic]:
        options = gdal.OF_RASTER | gdal.OF_READONLY
        with gdal.OpenEx(str(IMAGE), options, allowed_drivers=[driver]) as dataset:
            pixels: npt.NDArray[np.generic] = dataset.ReadAsArray(window.x0, window.y0, window.width, window.height)
            return pixels

    return read
