"""GDAL as every process of a run must have it: import ``gdal``, ``ogr`` and ``osr`` from here.

* Errors are exceptions.
* A VRT may call functions of :mod:`s2sr_core.pixel_functions` and no other Python code: VRT is XML that anybody can
  write, and ``GDAL_VRT_ENABLE_PYTHON=YES`` would run any code in it. The setting overrides the environment's.
* One thread for each process: the workers fill the cores.
* A block cache of 512 MB for each process, unless ``GDAL_CACHEMAX`` says otherwise: GDAL's own 5 % of the memory is
  meant for one process, not for one per core.
"""

from __future__ import annotations

import os

from s2sr_core.errors import InstallationError
from s2sr_core.installation import GDAL_REMEDY

try:
    # Both import and gdal_array register the drivers. A plugin that cannot be loaded must not be an exception there.
    from osgeo import gdal, gdal_array, ogr, osr
except ImportError as error:
    raise InstallationError(f"GDAL's Python bindings cannot be imported ({error}); {GDAL_REMEDY}.") from error

__all__ = ["IMAGE_DRIVERS", "configure", "gdal", "gdal_array", "ogr", "osr", "overridden_python_setting", "restore"]

PIXEL_FUNCTION_MODULE = "s2sr_core.pixel_functions"

#: GDAL's drivers for what L2A images come as: JPEG 2000 (any of its codecs) and GeoTIFF.
IMAGE_DRIVERS = ("JP2OpenJPEG", "JP2KAK", "JP2ECW", "JP2MrSID", "JP2Grok", "JP2Lura", "GTiff")

_SETTINGS = {
    "GDAL_VRT_ENABLE_PYTHON": "TRUSTED_MODULES",
    "GDAL_VRT_PYTHON_TRUSTED_MODULES": PIXEL_FUNCTION_MODULE,
    "GDAL_NUM_THREADS": "1",
    # Sidecar files of inputs are neither looked for (thousands of stat calls on a shared filesystem) nor written.
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
    "GDAL_PAM_ENABLED": "NO",
}
_CACHE = 512 * 1024**2


_before = {key: gdal.GetGlobalConfigOption(key) for key in _SETTINGS}


def configure() -> None:
    """Configure GDAL in this process; importing this module does it as well."""
    gdal.UseExceptions()
    ogr.UseExceptions()
    osr.UseExceptions()
    for key, value in _SETTINGS.items():
        gdal.SetConfigOption(key, value)
    if gdal.GetConfigOption("GDAL_CACHEMAX") is None:
        gdal.SetCacheMax(_CACHE)


def restore() -> None:
    """Give GDAL the settings again that it had before this module was imported."""
    for key, value in _before.items():
        gdal.SetConfigOption(key, value)


def overridden_python_setting() -> str | None:
    """The value of ``GDAL_VRT_ENABLE_PYTHON`` in the environment if this program overrides it, else None."""
    asked = os.environ.get("GDAL_VRT_ENABLE_PYTHON")
    return asked if asked not in (None, _SETTINGS["GDAL_VRT_ENABLE_PYTHON"]) else None


configure()
