"""The VRT graph: one function for each kind of VRT.

``masked`` (band + SCL, on the scene's own grid) → ``warped`` (on the lattice, in its CRS) → ``stack`` (all scenes of a
cell) → ``reduced`` (the median, or another statistic, of the stack). Each writes one VRT file and returns its path.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from osgeo import gdal_array

from s2sr_core.geo.gdal_runtime import PIXEL_FUNCTION_MODULE, gdal
from s2sr_core.geo.geometry import spatial_reference
from s2sr_core.geo.lattice import Geotransform, Lattice, Window
from s2sr_core.geo.memory_files import memory_folder
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.pixels.masks import Mask, to_arguments
from s2sr_core.pixels.observations import Acquisitions
from s2sr_core.pixels.rules import SCENE_NODATA
from s2sr_core.pixels.statistics import Statistic

#: What stands for the source of a warped VRT in the text that all of a tile share.
_SOURCE_NAME = "masked_source"


def masked(
    target: Path,
    *,
    band: Path,
    scl: Path,
    grid: RasterGrid,
    offset: int,
    mask: Mask,
    given: Path | None = None,
    scl_factor: int = 1,
) -> Path:
    """A band harmonised by ``offset`` (DN to add), nodata where DN or ``mask`` say so: UInt16, nodata 65535.

    ``grid`` is the scene's own, which the VRT has as well, and which ``mask`` is on; a pixel of ``scl`` covers
    ``scl_factor`` × ``scl_factor`` pixels of it. ``given`` is a raster on it as well, nodata where it is not 0.
    """
    arguments = {"offset": offset, **to_arguments(mask)}
    coarse = (grid.shape[0] // scl_factor, grid.shape[1] // scl_factor)
    sources = _source(band, 1, (0, 0), (0, 0), grid.shape)
    sources += _source(scl, 1, (0, 0), (0, 0), coarse, target_shape=grid.shape)
    sources += _source(given, 1, (0, 0), (0, 0), grid.shape) if given else ""
    derived = _derived_band("masked", "UInt16", "UInt16", SCENE_NODATA, sources, arguments, mask.reach)
    return _write(target, grid.shape, _srs_of(grid), grid.geotransform, derived)


def partial(target: Path, *, image: Path, windows: Sequence[Window], grid: RasterGrid) -> Path:
    """An image of which ``windows`` alone are there, on ``grid``: UInt16, and 0 (nodata) everywhere else."""
    sources = "".join(_source(image, 1, (part.x0, part.y0), (part.x0, part.y0), part.shape) for part in windows)
    band = f'<VRTRasterBand dataType="UInt16" band="1">{sources}</VRTRasterBand>'
    return _write(target, grid.shape, _srs_of(grid), grid.geotransform, band)


def warped(
    target: Path,
    *,
    source: Path,
    grid: RasterGrid,
    lattice: Lattice,
    window: Window,
    resampling: str,
    scale: tuple[float, float],
) -> Path:
    """One masked band, which is on ``grid``, warped onto ``window`` of ``lattice``: UInt16, nodata 65535.

    The error threshold is 0: with any other, GDAL interpolates coordinates along the lines of each chunk, and pixels
    depend on the window that was read. For the same reason ``scale`` (destination pixels per source pixel, x and y), by
    which the kernel widens where the lattice is coarser than the scene, is given and not left to each chunk.
    Overviews are not used: an overview of a masked VRT would average classes.
    """
    name = escape(os.path.relpath(source, target.parent))
    target.write_text(_warped(grid, lattice, window, resampling, scale).replace(_SOURCE_NAME, name), encoding="utf-8")
    return target


@functools.lru_cache(maxsize=1024)
def _warped(grid: RasterGrid, lattice: Lattice, window: Window, resampling: str, scale: tuple[float, float]) -> str:
    """What GDAL writes of the warp of :data:`_SOURCE_NAME`: all bands and dates of a tile differ by that name alone."""
    nodata = f"<NoDataValue>{SCENE_NODATA}</NoDataValue>"
    blank = f'<VRTRasterBand dataType="UInt16" band="1">{nodata}</VRTRasterBand>'
    xmin, _, _, ymax, _, _ = lattice.geotransform(window)
    options = gdal.WarpOptions(
        format="VRT",
        dstSRS=lattice.crs,
        outputBounds=(xmin, ymax - window.height * lattice.dy, xmin + window.width * lattice.dx, ymax),
        xRes=lattice.dx,
        yRes=lattice.dy,
        resampleAlg=resampling,
        errorThreshold=0.0,
        srcNodata=SCENE_NODATA,
        dstNodata=SCENE_NODATA,
        overviewLevel="NONE",
        warpOptions=[f"XSCALE={scale[0]!r}", f"YSCALE={scale[1]!r}"],
    )
    with memory_folder() as folder:
        source, target = f"{folder}/{_SOURCE_NAME}", f"{folder}/warped.vrt"
        gdal.FileFromMemBuffer(source, _document(grid.shape, _srs_of(grid), grid.geotransform, blank).encode())
        dataset = gdal.Warp(target, source, options=options)
        size = (dataset.RasterYSize, dataset.RasterXSize)
        dataset.Close()
        text = bytes(gdal.VSIGetMemFileBuffer_unsafe(target)).decode()
    if size != window.shape:
        raise AssertionError(f"warped to {size}, the lattice says {window.shape}")
    return text


def stack(target: Path, *, sources: Sequence[tuple[Path, Window] | None], lattice: Lattice, window: Window) -> Path:
    """The warped scenes of a cell, one band each, cropped to ``window``: UInt16, nodata 65535.

    ``sources`` are warped VRTs on ``lattice``, each with the window it holds; None is a scene without any pixel.
    """
    bands: list[str] = []
    for found in sources:
        source = ""
        if found is not None:
            path, held = found
            shared = held & window
            source = _source(path, 1, shared.offset_in(held), shared.offset_in(window), shared.shape)
        bands.append(
            f'<VRTRasterBand dataType="UInt16" band="{len(bands) + 1}"><NoDataValue>{SCENE_NODATA}</NoDataValue>'
            f"{source}</VRTRasterBand>"
        )
    return _write(target, window.shape, _srs(lattice.crs), lattice.geotransform(window), "".join(bands))


def reduced(
    target: Path,
    *,
    stacks: Sequence[Path],
    place: int,
    acquisitions: Acquisitions,
    lattice: Lattice,
    window: Window,
    statistic: Statistic,
) -> Path:
    """A statistic of stack VRTs, whose bands are scenes of ``acquisitions``, of the statistic's type.

    ``stacks`` are one or, for a joint statistic, those of all bands, and the result is that of band ``place``.
    """
    scenes = range(1, len(acquisitions.days) + 1)
    sources = "".join(_source(path, scene, (0, 0), (0, 0), window.shape) for path in stacks for scene in scenes)
    arguments = {
        "statistic": statistic.name,
        "min_count": statistic.min_count,
        "place": place,
        **acquisitions.arguments(),
    }
    band = _derived_band("statistic", _type_of(statistic), "UInt16", _nodata_of(statistic), sources, arguments)
    return _write(target, window.shape, _srs(lattice.crs), lattice.geotransform(window), band)


def composite(
    target: Path, *, layers: Path, lattice: Lattice, window: Window, places: int, statistics: Sequence[Statistic]
) -> Path:
    """The statistics of the fast engine's stacks, so many ``places``: a band for each stack and statistic, in order.

    The bands have no sources: the pixel function gets their pixels from what the file ``layers`` describes.
    """
    bands = []
    for number, (place, statistic) in enumerate(itertools.product(range(places), statistics), start=1):
        data_type, nodata = _type_of(statistic), _nodata_of(statistic)
        arguments = {"layers": layers, "place": place, "statistic": statistic.name}
        bands.append(_derived_band("composite", data_type, data_type, nodata, "", arguments, number=number))
    return _write(target, window.shape, _srs(lattice.crs), lattice.geotransform(window), "".join(bands))


def mosaic(
    target: Path,
    *,
    sources: Sequence[tuple[Path, Window]],
    lattice: Lattice,
    window: Window,
    data_type: str,
    nodata: float,
    description: str = "",
    unit: str = "",
) -> Path:
    """Rasters side by side, one band, nothing resampled; a source's nodata covers nothing.

    ``sources`` are rasters on ``lattice``, each with the window it holds; their paths are relative to ``target``.
    """
    placed = "".join(
        _source(path, 1, (0, 0), held.offset_in(window), held.shape, relative=True, nodata=nodata)
        for path, held in sources
    )
    band = (
        f'<VRTRasterBand dataType="{data_type}" band="1"><Description>{escape(description)}</Description>'
        f"<UnitType>{escape(unit)}</UnitType><NoDataValue>{nodata:g}</NoDataValue>{placed}</VRTRasterBand>"
    )
    return _write(target, window.shape, _srs(lattice.crs), lattice.geotransform(window), band)


@functools.cache
def _srs(crs: str) -> str:
    """The element of a CRS, with x before y."""
    mapping = ",".join(map(str, spatial_reference(crs).GetDataAxisToSRSAxisMapping()))
    return f'<SRS dataAxisToSRSAxisMapping="{mapping}">{crs}</SRS>'


def _srs_of(grid: RasterGrid) -> str:
    """The element of a scene's CRS, as its image has it."""
    return f"<SRS>{escape(grid.crs)}</SRS>"


