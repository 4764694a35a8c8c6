"""Files in GDAL's memory (``/vsimem``), for what GDAL can write only to a file and nobody else is to see."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

from s2sr_core.geo.gdal_runtime import gdal


@contextlib.contextmanager
def memory_folder() -> Iterator[str]:
    """A folder that no other thread uses; it and its files are gone after the block."""
    folder = f"/vsimem/s2sr-{uuid.uuid4()}"
    try:
        yield folder
    finally:
        for name in gdal.ReadDir(folder) or []:
            with contextlib.suppress(RuntimeError):  # such as . and ..
                gdal.Unlink(f"{folder}/{name}")
        with contextlib.suppress(RuntimeError):  # folders exist only if they were made, in some versions of GDAL
            gdal.Rmdir(folder)
