"""Writing one raster of a composite: window by window into a plain GeoTIFF, then as a Cloud Optimized GeoTIFF.

On a full disk none of GDAL's calls fails: blocks that could not be written are just missing. So the plain file is read
back and compared, and the COG is made in memory (it is as large as the file) and written by Python, which fails.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from osgeo import gdal_array

from s2sr_core.composites.tags import Tags
from s2sr_core.disk_space import is_full
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Lattice, Window
from s2sr_core.geo.memory_files import memory_folder
from s2sr_core.pixels.statistics import Statistic

#: Level 6, the default, takes twice the time for 3 % fewer bytes.
_CREATION = {"COMPRESS": "DEFLATE", "LEVEL": "1", "PREDICTOR": "YES", "BLOCKSIZE": "512", "BIGTIFF": "IF_SAFER"}


def remove_raster(path: Path) -> None:
    """Remove a raster, if it is there, and what a GIS wrote down about it next to it, as QGIS does with statistics."""
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}.aux.xml").unlink(missing_ok=True)


def open_raster(path: Path) -> gdal.Dataset:
    """Open a raster that :class:`ScratchRaster` wrote.

    Raises
    ------
    RuntimeError
        If it is not a GeoTIFF: a file of another format under its name could make GDAL read whatever it refers to.
    """
    return gdal.OpenEx(str(path), gdal.OF_RASTER | gdal.OF_READONLY, allowed_drivers=["GTiff"])


class ScratchRaster:
    """The pixels of one statistic, ``window`` of ``lattice``, on their way into a COG.

    ``scratch`` is a file that may be written and is removed in the end.
    """

    def __init__(self, scratch: Path, lattice: Lattice, window: Window, statistic: Statistic, band: str) -> None:
        self._scratch, self._window = scratch, window
        self._statistic, self._has_values = statistic, False
        #: What was written, window by window, and the CRC of its pixels: the scratch file must hold the same.
        self._parts: list[tuple[Window, int]] = []
        rows, columns = window.shape
        data_type = gdal_array.NumericTypeCodeToGDALTypeCode(np.dtype(statistic.dtype))
        options = ["TILED=YES", "BIGTIFF=IF_SAFER"]
        self._dataset = gdal.GetDriverByName("GTiff").Create(str(scratch), columns, rows, 1, data_type, options=options)
        self._dataset.SetProjection(lattice.crs)
        self._dataset.SetGeoTransform(lattice.geotransform(window))
        self._band = self._dataset.GetRasterBand(1)
        self._band.SetNoDataValue(statistic.nodata)
        self._band.SetDescription(statistic.describe(band))

    def write(self, window: Window, pixels: npt.NDArray[Any]) -> None:
        """Write the pixels of ``window`` (rows × columns)."""
        self._parts.append((window, _crc(pixels.astype(self._statistic.dtype, copy=False))))
        self._band.WriteArray(pixels, *window.offset_in(self._window))
        self._has_values = self._has_values or bool((pixels != self._statistic.outside).any())

    def finish(self, target: Path, tags: Tags) -> str:
        """Write the COG to ``target`` and remove the scratch file; returns the SHA-256 of what was written.

        ``tags`` are what it says of itself, besides statistics.

        Raises
        ------
        OSError
            If the scratch file does not hold what was written to it, or the COG cannot be written, as on a full disk.
        """
        try:
            return self._finish(target, tags)
        except (OSError, RuntimeError) as error:
            self.abandon()
            if any(is_full(folder) for folder in (target.parent, self._scratch.parent)):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from error
            raise

    def abandon(self) -> None:
        """Close the scratch file after a failure; what cannot be written any more is no error then."""
        with contextlib.suppress(RuntimeError):
            self._dataset.Close()

    def _finish(self, target: Path, tags: Tags) -> str:
        self._write_tags(tags)
        self._dataset.FlushCache()
        self._check_scratch()
        if self._has_values:  # without a value it would fail
            self._band.ComputeStatistics(approx_ok=False)  # of every pixel, which the COG driver's own would sample
        with self._cog() as content, target.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if (size := os.fstat(file.fileno()).st_size) != len(content):
                raise OSError(errno.EIO, f"has {size} bytes, not {len(content)}", str(target))
            checksum = hashlib.sha256(content).hexdigest()
        self._dataset.Close()
        self._scratch.unlink()
        return checksum

    def _check_scratch(self) -> None:
        for part, crc in self._parts:
            area = (*part.offset_in(self._window), part.width, part.height)
            if _crc(self._dataset.ReadAsArray(*area)) != crc:
                raise OSError(errno.EIO, "what was written does not read back the same", str(self._scratch))

    @contextlib.contextmanager
    def _cog(self) -> Iterator[memoryview]:
        """The bytes of the COG, in memory as long as the block lasts."""
        creation = {**_CREATION, "OVERVIEW_RESAMPLING": self._statistic.overviews, "STATISTICS": "AUTO"}
        options = [f"{key}={value}" for key, value in creation.items()]
        with memory_folder() as folder:
            path = f"{folder}/cog.tif"
            # Overviews are compressed on their way too: by ZSTD, which takes 8 % of the time, unless this is set.
            with gdal.config_option("COG_TMP_COMPRESSION", "PACKBITS"):
                gdal.GetDriverByName("COG").CreateCopy(path, self._dataset, options=options).Close()
            yield gdal.VSIGetMemFileBuffer_unsafe(path)

    def _write_tags(self, tags: Tags) -> None:
        self._dataset.SetMetadata(dict(tags.raster))
        for domain, items in (("", tags.band), ("IMAGERY", tags.imagery)):
            if items:
                self._band.SetMetadata(dict(items), domain)
        self._band.SetUnitType(tags.unit)
        if tags.scale is not None:
            self._band.SetScale(tags.scale)
            self._band.SetOffset(0.0)


def _crc(pixels: npt.NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(pixels).data)