def _type_of(statistic: Statistic) -> str:
    name: str = gdal.GetDataTypeName(gdal_array.NumericTypeCodeToGDALTypeCode(np.dtype(statistic.dtype)))
    return name


def _nodata_of(statistic: Statistic) -> float | None:
    """Of a VRT, which knows no polygon: only what says that no scene has a value."""
    return statistic.nodata if statistic.empty == statistic.nodata else None


def _derived_band(
    function: str,
    data_type: str,
    transfer_type: str,
    nodata: float | None,
    sources: str,
    arguments: Mapping[str, object],
    buffer_radius: int = 0,
    number: int = 1,
) -> str:
    parts = [
        f'<VRTRasterBand dataType="{data_type}" band="{number}" subClass="VRTDerivedRasterBand">',
        "" if nodata is None else f"<NoDataValue>{nodata:g}</NoDataValue>",
        f"<PixelFunctionType>{PIXEL_FUNCTION_MODULE}.{function}</PixelFunctionType>",
        "<PixelFunctionLanguage>Python</PixelFunctionLanguage>",
        f"<SourceTransferType>{transfer_type}</SourceTransferType>",
        f"<BufferRadius>{buffer_radius}</BufferRadius>" if buffer_radius else "",
        "<PixelFunctionArguments"
        + "".join(f" {key}={quoteattr(str(value))}" for key, value in arguments.items())
        + "/>",
        sources,
        "</VRTRasterBand>",
    ]
    return "".join(parts)


