"""Mosaics: rasters of one lattice side by side in a VRT, without resampling."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from s2sr_core.composites.cog import remove_raster
from s2sr_core.composites.composite_index import rows_in
from s2sr_core.composites.composite_names import rasters_beside
from s2sr_core.files import written_atomically
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.geometry import is_in
from s2sr_core.geo.lattice import Lattice, Window
from s2sr_core.parameters import RunParameters
from s2sr_core.pixels import vrt
from s2sr_core.pixels.statistics import DN_UNIT
from s2sr_core.products.bands import TRUE_COLOUR
from s2sr_core.workspace import Workspace

logger = logging.getLogger(__name__)

#: How far an edge may lie from the lattice, pixels: the sum of two roundings of a coordinate.
_TOLERANCE = 1e-4
#: What stands for the band in the name of a mosaic in true colour.
_COLOURED = "true_colour"


def mosaic_path(workspace: Workspace, band: str, kind: str = "median", period: str = "") -> Path:
    """``composites/mosaic_[<period>_]<band>_<kind>.vrt``."""
    return workspace.composites / "_".join(filter(None, ("mosaic", period, band, f"{kind}.vrt")))


def mosaic_cells(workspace: Workspace, parameters: RunParameters) -> list[Path]:
    """Mosaic the composites that the folder's index names; returns the VRTs written.

    There is one per band, period and statistic, and one in true colour if the bands are there. Other mosaics that the
    folder holds are of composites that are gone or lie on another lattice, and are removed. Without a common lattice
    there is none.
    """
    made = list(_mosaics(workspace, parameters)) if parameters.tap else []
    _remove_others(workspace, made)
    return made


def _remove_others(workspace: Workspace, made: Sequence[Path]) -> None:
    for path in workspace.composites.glob("mosaic_*.vrt"):
        if path not in made:
            remove_raster(path)


def _mosaics(workspace: Workspace, parameters: RunParameters) -> Iterator[Path]:
    rasters: dict[tuple[str, str, str], list[Path]] = {}
    for row in rows_in(workspace):
        if row["path"]:
            for path, name in rasters_beside(workspace.composites / row["path"]).items():
                rasters.setdefault((name.period, name.statistic, name.band), []).append(path)
    written: set[Path] = set()
    for (period, kind, band), paths in sorted(rasters.items()):
        target = mosaic_path(workspace, band, kind, period)
        try:
            yield mosaic(target, paths, parameters.lattice)
        except (RuntimeError, ValueError) as error:  # a file that somebody changed
            logger.warning("no mosaic of %s %s: %s", band, kind, error)
            continue
        written.add(target)
        bands = [mosaic_path(workspace, other, kind, period) for other in TRUE_COLOUR]
        if band == TRUE_COLOUR[0] and written.issuperset(bands):  # the others come before it
            with gdal.Open(str(bands[0])) as red:
                is_reflectance = red.GetRasterBand(1).GetUnitType() == DN_UNIT
            if is_reflectance:
                yield true_colour(mosaic_path(workspace, _COLOURED, kind, period), bands)


def true_colour(target: Path, bands: Sequence[Path]) -> Path:
    """One VRT of three mosaics in the folder of ``target``: red, green and blue."""
    options = gdal.BuildVRTOptions(separate=True, resolution="highest")
    remove_raster(target)
    with written_atomically(target) as temporary:
        dataset = gdal.BuildVRT(str(temporary), [str(path) for path in bands], options=options)
        for number, colour in enumerate((gdal.GCI_RedBand, gdal.GCI_GreenBand, gdal.GCI_BlueBand), start=1):
            dataset.GetRasterBand(number).SetColorInterpretation(colour)
            dataset.GetRasterBand(number).SetDescription(TRUE_COLOUR[number - 1])
        dataset.Close()
    return target


def mosaic_folders(target: Workspace, folders: Sequence[Workspace], parameters: RunParameters) -> list[Path]:
    """Mosaic the mosaics of ``folders``, so that no VRT names more rasters than a reader can handle."""
    named: dict[str, list[Path]] = {}
    for folder in folders:
        for path in mosaic_cells(folder, parameters):
            named.setdefault(path.name, []).append(path)
    made = [
        mosaic(target.composites / name, paths, parameters.lattice)
        for name, paths in sorted(named.items())
        if _COLOURED not in name
    ]
    for name in sorted(name for name in named if _COLOURED in name):
        bands = [target.composites / name.replace(_COLOURED, band) for band in TRUE_COLOUR]
        made.append(true_colour(target.composites / name, bands))
    _remove_others(target, made)
    return made


def mosaic(target: Path, rasters: Sequence[Path], lattice: Lattice) -> Path:
    """One VRT of single-band rasters of one kind that lie on ``lattice``, as they are.

    Paths in it are relative to it. Where two rasters overlap, a value comes before nodata.

    Raises
    ------
    ValueError
        If a raster does not lie on the lattice.
    """
    sources = []
    for raster in rasters:
        with gdal.Open(str(raster)) as dataset:
            window = window_on(lattice, dataset, raster)
            band = dataset.GetRasterBand(1)
            data_type, nodata = gdal.GetDataTypeName(band.DataType), band.GetNoDataValue()
            described = {"description": band.GetDescription(), "unit": band.GetUnitType()}
        sources.append((Path(os.path.relpath(raster, target.parent)), window))
    whole = Window.around([window for _, window in sources])
    remove_raster(target)
    with written_atomically(target) as temporary:
        vrt.mosaic(
            temporary,
            sources=sources,
            lattice=lattice,
            window=whole,
            data_type=data_type,
            nodata=nodata,
            **described,
        )
    return target


def window_on(lattice: Lattice, dataset: gdal.Dataset, path: Path) -> Window:
    """The window of ``lattice`` that a raster fills.

    Raises
    ------
    ValueError
        If it does not lie on the lattice; ``path`` names it.
    """
    left, dx, _, top, _, dy = dataset.GetGeoTransform()
    column, row = (left - lattice.x_anchor) / lattice.dx, (lattice.y_anchor - top) / lattice.dy
    width, height = dataset.RasterXSize, dataset.RasterYSize
    off = max(
        abs(column - round(column)),
        abs(row - round(row)),
        abs(dx / lattice.dx - 1) * width,
        abs(-dy / lattice.dy - 1) * height,
    )
    if off > _TOLERANCE or not is_in(dataset.GetProjection(), lattice.crs):
        raise ValueError(f"{path} does not lie on the lattice of {lattice.size}")
    return Window(round(column), round(row), round(column) + width, round(row) + height)
