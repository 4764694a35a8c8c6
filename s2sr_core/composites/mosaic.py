"""Mosaics: rasters of one lattice side by side in a VRT, without resampling."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from s2sr_core.composites.cog import remove_raster
from s2sr_core.composites.composite_index import rows_in
from s2sr_core.files import written_atomically
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Lattice, Window
from s2sr_core.parameters import RunParameters
from s2sr_core.pixels import vrt
from s2sr_core.pixels.rules import COMPOSITE_NODATA
from s2sr_core.pixels.statistics import COUNT
from s2sr_core.workspace import Workspace

#: How far an edge may lie from the lattice, pixels: the sum of two roundings of a coordinate.
_TOLERANCE = 1e-4


def mosaic_path(workspace: Workspace, band: str, kind: str = "median") -> Path:
    """``composites/mosaic_<band>_<kind>.vrt``."""
    return workspace.composites / f"mosaic_{band}_{kind}.vrt"


def mosaic_cells(workspace: Workspace, parameters: RunParameters) -> list[Path]:
    """Mosaic the composites that the folder's index names, one VRT for each band; returns those written."""
    there = [row for row in rows_in(workspace) if row["path"]]
    made = []
    for band in parameters.bands:
        cells = [row["cell_id"] for row in there if row["band"] == band]
        medians = [workspace.composite(cell_id, band) for cell_id in cells]
        counts = [path for cell_id in cells if (path := workspace.count(cell_id, band)).exists()]
        for kind, rasters in (("median", medians), ("count", counts)):
            target = mosaic_path(workspace, band, kind)
            remove_raster(target)
            if rasters:
                made.append(mosaic(target, rasters, parameters.lattice))
    return made


def mosaic_folders(target: Workspace, folders: Sequence[Workspace], parameters: RunParameters) -> list[Path]:
    """Mosaic the mosaics of ``folders``, so that no VRT names more rasters than a reader can handle."""
    made = []
    for folder in folders:
        mosaic_cells(folder, parameters)
    for band in parameters.bands:
        for kind in ("median", "count"):
            rasters = [path for folder in folders if (path := mosaic_path(folder, band, kind)).exists()]
            remove_raster(mosaic_path(target, band, kind))
            if rasters:
                made.append(mosaic(mosaic_path(target, band, kind), rasters, parameters.lattice))
    return made


def mosaic(target: Path, rasters: Sequence[Path], lattice: Lattice) -> Path:
    """One VRT of single-band rasters that lie on ``lattice``: Float32 medians or UInt16 counts, as they are.

    Paths in it are relative to it. Where two rasters overlap, a value comes before nodata.

    Raises
    ------
    ValueError
        If a raster does not lie on the lattice.
    """
    sources = []
    for raster in rasters:
        with gdal.Open(str(raster)) as dataset:
            window = _window(dataset, lattice, raster)
            data_type = gdal.GetDataTypeName(dataset.GetRasterBand(1).DataType)
        sources.append((Path(os.path.relpath(raster, target.parent)), window))
    windows = [window for _, window in sources]
    whole = Window(
        min(window.x0 for window in windows),
        min(window.y0 for window in windows),
        max(window.x1 for window in windows),
        max(window.y1 for window in windows),
    )
    nodata = COUNT.nodata if data_type == "UInt16" else COMPOSITE_NODATA
    with written_atomically(target) as temporary:
        vrt.mosaic(temporary, sources=sources, lattice=lattice, window=whole, data_type=data_type, nodata=nodata)
    return target


def _window(dataset: gdal.Dataset, lattice: Lattice, path: Path) -> Window:
    """The window of ``lattice`` that a raster holds."""
    left, dx, _, top, _, dy = dataset.GetGeoTransform()
    column, row = (left - lattice.x_anchor) / lattice.dx, (lattice.y_anchor - top) / lattice.dy
    width, height = dataset.RasterXSize, dataset.RasterYSize
    off = max(
        abs(column - round(column)),
        abs(row - round(row)),
        abs(dx / lattice.dx - 1) * width,
        abs(-dy / lattice.dy - 1) * height,
    )
    if off > _TOLERANCE:
        raise ValueError(f"{path} does not lie on the lattice of {lattice.dx:g} × {lattice.dy:g} degrees")
    return Window(round(column), round(row), round(column) + width, round(row) + height)
