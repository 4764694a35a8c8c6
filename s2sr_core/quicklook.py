"""Pictures of composites, for people who would rather look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s2sr_core.gdal_runtime import gdal
from s2sr_core.pixel_functions import COMPOSITE_NODATA
from s2sr_core.workspace import Workspace, written_beside

_TRUE_COLOUR = ("B04", "B03", "B02")
#: Longest side of a picture, pixels.
_SIDE = 1024
#: Percentiles of the valid pixels that become black and white.
_STRETCH = (2.0, 98.0)


def draw_cell(workspace: Workspace, cell_id: str, bands: Sequence[str]) -> Path | None:
    """Draw the composites of a cell as ``cell_<id>_quicklook.png``; None where there is nothing to draw.

    True colour where B04, B03 and B02 are there, else the first band in grey; transparent where there is no value.
    """
    available = [band for band in bands if workspace.composite(cell_id, band).exists()]
    if not available:
        return None
    shown = _TRUE_COLOUR if set(_TRUE_COLOUR) <= set(available) else (available[0],)
    pixels = np.stack([_read(workspace.composite(cell_id, band)) for band in shown])
    target = workspace.quicklook(cell_id)
    with written_beside(target) as temporary:
        write_png(pixels, (pixels != COMPOSITE_NODATA).all(axis=0), temporary)
    return target


def write_png(pixels: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], path: Path) -> None:
    """Write one (grey) or three (red, green, blue) bands, stretched together by their valid pixels, with transparency.

    ``pixels`` is bands × rows × columns in any unit, ``valid`` rows × columns.
    """
    low, high = np.percentile(pixels[:, valid], _STRETCH) if valid.any() else (0.0, 1.0)
    stretched = np.clip((pixels - low) / max(high - low, 1.0), 0.0, 1.0) ** 0.8
    layers = [*(stretched * 255).round().astype(np.uint8), valid.astype(np.uint8) * 255]
    rows, columns = valid.shape
    memory = gdal.GetDriverByName("MEM").Create("", columns, rows, len(layers), gdal.GDT_Byte)
    for number, layer in enumerate(layers, start=1):
        memory.GetRasterBand(number).WriteArray(layer)
    memory.GetRasterBand(len(layers)).SetColorInterpretation(gdal.GCI_AlphaBand)
    gdal.GetDriverByName("PNG").CreateCopy(str(path), memory).Close()


def _read(path: Path) -> npt.NDArray[np.float32]:
    """A composite with square pixels on the ground, thinned to at most :data:`_SIDE` pixels a side."""
    dataset = gdal.Open(str(path))
    _, dx, _, top, _, dy = dataset.GetGeoTransform()
    latitude = top + dy * dataset.RasterYSize / 2
    width = dataset.RasterXSize * np.cos(np.radians(latitude)) * dx / -dy
    factor = max(width / _SIDE, dataset.RasterYSize / _SIDE, 1.0)
    pixels: npt.NDArray[np.float32] = dataset.ReadAsArray(
        buf_xsize=max(round(width / factor), 1), buf_ysize=max(round(dataset.RasterYSize / factor), 1)
    )
    return pixels
