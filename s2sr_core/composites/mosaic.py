"""Mosaics: rasters of one lattice side by side in a VRT, without resampling."""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from s2sr_core.composites.cog import remove_raster
from s2sr_core.composites.composite_index import rows_in
from s2sr_core.files import written_atomically
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.geometry import is_in
from s2sr_core.geo.lattice import Lattice, Window
from s2sr_core.parameters import RunParameters
from s2sr_core.pixels import vrt
from s2sr_core.pixels.rules import COMPOSITE_NODATA
from s2sr_core.pixels.statistics import COUNT
from s2sr_core.workspace import Workspace

#: How far an edge may lie from the lattice, pixels: the sum of two roundings of a coordinate.
_TOLERANCE = 1e-4


def mosaic_path(workspace: Workspace, band: str, kind: str = "median", period: str = "") -> Path:
    """``composites/mosaic_<band>_<kind>.vrt`` or, with the label of a period, ``mosaic_<period>_<band>_<kind>.vrt``."""
    return workspace.composites / f"{'_'.join(filter(None, ('mosaic', period, band, kind)))}.vrt"


def mosaic_cells(workspace: Workspace, parameters: RunParameters) -> list[Path]:
    """Mosaic the composites of the run's periods that the folder's index names.

    One VRT for each period, band and statistic or layer; returns those written.
    """
    cells: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows_in(workspace):
        if row["path"]:
            cells[row["period"], row["band"]].append(row["cell_id"])
    made = []
    for label, band in _labels_and_bands(parameters):
        here = cells[label, band]
        for kind in _kinds(parameters):
            paths = (workspace.composite(cell_id, band, kind, label) for cell_id in here)
            rasters = [path for path in paths if path.exists()]
            target = mosaic_path(workspace, band, kind, label)
            remove_raster(target)
            if rasters:
                made.append(mosaic(target, rasters, parameters.lattice))
    return made


def mosaic_folders(target: Workspace, folders: Sequence[Workspace], parameters: RunParameters) -> list[Path]:
    """Mosaic the mosaics of ``folders``, so that no VRT names more rasters than a reader can handle."""
    made = []
    for folder in folders:
        mosaic_cells(folder, parameters)
    for label, band in _labels_and_bands(parameters):
        for kind in _kinds(parameters):
            rasters = [path for folder in folders if (path := mosaic_path(folder, band, kind, label)).exists()]
            whole = mosaic_path(target, band, kind, label)
            remove_raster(whole)
            if rasters:
                made.append(mosaic(whole, rasters, parameters.lattice))
    return made


def _kinds(parameters: RunParameters) -> Iterable[str]:
    """Names of what the run computes, and of the counts that an earlier one may have left."""
    return dict.fromkeys([*parameters.statistic_names, COUNT.name])


def _labels_and_bands(parameters: RunParameters) -> Iterator[tuple[str, str]]:
    return itertools.product([period.label for period in parameters.periods], parameters.bands)


def mosaic(target: Path, rasters: Sequence[Path], lattice: Lattice) -> Path:
    """One VRT of single-band rasters that lie on ``lattice``: Float32 statistics or UInt16 counts, as they are.

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
    if off > _TOLERANCE or not is_in(dataset.GetProjection(), lattice.crs):
        raise ValueError(f"{path} does not lie on the lattice of {lattice.size}")
    return Window(round(column), round(row), round(column) + width, round(row) + height)
