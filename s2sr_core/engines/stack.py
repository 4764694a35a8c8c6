"""The input and the output of engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy.typing as npt

from s2sr_core.engines.coordinates import Warp
from s2sr_core.engines.decoded import DecodedBand
from s2sr_core.fields import Resampling
from s2sr_core.geo.lattice import Lattice, Window
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.pixels.observations import Acquisitions
from s2sr_core.scenes.scene import WarpedPiece

#: Below this scale GDAL's bilinear kernel widens beyond four pixels (GDALWarpKernel).
_FOUR_SAMPLES = 0.95


@dataclass(frozen=True, slots=True)
class Layer:
    """One scene in a stack.

    Attributes
    ----------
    product: its name.
    sensing_time: UTC.
    observation: scenes of a stack that name the same are parts of one observation.
    piece: the warped VRT, and the window it holds.
    grid, scale: of the scene.
    decoded: its decoded band, for engines that want one; None if phase 1 did not find out which pixels count.
    """

    product: str
    sensing_time: datetime
    observation: str
    piece: WarpedPiece
    grid: RasterGrid
    scale: tuple[float, float]
    decoded: DecodedBand | None


@dataclass(frozen=True, slots=True)
class CellStack:
    """One band of one cell, to be composited.

    Attributes
    ----------
    band: its name.
    name: of cell, period and band, for files.
    lattice, window: the pixels asked for.
    layers: the scenes that meet them.
    resampling: kernel of the warp.
    folder: where VRTs may be written.
    """

    band: str
    name: str
    lattice: Lattice
    window: Window
    layers: tuple[Layer, ...]
    resampling: Resampling
    folder: Path

    def warp(self, layer: Layer) -> Warp:
        """From the lattice to the grid of ``layer``."""
        return Warp(layer.grid, self.lattice, layer.piece.window)


@dataclass(frozen=True, slots=True)
class SceneOrder:
    """The scenes of stacks of the same pixels, each once, by sensing time and name.

    Attributes
    ----------
    products: their names.
    acquisitions: when they were sensed, and which are parts of one observation.
    """

    products: tuple[str, ...]
    acquisitions: Acquisitions

    @classmethod
    def of(cls, stacks: Sequence[CellStack]) -> SceneOrder:
        layers = (layer for stack in stacks for layer in stack.layers)
        return cls.of_scenes({layer.product: (layer.sensing_time, layer.observation) for layer in layers})

    @classmethod
    def of_scenes(cls, scenes: Mapping[str, tuple[datetime, str]]) -> SceneOrder:
        """Of sensing times and observations by product."""
        products = sorted(scenes, key=lambda product: (scenes[product][0], product))
        return cls(tuple(products), Acquisitions.of([scenes[product] for product in products]))


def four_samples_do(resampling: str, scale: tuple[float, float]) -> bool:
    """Whether a pixel is made of at most the four source pixels around its centre; ``scale`` is that of a layer."""
    return resampling == "nearest" or (resampling == "bilinear" and min(scale) >= _FOUR_SAMPLES)


@dataclass(frozen=True, slots=True)
class PixelWindow:
    """Pixels of a composite.

    Attributes
    ----------
    window: on the lattice of the stacks.
    values: for each stack, an array for each statistic that was asked for, in their order; of ``window.shape``.
    """

    window: Window
    values: tuple[tuple[npt.NDArray[Any], ...], ...]
