"""Engines: a cell, its scenes and bands → windows of pixels. Every engine gives the same pixels, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from s2sr_core.engines import fast, reference
from s2sr_core.engines.stack import CellStack, PixelWindow
from s2sr_core.fields import EngineName
from s2sr_core.pixels.statistics import Statistic


class Engine(Protocol):
    """Computes ``statistics`` of each of ``stacks`` window by window, in any order, each pixel once.

    The stacks are bands of the same pixels: one or, for joint statistics, all. At least one has a layer.
    """

    def __call__(self, stacks: Sequence[CellStack], statistics: Sequence[Statistic]) -> Iterator[PixelWindow]: ...


ENGINES: Mapping[EngineName, Engine] = {"fast": fast.read_windows, "reference": reference.read_windows}
"""``reference`` is the VRT graph, taken literally: small, obvious and slow; others must give the same pixels."""
