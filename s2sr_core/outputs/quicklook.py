"""Pictures of composites."""

from __future__ import annotations

import errno
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from s2sr_core.composites.cog import open_raster
from s2sr_core.files import write_text, written_atomically
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.geometry import is_in
from s2sr_core.geo.lattice import WGS84
from s2sr_core.pixels.rules import COMPOSITE_NODATA, SCENE_NODATA, harmonised
from s2sr_core.products.bands import SCL, TRUE_COLOUR
from s2sr_core.products.safe import Product, band_files
from s2sr_core.workspace import Workspace

#: Longest side of a picture, pixels.
_SIDE = 1024
#: Percentiles of the valid pixels that become black and white.
_STRETCH = (2.0, 98.0)
_GAMMA = 0.8
#: Between two pictures, pixels.
_GAP = 8


def draw_cell(
    workspace: Workspace, cell_id: str, bands: Sequence[str], period: str = "", statistic: str = "median"
) -> Path | None:
    """Draw the composites of a cell in a period (its label) as :meth:`Workspace.quicklook`; None if there are none.

    True colour if B04, B03 and B02 are there, else the first band in grey; transparent where nothing is valid. A world
    file and an ``.aux.xml`` next to it say where it lies.
    """
    rasters = {band: workspace.composite(cell_id, band, statistic, period) for band in bands}
    available = [band for band, path in rasters.items() if path.exists()]
    if not available:
        return None
    shown = TRUE_COLOUR if set(TRUE_COLOUR) <= set(available) else (available[0],)
    pixels = np.stack([read_thinned(open_raster(rasters[band])) for band in shown])
    target = workspace.quicklook(cell_id, period)
    with written_atomically(target) as temporary:
        write_png(stretched(pixels, (pixels != COMPOSITE_NODATA).all(axis=0)), temporary)
    _write_place(target, open_raster(rasters[shown[0]]), (pixels.shape[1], pixels.shape[2]))
    return target


def thumbnail(paths: Sequence[Path], side: int) -> bytes:
    """A PNG of one composite (grey) or three (red, green, blue), with at most ``side`` pixels on a side."""
    from matplotlib.image import imsave  # a third of a second, and few processes draw

    pixels = np.stack([read_thinned(open_raster(path), side) for path in paths])
    colours = stretched(pixels, (pixels != COMPOSITE_NODATA).all(axis=0))
    written = io.BytesIO()
    imsave(written, np.moveaxis(colours[[0, 0, 0, 1] if len(paths) == 1 else [0, 1, 2, 3]], 0, -1), format="png")
    return written.getvalue()


def _write_place(picture: Path, raster: gdal.Dataset, shape: tuple[int, int]) -> None:
    """Say where a picture of all of ``raster`` lies: a world file, and GDAL's .aux.xml with the CRS."""
    left, dx, _, top, _, dy = raster.GetGeoTransform()
    rows, columns = shape
    width, height = raster.RasterXSize * dx / columns, raster.RasterYSize * dy / rows
    # Sizes of a pixel and rotations, then the centre of the upper left pixel.
    numbers = (width, 0.0, 0.0, height, left + width / 2, top + height / 2)
    write_text(picture.with_suffix(".pgw"), "".join(f"{number!r}\n" for number in numbers))
    mapping = ",".join(map(str, raster.GetSpatialRef().GetDataAxisToSRSAxisMapping()))
    crs = f'<SRS dataAxisToSRSAxisMapping="{mapping}">{escape(raster.GetProjection())}</SRS>'
    write_text(picture.with_name(f"{picture.name}.aux.xml"), f"<PAMDataset>{crs}</PAMDataset>\n")


