"""From stacks of scenes to rasters, clipped to the cell's polygon."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
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


def render(
    engine: Engine, stacks: Sequence[CellStack], cell: Gridcell, statistics: Sequence[Statistic], bands: Collection[str]
) -> dict[str, Rendering]:
    """Compute ``statistics`` of stacks of the same pixels by ``engine`` and clip them.

    Gives the renderings of ``bands``, which are those of some of the stacks; their rasters are in the stacks' folders.
    """
    rasters: dict[str, list[ScratchRaster]] = {}
    try:
        for stack in stacks:
            if stack.band in bands:
                rasters[stack.band] = []
                for statistic in statistics:
                    scratch = stack.folder / f"{stack.name}_{statistic.name}.tif"
                    raster = ScratchRaster(scratch, stack.lattice, stack.window, statistic, stack.band)
                    rasters[stack.band].append(raster)
        owned, valid = _fill(rasters, engine, stacks, cell, statistics)
    except Exception:
        for raster in itertools.chain(*rasters.values()):
            raster.abandon()
        raise
    return {band: Rendering(tuple(of_band), owned, valid[band]) for band, of_band in rasters.items()}


def _fill(
    rasters: Mapping[str, Sequence[ScratchRaster]],
    engine: Engine,
    stacks: Sequence[CellStack],
    cell: Gridcell,
    statistics: Sequence[Statistic],
) -> tuple[int, Counter[str]]:
    """Compute and write all pixels; returns how many are owned and, by band, how many of them have a value."""
    owned, valid = 0, Counter[str]()
    has_layers = any(stack.layers for stack in stacks)
    for part in engine(stacks, statistics) if has_layers else _empty_windows(stacks, statistics):
        inside = owned_pixels(cell.polygon, stacks[0].lattice, part.window)
        for stack, of_stack in zip(stacks, part.values, strict=True):
            if stack.band not in rasters:
                continue
            for raster, statistic, values in zip(rasters[stack.band], statistics, of_stack, strict=True):
                clipped = np.where(inside, values, statistic.outside)
                raster.write(part.window, clipped)
                if statistic is statistics[0]:
                    valid[stack.band] += int(np.count_nonzero(clipped != statistic.outside))
        owned += int(np.count_nonzero(inside))
    return owned, valid


def _empty_windows(stacks: Sequence[CellStack], statistics: Sequence[Statistic]) -> Iterator[PixelWindow]:
    """What stacks without any scene are; engines want at least one."""
    for part in stacks[0].window.tiles(_ROWS):
        values = tuple(statistic.filled(part.shape) for statistic in statistics)
        yield PixelWindow(part, tuple(values for _ in stacks))
