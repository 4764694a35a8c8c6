"""The fast engine: the same pixels as the reference engine, from decoded bands, in one compiled step.

A cell and band (all bands, for joint statistics) is one VRT without sources. Its pixel function (``composite``) warps
the decoded bands of all scenes and computes the statistics for the window that is asked for. Median and count are
compiled with the warp; if any other statistic is asked for, all get the values of the warped scenes. The JPEG 2000
images are decoded once for all cells, and only where pixels count.
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from s2sr_core.engines import kernels, reference
from s2sr_core.engines.coordinates import FloatArray, Warp, extent, source_coordinates
from s2sr_core.engines.decoded import DecodedReader, UInt16Array, decode_all, decoded_band
from s2sr_core.engines.stack import CellStack, Layer, PixelWindow, SceneOrder, four_samples_do
from s2sr_core.engines.undecodable import check_decoded
from s2sr_core.files import write_text
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Lattice, Window
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.pixels import vrt
from s2sr_core.pixels.observations import Acquisitions
from s2sr_core.pixels.rules import SCENE_NODATA
from s2sr_core.pixels.statistics import COUNT, MEDIAN, Statistic, compute_all, statistic_of
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


def read_windows(stacks: Sequence[CellStack], statistics: Sequence[Statistic]) -> Iterator[PixelWindow]:
    """Like the reference engine, which is used for what this one cannot do: cubic kernels and coarse lattices."""
    first = stacks[0]
    if not all(_is_supported(layer, stack.resampling) for stack in stacks for layer in stack.layers):
        _say_reference(first.resampling)
        yield from reference.read_windows(stacks, statistics)
        return
    layers = [[layer for layer in stack.layers if _holds_something(layer, stack)] for stack in stacks]
    for stack, some in zip(stacks, layers, strict=True):
        decode_all([layer.decoded for layer in some if layer.decoded])
        check_decoded(stack, some)
    stacks = [replace(stack, layers=tuple(some)) for stack, some in zip(stacks, layers, strict=True)]
    description = first.folder / f"{first.name}_layers.json"
    write_text(description, json.dumps(_description(stacks, statistics)))
    path = vrt.composite(
        first.folder / f"{first.name}_composite.vrt",
        layers=description,
        lattice=first.lattice,
        window=first.window,
        places=len(stacks),
        statistics=statistics,
    )
    dataset = gdal.Open(str(path))
    columns = max(_MEMORY // (4 * _ROWS * max(sum(map(len, layers)), 1)), 256)
    for part in first.window.tiles(_ROWS, columns):
        at = (*part.offset_in(first.window), part.width, part.height)
        bands = (dataset.GetRasterBand(number).ReadAsArray(*at) for number in range(1, dataset.RasterCount + 1))
        yield PixelWindow(part, tuple(itertools.batched(bands, len(statistics))))


def decode_ahead(context: RunContext, scene: Scene) -> None:
    """Decode the bands of ``scene`` before a cell asks for them, for scenes that some cell will surely need.

    An image that cannot be decoded is left out of its cells, which report it.
    """
    bands = [found for band in scene.bands if (found := decoded_band(scene, band)) is not None]
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


def _description(stacks: Sequence[CellStack], statistics: Sequence[Statistic]) -> dict[str, Any]:
    """All that the pixel function needs, as plain JSON."""
    order = SceneOrder.of(stacks)
    return {
        "resampling": stacks[0].resampling,
        "statistics": [(statistic.name, statistic.min_count) for statistic in statistics],
        "window": asdict(stacks[0].window),
        "acquisitions": asdict(order.acquisitions),
        "stacks": [_warps(stack, order) for stack in stacks],
    }


def _warps(stack: CellStack, order: SceneOrder) -> list[dict[str, Any]]:
    """The decoded bands of a stack by the warp they share, each with the place of its scene in ``order``."""
    bands: dict[Warp, list[tuple[str, str, int]]] = {}
    for layer in stack.layers:
        if (decoded := layer.decoded) is not None:
            place = order.products.index(layer.product)
            bands.setdefault(stack.warp(layer), []).append((str(decoded.path), str(decoded.occupancy), place))
    return [{**asdict(warp), "bands": of_warp} for warp, of_warp in bands.items()]


# ------------------------------------------------------------------------------------------- behind the pixel function


Values = Mapping[tuple[int, str], npt.NDArray[Any]]
"""Pixels of a window, rows × columns, by the place of a stack and the name of a statistic."""


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


@dataclass(frozen=True, slots=True)
class _Warped:
    """A warp, and the decoded bands that share it: each with the place of its scene in the order of scenes."""

    warp: Warp
    bands: Sequence[tuple[DecodedReader, int]]


@dataclass(frozen=True, slots=True)
class _Found:
    """What of a stack meets a window.

    Attributes
    ----------
    places: of the scenes that do, in the order of scenes.
    arguments: of the kernels, for these scenes.
    """

    places: Sequence[int]
    arguments: tuple[Any, ...]


class _Layers:
    """The layers of a cell's bands, opened."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._window = Window(**description["window"])
        self._nearest = description["resampling"] == "nearest"
        self._statistics = [statistic_of(name).requiring(least) for name, least in description["statistics"]]
        days, passes = (tuple(description["acquisitions"][name]) for name in ("days", "passes"))
        self._acquisitions = Acquisitions(days, passes)
        self._stacks = [
            [
                _Warped(
                    _warp_from(entry),
                    [(DecodedReader(Path(band), _parts(Path(parts))), place) for band, parts, place in entry["bands"]],
                )
                for entry in stack
            ]
            for stack in description["stacks"]
        ]
        self._last: tuple[Window, Values] | None = None

    def values_in(self, window: Window) -> Values:
        """GDAL asks once for each band and statistic in a row; they are computed together."""
        if self._last is None or self._last[0] != window:
            self._last = (window, self._values_in(window))
        return self._last[1]

    def _values_in(self, within: Window) -> Values:
        x, y = self._window.x0, self._window.y0
        window = Window(within.x0 + x, within.y0 + y, within.x1 + x, within.y1 + y)
        found = [self._found(stack, window) for stack in self._stacks]
        is_plain = len(set(self._acquisitions.passes)) == len(self._acquisitions.passes)
        if is_plain and {statistic.name for statistic in self._statistics} <= {MEDIAN.name, COUNT.name}:
            values = [self._medians_and_counts(stack, window) for stack in found]
        else:
            values = self._of_stacks(found, window)
        return {
            (place, statistic.name): pixels
            for place, of_stack in enumerate(values)
            for statistic, pixels in zip(self._statistics, of_stack, strict=True)
        }

    def _medians_and_counts(self, found: _Found, window: Window) -> tuple[npt.NDArray[Any], ...]:
        """Both in one step, without the values of the scenes in between."""
        median, count = np.empty(window.shape, np.float32), np.empty(window.shape, np.uint16)
        _check(kernels.composite(*found.arguments, kernels.network(len(found.places)), median, count), window)
        known: dict[str, npt.NDArray[Any]] = {MEDIAN.name: median, COUNT.name: count}
        return tuple(
            statistic.where_enough(known[statistic.name], count) if statistic.min_count > 1 else known[statistic.name]
            for statistic in self._statistics
        )

    def _of_stacks(self, found: Sequence[_Found], window: Window) -> list[tuple[npt.NDArray[Any], ...]]:
        """From the values of the scenes, warped once for all statistics."""
        scenes = sorted({place for stack in found for place in stack.places})
        if not scenes:
            return [tuple(statistic.filled(window.shape) for statistic in self._statistics) for _ in found]
        stacks = []
        for stack in found:
            values = np.full((len(scenes), *window.shape), SCENE_NODATA, np.uint16)
            places = np.array([scenes.index(place) for place in stack.places], np.int64)
            _check(kernels.warp(*stack.arguments, places, values), window)
            stacks.append(values)
        return compute_all(self._statistics, stacks, self._acquisitions.at(scenes), kernels.sort)

    def _found(self, stack: Sequence[_Warped], window: Window) -> _Found:
        found: list[tuple[int, int, UInt16Array]] = []
        grids: list[tuple[Warp, Window]] = []
        for warped in stack:
            shared = window & warped.warp.piece
            around = extent(warped.warp, shared, _MARGIN) if shared else shared
            read = [(place, reader.read(around)) for reader, place in warped.bands] if around else []
            pixels = [(len(grids), place, some) for place, some in read if some is not None]
            found += pixels
            grids += [(warped.warp, around)] if pixels else []
        coordinates = np.empty((2, len(grids), *window.shape))
        for index, (warp, _) in enumerate(grids):
            coordinates[:, index] = _coordinates(warp, window)
        starts = np.cumsum([0, *(pixels.size for *_, pixels in found)])
        arguments = (
            np.concatenate([pixels.ravel() for *_, pixels in found] or [np.empty(0, np.uint16)]),
            np.array([(grid, start) for (grid, *_), start in zip(found, starts, strict=False)], np.int64).reshape(
                -1, 2
            ),
            np.array([(w.x0, w.y0, w.x1, w.y1) for _, w in grids], np.int64).reshape(-1, 4),
            np.array([warp.grid.shape for warp, _ in grids], np.int64).reshape(-1, 2),
            coordinates[0],
            coordinates[1],
            self._nearest,
        )
        return _Found([place for _, place, _ in found], arguments)


def _check(went_well: bool, window: Window) -> None:
    if not went_well:
        raise AssertionError(f"a window of {window.shape} pixels reaches beyond the extents of its scenes")


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