def _source(
    path: Path,
    band: int,
    source: tuple[int, int],
    target: tuple[int, int],
    shape: tuple[int, int],
    *,
    relative: bool = False,
    nodata: float | None = None,
    target_shape: tuple[int, int] | None = None,
) -> str:
    """A source; one that is enlarged, to ``target_shape``, repeats its pixels."""
    rows, columns = shape
    target_rows, target_columns = target_shape or shape
    kind = "SimpleSource" if nodata is None else "ComplexSource"
    return (
        f'<{kind}><SourceFilename relativeToVRT="{relative:d}">{escape(str(path))}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand>"
        f'<SrcRect xOff="{source[0]}" yOff="{source[1]}" xSize="{columns}" ySize="{rows}"/>'
        f'<DstRect xOff="{target[0]}" yOff="{target[1]}" xSize="{target_columns}" ySize="{target_rows}"/>'
        f"{'' if nodata is None else f'<NODATA>{nodata:g}</NODATA>'}</{kind}>"
    )


def _write(target: Path, shape: tuple[int, int], srs: str, geotransform: Geotransform, bands: str) -> Path:
    target.write_text(_document(shape, srs, geotransform, bands), encoding="utf-8")
    return target


def _document(shape: tuple[int, int], srs: str, geotransform: Geotransform, bands: str) -> str:
    rows, columns = shape
    numbers = ", ".join(map(repr, geotransform))
    return (
        f'<VRTDataset rasterXSize="{columns}" rasterYSize="{rows}">{srs}'
        f"<GeoTransform>{numbers}</GeoTransform>{bands}</VRTDataset>\n"
    )
