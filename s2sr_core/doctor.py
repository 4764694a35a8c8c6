"""``--doctor``: is this installation fit to run? Each check tries the real thing, and says what to do if it fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from s2sr_core.errors import InputError, InstallationError
from s2sr_core.geo import jp2_check
from s2sr_core.geo.gdal_runtime import gdal, overridden_python_setting
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.jpeg2000 import openjpeg, windows
from s2sr_core.machine import CHECKS, check_drivers, check_locks
from s2sr_core.pixels import vrt
from s2sr_core.pixels.masks import SclMask
from s2sr_core.pixels.rules import SCENE_NODATA

_PACKAGES = (
    "prefect",
    "prefect-dask",
    "dask",
    "distributed",
    "dask-jobqueue",
    "numpy",
    "pandas",
    "shapely",
    "pydantic",
)
_LOW_DISK = 10 * 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; ``remedy`` is empty if nothing is wrong."""

    name: str
    detail: str
    remedy: str = ""


def examine(folder: Path, more: Mapping[str, Callable[[], str]]) -> Iterator[Finding]:
    """Run every check, and ``more`` (by name). ``folder`` is the folder of a run, which need not exist yet.

    A check returns what it found. It raises an ``InputError``, or any other error if there is one remedy for all.
    """
    of_machine = [(name, check, "") for name, check in (*CHECKS, *more.items())]
    checks = [*_CHECKS, *of_machine] if _has_drivers() else [*_BEFORE_DRIVERS, *of_machine]
    for name, check, remedy in checks:
        try:
            yield Finding(name, check())
        except InputError as error:
            yield Finding(name, f"{error.field}={error.value}: {error.problem}", error.remedy)
        except InstallationError as error:
            problem, _, advice = str(error).rpartition("; ")
            yield Finding(name, problem, advice.rstrip("."))
        except Exception as error:  # noqa: BLE001  # whatever breaks is the finding
            yield Finding(name, " ".join(f"{type(error).__name__}: {error}".split()), remedy or "see the text before")
    for package in _PACKAGES:
        try:
            yield Finding(package, version(package))
        except PackageNotFoundError:
            yield Finding(package, "is not installed", "run 'make setup' in the checkout, or 'pip install .'")
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    yield _locks(existing)
    yield _free_disk(existing)


def _has_drivers() -> bool:
    """Whether GDAL has its drivers; without one, other checks would blame what they happen to need it for."""
    try:
        check_drivers()
    except (InputError, InstallationError):
        return False
    return True


def _gdal_version() -> str:
    if int(gdal.VersionInfo()) < 3_09_00_00:
        raise RuntimeError(f"{gdal.__version__} is older than 3.9")
    return str(gdal.__version__)


def _plugins() -> str:
    """A plugin that cannot be loaded is left out, with a message; here it is an exception."""
    gdal.AllRegister()
    return f"{gdal.GetDriverCount()} drivers"


def _jp2_driver() -> str:
    """Which JPEG 2000 drivers this GDAL has, and whether they and OpenJPEG itself give the windows of a known image."""
    problems = jp2_check.check_drivers()
    if not problems:
        raise RuntimeError("this GDAL cannot read JPEG 2000")
    jp2_check.image_drivers()  # one at least must be right
    found = [
        f"{name} is not used, it {problem}" if problem else f"{name} reads right" for name, problem in problems.items()
    ]
    version, problem = openjpeg.version(), openjpeg.problem()
    if problem:
        found.append(f"OpenJPEG itself {problem}, so whole tiles are decoded, which is slower")
    elif version:
        found.append(f"windows by OpenJPEG {version}")
    else:
        found.append("without OpenJPEG whole tiles are decoded, which is slower")
    problem = windows.problem()
    found.append(
        f"our own decoder {problem}, so large images are decoded as small ones are, which is slower"
        if problem
        else "those of large images by our own decoder"
    )
    return "; ".join(found)


def _numpy_bindings() -> str:
    pixels = np.arange(6, dtype=np.uint16).reshape(2, 3)
    if not np.array_equal(_in_memory(pixels).ReadAsArray(), pixels):
        raise RuntimeError("GDAL returned other pixels than were written")
    return f"numpy {np.__version__}"


def _pixel_function() -> str:
    """Mask and harmonise four pixels in a VRT: DN 0, masked by SCL, darker than the offset, clear."""
    with TemporaryDirectory() as folder:
        here = Path(folder)
        for name, pixels in (
            ("band", np.array([[0, 1500, 400, 1500]], np.uint16)),
            ("scl", np.array([[4, 9, 4, 4]], np.uint8)),
        ):
            gdal.GetDriverByName("GTiff").CreateCopy(str(here / f"{name}.tif"), _in_memory(pixels)).Close()
        path = vrt.masked(
            here / "masked.vrt",
            band=here / "band.tif",
            scl=here / "scl.tif",
            grid=RasterGrid("EPSG:32606", (0.0, 20.0, 0.0, 0.0, 0.0, -20.0), (1, 4)),
            offset=-1000,
            mask=SclMask((9,)),
        )
        found = gdal.Open(str(path)).ReadAsArray().tolist()
    if found != [[SCENE_NODATA, SCENE_NODATA, 0, 500]]:
        raise RuntimeError(f"returned {found}")
    asked = overridden_python_setting()
    return "executed" + (f" (GDAL_VRT_ENABLE_PYTHON={asked} in the environment is overridden)" if asked else "")


def _locks(folder: Path) -> Finding:
    try:
        return Finding("locks", check_locks(folder))
    except OSError as error:
        remedy = "give a --work-dir on another filesystem, or never let two runs use one folder"
        return Finding("locks", f"{folder}: {error.strerror}", remedy)


def _free_disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1e9:.0f} GB free at {folder}"
    return Finding("disk", detail, "free some space, or give another --work-dir" if free < _LOW_DISK else "")


def _in_memory(pixels: np.ndarray) -> gdal.Dataset:
    types = {"uint8": gdal.GDT_Byte, "uint16": gdal.GDT_UInt16}
    rows, columns = pixels.shape
    dataset = gdal.GetDriverByName("MEM").Create("", columns, rows, 1, types[pixels.dtype.name])
    dataset.GetRasterBand(1).WriteArray(pixels)
    return dataset


_BEFORE_DRIVERS: tuple[tuple[str, Callable[[], str], str], ...] = (
    ("GDAL", _gdal_version, "install GDAL 3.9 or newer with its Python bindings"),
    (
        "GDAL's plugins",
        _plugins,
        "unset GDAL_DRIVER_PATH, or replace the file that is named by the plugin of this GDAL",
    ),
)
_CHECKS = (
    *_BEFORE_DRIVERS,
    ("JPEG 2000", _jp2_driver, "install a GDAL built with OpenJPEG (conda-forge: libgdal-jp2openjpeg)"),
    (
        "GDAL with numpy",
        _numpy_bindings,
        "reinstall GDAL's Python bindings, with numpy already installed",
    ),
    (
        "pixel function",
        _pixel_function,
        "install s2sr and GDAL's Python bindings in one environment",
    ),
)
