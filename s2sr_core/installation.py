"""GDAL's Python bindings come by one of two extras, and every program needs one of them.

This module imports as little as possible: programs call it before they import anything that needs GDAL.
"""

from __future__ import annotations

import importlib.util
import sys

#: What to do if ``osgeo`` is missing or cannot be loaded. The version of GDAL's source package must be the library's.
GDAL_REMEDY = (
    "add one of two extras: gdal-wheel brings its own GDAL (pip install 's2sr[gdal-wheel]'), gdal builds bindings for "
    "the GDAL of this machine, 3.9 or newer (pip install 's2sr[gdal]' \"GDAL==$(gdal-config --version).*\")"
)


def require_gdal(program: str) -> None:
    """End the process with one sentence on stderr and exit code 2 if GDAL's Python bindings are not installed.

    The sentence begins with the name of the ``program``. The bindings are not imported, so this takes no time.
    """
    if importlib.util.find_spec("osgeo") is None:
        print(f"{program}: GDAL's Python bindings (osgeo) are not installed; {GDAL_REMEDY}.", file=sys.stderr)
        raise SystemExit(2)
