"""Engines: a cell, its scenes and a band → windows of pixels. Every engine gives the same pixels, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from s2sr_core.engines import fast, reference
from s2sr_core.engines.stack import CellStack, PixelWindow
from s2sr_core.fields import EngineName


class Engine(Protocol):
    """The seam: reads the composite of ``stack`` window by window, in an order of its own, each pixel once."""

    def __call__(self, stack: CellStack, *, with_counts: bool) -> Iterator[PixelWindow]: ...


ENGINES: Mapping[EngineName, Engine] = {"fast": fast.read_windows, "reference": reference.read_windows}
"""``reference`` is the VRT graph, taken literally: small, obvious and slow; the truth that others are held to."""
