"""From a stack of scenes to rasters, clipped to the cell's polygon."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.cog import ScratchRaster
from s2sr_core.engines import Engine
from s2sr_core.engines.stack import CellStack, PixelWindow
from s2sr_core.geo.clip import owned_pixels
from s2sr_core.pixels.statistics import Statistic

#: Rows of a window where there is nothing to compute.
_ROWS = 512


@dataclass(frozen=True, slots=True)
class Rendering:
    """The pixels of a cell and band.

    Attributes
    ----------
    rasters: one for each statistic, complete but for being written as COGs.
    owned, valid: pixels whose centre lies in the polygon, and those of them with a value of the first statistic.
    """

    rasters: tuple[ScratchRaster, ...]
    owned: int
    valid: int


def render(engine: Engine, stack: CellStack, cell: Gridcell, band: str, statistics: Sequence[Statistic]) -> Rendering:
    """Compute ``statistics`` of a stack by ``engine`` and clip them; the rasters are in the stack's folder."""
    rasters: list[ScratchRaster] = []
    try:
        for statistic in statistics:
            scratch = stack.folder / f"{stack.name}_{statistic.name}.tif"
            rasters.append(ScratchRaster(scratch, stack.lattice, stack.window, statistic, band))
        owned, valid = _fill(rasters, engine, stack, cell, statistics)
    except Exception:
        for raster in rasters:
            raster.abandon()
        raise
    return Rendering(tuple(rasters), owned, valid)


def _fill(
    rasters: Sequence[ScratchRaster], engine: Engine, stack: CellStack, cell: Gridcell, statistics: Sequence[Statistic]
) -> tuple[int, int]:
    """Compute and write all pixels; returns how many are owned, and how many of them have a value."""
    owned = valid = 0
    for part in engine(stack, statistics) if stack.layers else _empty_windows(stack, statistics):
        inside = owned_pixels(cell.polygon, stack.lattice, part.window)
        for raster, statistic, values in zip(rasters, statistics, part.values, strict=True):
            clipped = np.where(inside, values, statistic.outside)
            raster.write(part.window, clipped)
            if raster is rasters[0]:
                valid += int(np.count_nonzero(clipped != statistic.outside))
        owned += int(np.count_nonzero(inside))
    return owned, valid


def _empty_windows(stack: CellStack, statistics: Sequence[Statistic]) -> Iterator[PixelWindow]:
    """What a stack without any scene is; engines want at least one."""
    for part in stack.window.tiles(_ROWS):
        yield PixelWindow(part, tuple(statistic.filled(part.shape) for statistic in statistics))
