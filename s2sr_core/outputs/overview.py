"""Small pictures of all of a run: composites in true colour, numbers of valid values, states of blocks."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.outputs.quicklook import TRUE_COLOUR, read_thinned, stretched, write_png
from s2sr_core.pixels.rules import COMPOSITE_NODATA
from s2sr_core.pixels.statistics import COUNT

#: Longest side of a picture, pixels.
_SIDE = 640
_JPEG_QUALITY = 80
#: Colours from the fewest to the most values: black, violet, orange, light yellow (dark to light for every eye).
_RAMP = np.array([(0, 0, 4), (114, 31, 129), (241, 96, 93), (252, 253, 191)], float)


def true_colour(rasters: Mapping[str, Sequence[Path]]) -> bytes | None:
    """A JPEG of composites, by band, white where there is no value; None if there are no composites.

    True colour if B04, B03 and B02 are there, else the first band in grey.
    """
    there = {band: paths for band, paths in rasters.items() if paths}
    if not there:
        return None
    shown = TRUE_COLOUR if set(TRUE_COLOUR) <= set(there) else tuple(there)[:1]
    if len({len(there[band]) for band in shown}) > 1:  # a band is missing in some cells
        shown = (max(shown, key=lambda band: len(there[band])),)
    pixels = np.stack([_read_mosaic(there[band]) for band in shown])
    valid = (pixels != COMPOSITE_NODATA).all(axis=0)
    picture = stretched(pixels, valid)[:-1]
    return _jpeg(np.where(valid, picture, np.uint8(255)))


def valid_counts(rasters: Sequence[Path]) -> tuple[bytes, int] | None:
    """A PNG of how many values are behind each pixel, and the most of them; None without counts.

    Transparent outside the cells; from black (none) over violet and orange to light yellow (the most).
    """
    if not rasters:
        return None
    counts = _read_mosaic(rasters)
    inside = counts != COUNT.nodata
    most = int(counts[inside].max(initial=0))
    shares = np.where(inside, counts, 0) / max(most, 1)
    places = np.linspace(0.0, 1.0, len(_RAMP))
    colours = [np.interp(shares, places, channel).round() for channel in _RAMP.T]
    return _png(np.stack([*colours, inside * 255.0]).astype(np.uint8)), most


def states_map(boxes: Sequence[tuple[tuple[float, float, float, float], tuple[int, int, int]]]) -> bytes:
    """A PNG of rectangles (xmin, ymin, xmax, ymax in degrees) in their colours (red, green, blue), north up."""
    bounds = np.array([box for box, _ in boxes])
    xmin, ymin, xmax, ymax = (*bounds[:, :2].min(axis=0), *bounds[:, 2:].max(axis=0))
    width = (xmax - xmin) * np.cos(np.radians((ymin + ymax) / 2))
    scale = _SIDE / max(width, ymax - ymin)
    columns, rows = (max(round(side * scale), 1) for side in (width, ymax - ymin))
    layers = np.zeros((4, rows, columns), np.uint8)
    for (west, south, east, north), colour in boxes:
        x0, x1 = (int((x - xmin) / (xmax - xmin) * columns) for x in (west, east))
        y0, y1 = (int((ymax - y) / (ymax - ymin) * rows) for y in (north, south))
        # One pixel is left between neighbours if there is room for it.
        part = (slice(y0, max(y1 - 1, y0 + 1)), slice(x0, max(x1 - 1, x0 + 1)))
        for layer, value in zip(layers, (*colour, 255), strict=True):
            layer[part] = value
    return _png(layers)


def _read_mosaic(paths: Sequence[Path]) -> npt.NDArray[Any]:
    rasters = [str(path) for path in paths if gdal.IdentifyDriverEx(str(path), allowed_drivers=["GTiff"])]
    with gdal.BuildVRT("", rasters) as mosaic:
        return read_thinned(mosaic, _SIDE)


def _png(layers: npt.NDArray[np.uint8]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        write_png(layers, path)
        return path.read_bytes()


def _jpeg(layers: npt.NDArray[np.uint8]) -> bytes:
    count, rows, columns = layers.shape
    memory = gdal.GetDriverByName("MEM").Create("", columns, rows, count, gdal.GDT_Byte)
    memory.WriteArray(layers if count > 1 else layers[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.jpg"
        gdal.GetDriverByName("JPEG").CreateCopy(str(path), memory, options=[f"QUALITY={_JPEG_QUALITY}"]).Close()
        return path.read_bytes()