def draw_date_and_composite(workspace: Workspace, cell_id: str, product: Product, target: Path) -> None:
    """Draw one date, clouds and all, to the left of the true-colour composite of a cell.

    Both are stretched by the composite, so that equal reflectance has the same colour; clouds become white.
    """
    like = workspace.composite(cell_id, TRUE_COLOUR[0])
    composite = np.stack([read_thinned(open_raster(workspace.composite(cell_id, band))) for band in TRUE_COLOUR])
    files = band_files(product, (SCL, *TRUE_COLOUR))
    numbers = {band: read_thinned(_warped_like(files[band].path, like)).astype(np.uint16) for band in TRUE_COLOUR}
    nowhere = np.zeros(composite.shape[1:], bool)
    date = np.stack([harmonised(dn, nowhere, product.offset(band).dn) for band, dn in numbers.items()])
    valid = (composite != COMPOSITE_NODATA).all(axis=0)
    limits = stretch_of(composite, valid)
    halves = stretched(date, (date != SCENE_NODATA).all(axis=0), limits), stretched(composite, valid, limits)
    gap = np.zeros((4, halves[0].shape[1], _GAP), np.uint8)
    with written_atomically(target) as temporary:
        write_png(np.concatenate([halves[0], gap, halves[1]], axis=2), temporary)


def stretch_of(pixels: npt.NDArray[np.number[Any]], valid: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """The values that become black and white: percentiles of the valid pixels of all bands together."""
    low, high = np.percentile(pixels[:, valid], _STRETCH) if valid.any() else (0.0, 1.0)
    return float(low), float(high)


def stretched(
    pixels: npt.NDArray[np.number[Any]], valid: npt.NDArray[np.bool_], limits: tuple[float, float] | None = None
) -> npt.NDArray[np.uint8]:
    """One (grey) or three (red, green, blue) bands with transparency, all stretched between the same ``limits``.

    ``pixels`` is bands × rows × columns in any unit, ``valid`` rows × columns; the result has one band more. Without
    ``limits``, those of :func:`stretch_of`.
    """
    low, high = limits or stretch_of(pixels, valid)
    scaled = np.clip((pixels - low) / max(high - low, 1.0), 0.0, 1.0) ** _GAMMA
    return np.concatenate([(scaled * 255).round(), valid[None] * 255.0]).astype(np.uint8)


def write_png(layers: npt.NDArray[np.uint8], path: Path) -> None:
    """Write bands × rows × columns, the last of them transparency."""
    count, rows, columns = layers.shape
    memory = gdal.GetDriverByName("MEM").Create("", columns, rows, count, gdal.GDT_Byte)
    for number, layer in enumerate(layers, start=1):
        memory.GetRasterBand(number).WriteArray(layer)
    memory.GetRasterBand(count).SetColorInterpretation(gdal.GCI_AlphaBand)
    gdal.GetDriverByName("PNG").CreateCopy(str(path), memory).Close()
    with gdal.OpenEx(str(path), allowed_drivers=["PNG"]) as written:  # on a full disk it is just too short
        if not np.array_equal(written.ReadAsArray(), layers):
            raise OSError(errno.EIO, "what was written does not read back the same", str(path))


def _warped_like(path: Path, like: Path) -> gdal.Dataset:
    """An image on the grid of a composite."""
    raster = open_raster(like)
    left, dx, _, top, _, dy = raster.GetGeoTransform()
    bounds = (left, top + dy * raster.RasterYSize, left + dx * raster.RasterXSize, top)
    size = {"width": raster.RasterXSize, "height": raster.RasterYSize}
    crs = raster.GetProjection()
    return gdal.Warp("", str(path), format="MEM", dstSRS=crs, outputBounds=bounds, srcNodata=0, **size)


def read_thinned(dataset: gdal.Dataset, side: int = _SIDE) -> npt.NDArray[np.float32]:
    """A raster with square pixels on the ground or of its projection, thinned to at most ``side`` pixels a side."""
    _, dx, _, top, _, dy = dataset.GetGeoTransform()
    width = dataset.RasterXSize * dx / -dy
    if is_in(dataset.GetProjection(), WGS84):
        width *= np.cos(np.radians(top + dy * dataset.RasterYSize / 2))
    factor = max(width / side, dataset.RasterYSize / side, 1.0)
    pixels: npt.NDArray[np.float32] = dataset.ReadAsArray(
        buf_xsize=max(round(width / factor), 1), buf_ysize=max(round(dataset.RasterYSize / factor), 1)
    )
    return pixels
