"""The reference engine: the VRT graph, taken literally. Small, obvious and slow; others must give the same pixels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from osgeo import gdal_array

from s2sr_core.engines.decoded import DecodedReader, decode_all
from s2sr_core.engines.stack import CellStack, Layer, PixelWindow, SceneOrder
from s2sr_core.engines.undecodable import check_decoded
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.geometry import spatial_reference
from s2sr_core.geo.jp2_check import image_drivers
from s2sr_core.geo.lattice import Window
from s2sr_core.pixels import vrt
from s2sr_core.pixels.rules import SCENE_NODATA
from s2sr_core.pixels.statistics import Statistic
from s2sr_core.scenes.occupancy import Occupancy

#: Bytes that one read may hold: a pixel function gets its whole window of all scenes at once, as UInt16, and works on
#: it in Float32 with copies; about 24 bytes per value were measured in all.
_MEMORY = 512 * 1024**2
_BYTES_A_VALUE = 24
#: Rows of a read: the height of a warped VRT's blocks, so that no block is warped twice.
_ROWS = 128


def read_windows(stacks: Sequence[CellStack], statistics: Sequence[Statistic]) -> Iterator[PixelWindow]:
    """Write a VRT of each stack and of each of its statistics, and read these in bounded windows.

    If an image cannot be read, which shows only here, its scene is read from a decoded copy of the parts that count.

    Raises
    ------
    UndecodableError
        If a part that the cell needs cannot be decoded either.
    """
    image_drivers()  # VRTs must not open images with another one
    window, layers = stacks[0].window, sum(len(stack.layers) for stack in stacks)
    # VRTs keep this many sources open; a scene takes a warped, a masked and two image files.
    pool = str(min(max(5 * layers, 100), 900))
    with gdal.config_option("GDAL_MAX_DATASET_POOL_SIZE", pool), contextlib.ExitStack() as copies:
        datasets = _open(stacks, statistics)
        has_copies = False
        for part in window.tiles(*_read_shape(layers, window.width)):
            try:
                pixels = _read(datasets, part, window)
            except RuntimeError:
                if has_copies:
                    raise
                folder = copies.enter_context(TemporaryDirectory(dir=stacks[0].folder))
                stacks, has_copies = [_with_copies(stack, Path(folder)) for stack in stacks], True
                datasets = _open(stacks, statistics)
                pixels = _read(datasets, part, window)
            yield pixels


Datasets = Sequence[Sequence[gdal.Dataset]]
"""For each stack, a dataset for each statistic."""


def _open(stacks: Sequence[CellStack], statistics: Sequence[Statistic]) -> Datasets:
    order = SceneOrder.of(stacks)
    stacked = []
    for stack in stacks:
        pieces = {layer.product: (layer.piece.path, layer.piece.window) for layer in stack.layers}
        path = stack.folder / f"{stack.name}_stack.vrt"
        sources = [pieces.get(product) for product in order.products]
        stacked.append(vrt.stack(path, sources=sources, lattice=stack.lattice, window=stack.window))
    return [
        [
            gdal.Open(
                str(
                    vrt.reduced(
                        stack.folder / f"{stack.name}_{statistic.name}.vrt",
                        stacks=stacked if statistic.joint else [stacked[place]],
                        place=place if statistic.joint else 0,
                        acquisitions=order.acquisitions,
                        lattice=stack.lattice,
                        window=stack.window,
                        statistic=statistic,
                    )
                )
            )
            for statistic in statistics
        ]
        for place, stack in enumerate(stacks)
    ]


def _read(datasets: Datasets, part: Window, within: Window) -> PixelWindow:
    at = (*part.offset_in(within), part.width, part.height)
    return PixelWindow(part, tuple(tuple(dataset.ReadAsArray(*at) for dataset in each) for each in datasets))


# ------------------------------------------------------------------------------------------ images that cannot be read


def _with_copies(stack: CellStack, folder: Path) -> CellStack:
    """The stack with decoded copies, in ``folder``, instead of the images that cannot be read."""
    broken = [layer for layer in stack.layers if not _can_be_read(layer, stack)]
    decode_all([layer.decoded for layer in broken if layer.decoded])
    check_decoded(stack, broken)
    layers = (_copy_of(layer, stack, folder) if layer in broken else layer for layer in stack.layers)
    return replace(stack, layers=tuple(layers))


def _can_be_read(layer: Layer, stack: CellStack) -> bool:
    held, shared = layer.piece.window, layer.piece.window & stack.window
    try:
        with gdal.Open(str(layer.piece.path)) as dataset:
            for part in shared.tiles(_ROWS):
                dataset.ReadAsArray(*part.offset_in(held), part.width, part.height)
    except RuntimeError:
        return False
    return True


def _copy_of(layer: Layer, stack: CellStack, folder: Path) -> Layer:
    if layer.decoded is None:
        return layer
    grid = layer.grid
    pixels = DecodedReader(layer.decoded.path, Occupancy.read_parts(layer.decoded.occupancy)).read(grid.window)
    if pixels is None:  # nothing of it counts
        pixels = np.full(grid.shape, SCENE_NODATA, np.uint16)
    source = gdal_array.OpenArray(pixels)
    source.SetSpatialRef(spatial_reference(grid.crs))
    source.SetGeoTransform(grid.geotransform)
    source.GetRasterBand(1).SetNoDataValue(SCENE_NODATA)
    copy = folder / f"{layer.product}_{stack.band}.tif"
    gdal.GetDriverByName("GTiff").CreateCopy(str(copy), source, options=["TILED=YES", "COMPRESS=DEFLATE"]).Close()
    warped = vrt.warped(
        folder / f"{layer.product}_{stack.band}.vrt",
        source=copy,
        grid=grid,
        lattice=stack.lattice,
        window=layer.piece.window,
        resampling=stack.resampling,
        scale=layer.scale,
    )
    return replace(layer, piece=replace(layer.piece, path=warped))


def _read_shape(scenes: int, width: int) -> tuple[int, int]:
    """Rows and columns of one read, so that it stays within :data:`_MEMORY`."""
    values = _MEMORY // (_BYTES_A_VALUE * scenes)
    columns = min(width, max(values // _ROWS, 256))
    rows = max(values // columns, 1)
    return (rows - rows % _ROWS if rows > _ROWS else rows), columns
