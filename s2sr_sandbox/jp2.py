"""One band as a JPEG 2000 file built like Sentinel-2's."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from osgeo import gdal

from s2sr_sandbox.grid import Grid

#: Largest DN of the 15 bits that products use.
MAX_DN = 32767

# As in a real R20m file's header: lossless, tiles of 640 x 640, code blocks of 64 x 64, five resolutions. Those of 10 m
# differ in their tiles, of 1024 x 1024.
_OPTIONS = (
    "CODEC=JP2",
    "QUALITY=100",
    "REVERSIBLE=YES",
    "CODEBLOCK_WIDTH=64",
    "CODEBLOCK_HEIGHT=64",
    "RESOLUTIONS=5",
)


def write_jp2(
    path: Path,
    pixels: NDArray[np.uint16] | NDArray[np.uint8],
    grid: Grid,
    *,
    bits: Literal[8, 15],
    tile: int = 640,
    lists_tiles: bool = False,
) -> None:
    """Write ``pixels`` (rows, columns) losslessly: uint16 DN up to 32767 in 15 bits, or uint8 classes in 8.

    The geotransform is stored as doubles (GeoJP2) and reads back exactly; there is a GMLJP2 box too, as in real files.
    With ``lists_tiles``, the marker segments TLM and PLT list the lengths of tiles and of their packets.

    Raises
    ------
    ValueError
        If the pixels do not fit the grid, the type or the 15 bits.
    """
    if pixels.shape != grid.shape:
        raise ValueError(f"{path.name}: {pixels.shape} pixels do not fit a grid of {grid.shape}")
    dtype, gdal_type = (np.uint16, gdal.GDT_UInt16) if bits == 15 else (np.uint8, gdal.GDT_Byte)
    if pixels.dtype != dtype:
        raise ValueError(f"{path.name}: {bits} bits are made from {np.dtype(dtype)}, not from {pixels.dtype}")
    if pixels.max() >> bits:
        raise ValueError(f"{path.name}: DN {pixels.max()} needs more than {bits} bits")
    rows, cols = grid.shape
    raster = gdal.GetDriverByName("MEM").Create("", cols, rows, 1, gdal_type)
    raster.SetSpatialRef(grid.spatial_reference)
    raster.SetGeoTransform(grid.geotransform)
    raster.GetRasterBand(1).WriteArray(pixels)
    options = [*_OPTIONS, f"BLOCKXSIZE={tile}", f"BLOCKYSIZE={tile}", *(["NBITS=15"] if bits == 15 else [])]
    options += ["TLM=YES", "PLT=YES"] if lists_tiles else []
    with gdal.config_options({"GDAL_PAM_ENABLED": "NO"}):  # no .aux.xml next to the band
        gdal.GetDriverByName("JP2OpenJPEG").CreateCopy(str(path), raster, 0, options).Close()
