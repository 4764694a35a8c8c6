"""The fast engine: the same pixels as the reference engine, from decoded bands, in one compiled step.

A cell and band is one VRT without sources. Its pixel function (``composite``) warps the decoded bands of all scenes and
takes their median for the window that is asked for. Median and count are compiled; any other statistic gets the stack
of the warped scenes. The JPEG 2000 images are decoded once for all cells, and only where pixels count.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from s2sr_core.engines import kernels, reference
from s2sr_core.engines.coordinates import FloatArray, Warp, extent, source_coordinates
from s2sr_core.engines.decoded import DecodedReader, UInt16Array, decode_all, decoded_band
from s2sr_core.engines.stack import CellStack, Layer, PixelWindow, four_samples_do
from s2sr_core.engines.undecodable import check_decoded
from s2sr_core.files import write_text
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Lattice, Window
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.pixels import vrt
from s2sr_core.pixels.rules import SCENE_NODATA
from s2sr_core.pixels.statistics import COUNT, MEDIAN, Statistic, statistic_of
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.occupancy import Occupancy
from s2sr_core.scenes.scene import Scene

logger = logging.getLogger(__name__)

#: Rows of a read, and bytes that the pixels and values of one may hold.
_ROWS = 128
_MEMORY = 192 * 1024**2
#: Pixels around what a window touches on a scene: one that bilinear takes; the others for what an extent, which follows
#: the window's edges at 33 points, may miss.
_MARGIN = 4


def read_windows(stack: CellStack, statistics: Sequence[Statistic]) -> Iterator[PixelWindow]:
    """Like the reference engine, which is used for what this one cannot do: cubic kernels and coarse lattices."""
    if not all(_is_supported(layer, stack.resampling) for layer in stack.layers):
        _say_reference(stack.resampling)
        yield from reference.read_windows(stack, statistics)
        return
    layers = [layer for layer in stack.layers if _holds_something(layer, stack)]
    decode_all([layer.decoded for layer in layers if layer.decoded])
    check_decoded(stack, layers)
    description = stack.folder / f"{stack.name}_layers.json"
    write_text(description, json.dumps(_description(stack, layers, statistics)))
    path = vrt.composite(
        stack.folder / f"{stack.name}_composite.vrt",
        layers=description,
        lattice=stack.lattice,
        window=stack.window,
        statistics=statistics,
    )
    dataset = gdal.Open(str(path))
    columns = max(_MEMORY // (4 * _ROWS * max(len(layers), 1)), 256)
    for part in stack.window.tiles(_ROWS, columns):
        at = (*part.offset_in(stack.window), part.width, part.height)
        bands = [dataset.GetRasterBand(number) for number in range(1, dataset.RasterCount + 1)]
        yield PixelWindow(part, tuple(band.ReadAsArray(*at) for band in bands))


def decode_ahead(context: RunContext, scene: Scene) -> None:
    """Decode the bands of ``scene`` before a cell asks for them, for scenes that some cell will surely need.

    An image that cannot be decoded is left out of its cells, which report it.
    """
    bands = [found for band in scene.bands if (found := decoded_band(scene, band, context.workspace)) is not None]
    if scene.is_not_needed or not four_samples_do(context.parameters.resampling, scene.scale):
        return
    for band in bands:
        try:
            decode_all([band])
        except OSError as error:
            logger.warning("%s", error)


def _is_supported(layer: Layer, resampling: str) -> bool:
    return layer.decoded is not None and four_samples_do(resampling, layer.scale)


@functools.cache
def _say_reference(resampling: str) -> None:
    logger.info("%s at this pixel size is computed by the reference engine", resampling)


def _holds_something(layer: Layer, stack: CellStack) -> bool:
    """Whether a part of the scene is near the stack's window."""
    if layer.decoded is None:
        return False
    around = extent(stack.warp(layer), layer.piece.window & stack.window, _MARGIN)
    return any(part & around for part in _parts(layer.decoded.occupancy))


def _description(stack: CellStack, layers: Sequence[Layer], statistics: Sequence[Statistic]) -> dict[str, Any]:
    """All that the pixel function needs, as plain JSON."""
    bands: dict[Warp, list[tuple[str, str]]] = {}
    for layer in layers:
        if (decoded := layer.decoded) is not None:
            bands.setdefault(stack.warp(layer), []).append((str(decoded.path), str(decoded.occupancy)))
    return {
        "resampling": stack.resampling,
        "statistics": [statistic.name for statistic in statistics],
        "window": asdict(stack.window),
        "warps": [{**asdict(warp), "bands": of_warp} for warp, of_warp in bands.items()],
    }


# ------------------------------------------------------------------------------------------- behind the pixel function


