"""The reference engine: the VRT graph, taken literally. Small, obvious and slow; others must give the same pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from s2sr_core.engines.stack import CellStack, PixelWindow
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.pixels import vrt
from s2sr_core.pixels.statistics import Statistic

#: Bytes that one read may hold: a pixel function gets its whole window of all scenes at once, as UInt16, and works on
#: it in Float32 with copies; about 24 bytes per value were measured in all.
_MEMORY = 512 * 1024**2
_BYTES_A_VALUE = 24
#: Rows of a read: the height of a warped VRT's blocks, so that no block is warped twice.
_ROWS = 128


def read_windows(stack: CellStack, statistics: Sequence[Statistic]) -> Iterator[PixelWindow]:
    """Write the stack VRT and a VRT for each statistic, and read these in bounded windows."""
    lattice, window, folder = stack.lattice, stack.window, stack.folder
    sources = [(layer.piece.path, layer.piece.window) for layer in stack.layers]
    stacked = vrt.stack(folder / f"{stack.name}_stack.vrt", sources=sources, lattice=lattice, window=window)
    paths = [
        vrt.reduced(
            folder / f"{stack.name}_{statistic.name}.vrt",
            stack=stacked,
            count=len(sources),
            lattice=lattice,
            window=window,
            statistic=statistic,
        )
        for statistic in statistics
    ]
    # VRTs keep this many sources open; a scene takes a warped, a masked and two image files.
    with gdal.config_option("GDAL_MAX_DATASET_POOL_SIZE", str(min(max(5 * len(sources), 100), 900))):
        datasets = [gdal.Open(str(path)) for path in paths]
        for part in window.tiles(*_read_shape(len(sources), window.width)):
            at = (*part.offset_in(window), part.width, part.height)
            yield PixelWindow(part, tuple(dataset.ReadAsArray(*at) for dataset in datasets))


def _read_shape(scenes: int, width: int) -> tuple[int, int]:
    """Rows and columns of one read, so that it stays within :data:`_MEMORY`."""
    values = _MEMORY // (_BYTES_A_VALUE * scenes)
    columns = min(width, max(values // _ROWS, 256))
    rows = max(values // columns, 1)
    return (rows - rows % _ROWS if rows > _ROWS else rows), columns
