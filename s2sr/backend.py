"""The composites of a work folder as an xarray dataset: ``xarray.open_dataset(work_dir, engine="s2sr")``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyproj
from xarray import Dataset, Variable
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from s2sr_core import __version__
from s2sr_core.geo.lattice import Window
from s2sr_core.outputs.layers import Frame, Layer, Layers, open_layers
from s2sr_core.outputs.time_axis import time_axis
from s2sr_core.pixels.statistics import COUNT, DAY_OF_YEAR_UNIT, DN_UNIT, statistic_of
from s2sr_core.workspace import Workspace

#: Rows and columns of a chunk: 16 MB, and four blocks of a GeoTIFF a side.
_CHUNK = 2048
#: Attributes of variables, by what their values are.
_COUNT = {"standard_name": "number_of_observations", "units": "1"}
_DAY_OF_YEAR = {"units": "1", "comment": "day of year, 1 to 366"}
_REFLECTANCE = {
    "standard_name": "surface_bidirectional_reflectance",
    "units": "1e-4",
    "comment": "reflectance × 10000, harmonised across processing baseline 04.00",
}
_CELL_METHODS = {"median": "time: median", "mean": "time: mean"}


class CompositesBackend(BackendEntrypoint):
    """Opens the folder of a run, or a copy that holds ``composites/``; reads pixels when they are asked for."""

    description = "Open the composites of an S2SR work folder"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "cells", "bands")
    supports_groups = False

    def open_dataset(  # type: ignore[override]
        self,
        filename_or_obj: str | os.PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        cells: Sequence[str] | None = None,
        bands: Sequence[str] | None = None,
    ) -> Dataset:
        """Open the composites of these ``cells`` and ``bands``; of all by default.

        Raises
        ------
        InputError
            If there are none, or they do not lie on one lattice.
        """
        workspace = Workspace(Path(filename_or_obj).absolute())
        opened = open_layers(workspace, cells, bands)
        dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
        y, x = ("latitude", "longitude") if opened.frame.is_geographic else ("y", "x")
        variables = {
            name: _variable(layer, ("time", y, x)) for name, layer in opened.layers.items() if name not in dropped
        }
        coordinates = {**_time(workspace, opened), y: _axis(opened.frame, y), x: _axis(opened.frame, x)}
        coordinates["spatial_ref"] = _spatial_ref(opened.frame)
        dataset = Dataset(
            variables,
            coordinates,
            {
                "Conventions": "CF-1.11",
                "title": "Sentinel-2 composites",
                "source": f"s2sr {__version__}",
                "comment": "Contains modified Copernicus Sentinel data.",
            },
        )
        dataset.set_close(lambda: None)
        return dataset

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Never without being named: a folder may be many things."""
        return False


class _Pixels(BackendArray):
    """The pixels of a layer, read when they are indexed: period × row × column, Float32 with NaN."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self.shape, self.dtype = layer.shape, np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> Any:
        """What ``key`` selects: the least window around it is read."""
        spans = [
            range(size)[each] if isinstance(each, slice) else range(each, each + 1)
            for each, size in zip(key, self.shape, strict=True)
        ]
        periods, rows, columns = spans
        if not all(spans):
            pixels = np.empty([len(span) for span in spans], self.dtype)
        else:
            window = Window(min(columns), min(rows), max(columns) + 1, max(rows) + 1)
            read = np.stack([self._layer.read(period, window) for period in periods])
            pixels = read[:, [row - window.y0 for row in rows]][:, :, [column - window.x0 for column in columns]]
        return pixels[tuple(slice(None) if isinstance(each, slice) else 0 for each in key)]


def _variable(layer: Layer, dims: tuple[str, str, str]) -> Variable:
    name = "number of values" if layer.statistic == COUNT.name else layer.statistic
    attributes = {"long_name": f"{name} of {layer.band}", **_kind_of(layer), "grid_mapping": "spatial_ref"}
    if layer.statistic in _CELL_METHODS:
        attributes["cell_methods"] = _CELL_METHODS[layer.statistic]
    chunks = dict(zip(dims, (1, _CHUNK, _CHUNK), strict=True))
    sizes = {name: min(chunk, size) for (name, chunk), size in zip(chunks.items(), layer.shape, strict=True)}
    return Variable(dims, indexing.LazilyIndexedArray(_Pixels(layer)), attributes, {"preferred_chunks": sizes})


def _kind_of(layer: Layer) -> dict[str, str]:
    """What the values of a layer are; empty if this version does not know the statistic."""
    try:
        unit = statistic_of(layer.statistic).unit
    except KeyError:
        return {}
    kinds = {DN_UNIT: _REFLECTANCE, COUNT.unit: _COUNT, DAY_OF_YEAR_UNIT: _DAY_OF_YEAR}
    return kinds.get(unit, {"units": unit})


def _time(workspace: Workspace, opened: Layers) -> dict[str, Variable]:
    """When each period begins and, if there are periods, their labels."""
    begins = pd.DatetimeIndex(time_axis(workspace, opened.periods)).values.astype("datetime64[s]")
    time = {"time": Variable("time", begins, {"standard_name": "time", "long_name": "beginning of the period, UTC"})}
    if opened.periods == ("",):
        return time
    return {**time, "period": Variable("time", np.array(opened.periods), {"long_name": "label of the period"})}


def _axis(frame: Frame, name: str) -> Variable:
    attributes = {
        "latitude": {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"},
        "longitude": {"standard_name": "longitude", "units": "degrees_east", "axis": "X"},
        "y": {"standard_name": "projection_y_coordinate", "units": "m", "axis": "Y"},
        "x": {"standard_name": "projection_x_coordinate", "units": "m", "axis": "X"},
    }[name]
    return Variable(name, frame.y() if name in ("latitude", "y") else frame.x(), attributes)


def _spatial_ref(frame: Frame) -> Variable:
    """The coordinate system, as CF, GDAL and rioxarray each look for it."""
    crs = pyproj.CRS.from_wkt(frame.crs)
    transform = f"{frame.left!r} {frame.dx!r} 0.0 {frame.top!r} 0.0 {-frame.dy!r}"
    return Variable((), np.int32(0), {**crs.to_cf(), "spatial_ref": crs.to_wkt(), "GeoTransform": transform})