Values = Mapping[str, npt.NDArray[Any]]
"""Pixels of a window, rows × columns, by the name of a statistic."""


def values_in(description: Path, window: Window) -> Values:
    """All statistics in a window (counted from the composite's upper left pixel) of what ``description`` describes."""
    return _opened(description, _stamp(description)).values_in(window)


@functools.lru_cache(maxsize=1)
def _opened(description: Path, _stamp: tuple[int, int]) -> _Layers:
    return _Layers(json.loads(description.read_text(encoding="utf-8")))


def _parts(occupancy: Path) -> tuple[Window, ...]:
    return _read_parts(occupancy, _stamp(occupancy))


@functools.lru_cache(maxsize=1024)
def _read_parts(occupancy: Path, _stamp: tuple[int, int]) -> tuple[Window, ...]:
    return Occupancy.read_parts(occupancy)


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when another file takes the place of this one."""
    status = path.stat()
    return status.st_mtime_ns, status.st_ino


class _Layers:
    """The layers of a cell and band, opened."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._stack = Window(**description["window"])
        self._nearest = description["resampling"] == "nearest"
        self._statistics = [statistic_of(name) for name in description["statistics"]]
        self._warps = [
            (
                _warp_from(entry),
                [DecodedReader(Path(band), _parts(Path(occupancy))) for band, occupancy in entry["bands"]],
            )
            for entry in description["warps"]
        ]
        self._last: tuple[Window, Values] | None = None

    def values_in(self, window: Window) -> Values:
        """GDAL asks once for each statistic in a row; they are computed together."""
        if self._last is None or self._last[0] != window:
            self._last = (window, self._values_in(window))
        return self._last[1]

    def _values_in(self, within: Window) -> Values:
        x, y = self._stack.x0, self._stack.y0
        window = Window(within.x0 + x, within.y0 + y, within.x1 + x, within.y1 + y)
        found: list[tuple[int, UInt16Array]] = []
        grids: list[tuple[Warp, Window]] = []
        for warp, readers in self._warps:
            shared = window & warp.piece
            around = extent(warp, shared, _MARGIN) if shared else shared
            pixels = [some for reader in readers if around and (some := reader.read(around)) is not None]
            found += [(len(grids), some) for some in pixels]
            grids += [(warp, around)] if pixels else []
        coordinates = np.empty((2, len(grids), *window.shape))
        for index, (warp, _) in enumerate(grids):
            coordinates[:, index] = _coordinates(warp, window)
        starts = np.cumsum([0, *(pixels.size for _, pixels in found)])
        layers = (
            np.concatenate([pixels.ravel() for _, pixels in found] or [np.empty(0, np.uint16)]),
            np.array([(grid, start) for (grid, _), start in zip(found, starts, strict=False)], np.int64).reshape(-1, 2),
            np.array([(w.x0, w.y0, w.x1, w.y1) for _, w in grids], np.int64).reshape(-1, 4),
            np.array([warp.grid.shape for warp, _ in grids], np.int64).reshape(-1, 2),
            coordinates[0],
            coordinates[1],
            self._nearest,
        )
        values: dict[str, npt.NDArray[Any]]
        if {statistic.name for statistic in self._statistics} <= {MEDIAN.name, COUNT.name}:
            median, count = np.empty(window.shape, np.float32), np.empty(window.shape, np.uint16)
            went_well = kernels.composite(*layers, _network(len(found)), median, count)
            values = {MEDIAN.name: median, COUNT.name: count}
        else:
            stack = np.full((max(len(found), 1), *window.shape), SCENE_NODATA, np.uint16)
            went_well = kernels.warp(*layers, stack)
            values = {statistic.name: statistic.of_stack(stack) for statistic in self._statistics}
        if not went_well:
            raise AssertionError(f"a window of {window.shape} pixels reaches beyond its extents {grids}")
        return values


def _warp_from(entry: dict[str, Any]) -> Warp:
    grid = entry["grid"]
    return Warp(
        RasterGrid(grid["crs"], tuple(grid["geotransform"]), tuple(grid["shape"])),
        Lattice(**entry["lattice"]),
        Window(**entry["piece"]),
    )


def _coordinates(warp: Warp, window: Window) -> tuple[FloatArray, FloatArray]:
    """Coordinates of the pixels of ``window`` on the scene; NaN where the warped VRT does not reach."""
    shared = window & warp.piece
    if shared == window:
        return source_coordinates(warp, window)
    x, y = np.full(window.shape, np.nan), np.full(window.shape, np.nan)
    left, top = shared.offset_in(window)
    inner = (slice(top, top + shared.height), slice(left, left + shared.width))
    x[inner], y[inner] = source_coordinates(warp, shared)
    return x, y


_network = functools.cache(kernels.sorting_network)
