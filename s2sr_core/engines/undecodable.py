"""Images that cannot be decoded where a cell needs them: their scenes are left out of that cell and band.

The verdict is the same whichever engine asks, and whichever other cells the run selected: GDAL decodes whole tiles, and
what counts of a tile that fails is compared with the pixels of the scene that make the cell's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from s2sr_core.engines.coordinates import source_coordinates
from s2sr_core.engines.decoded import failed_parts
from s2sr_core.engines.stack import CellStack, Layer, four_samples_do
from s2sr_core.errors import S2SRError
from s2sr_core.geo.lattice import Window
from s2sr_core.scenes.occupancy import Occupancy, kernel_reach

IntArray = npt.NDArray[np.int64]


class UndecodableError(S2SRError):
    """Scenes of a stack whose images cannot be decoded; the composite can be made of the others.

    Attributes
    ----------
    band: of the stack.
    reasons: what is wrong, by the name of the product.
    """

    def __init__(self, band: str, reasons: Mapping[str, str]) -> None:
        super().__init__(band, reasons)
        self.band, self.reasons = band, reasons

    def __str__(self) -> str:
        return "; ".join(f"{product}: {reason}" for product, reason in self.reasons.items())


def check_decoded(stack: CellStack, layers: Sequence[Layer]) -> None:
    """Look whether all that ``stack`` needs of ``layers``, whose decoded bands are there, could be decoded.

    Raises
    ------
    UndecodableError
        If not.
    """
    reasons = {layer.product: reason for layer in layers if (reason := _failure(stack, layer)) is not None}
    if reasons:
        raise UndecodableError(stack.band, reasons)


def _failure(stack: CellStack, layer: Layer) -> str | None:
    """Why a part of the layer that ``stack`` needs could not be decoded; None if nothing that it needs failed."""
    failures = failed_parts(layer.decoded) if layer.decoded is not None else {}
    if layer.decoded is None or not failures:
        return None
    occupancy = Occupancy.read(layer.decoded.occupancy)
    places = list(_places(stack, layer))
    for part, reason in failures.items():
        x, y = part.offset_in(occupancy.window)
        counts = occupancy.counts[y : y + part.height, x : x + part.width]
        if any(_touches(columns, rows, part, counts) for columns, rows in places):
            return reason
    return None


def _places(stack: CellStack, layer: Layer) -> Iterator[tuple[IntArray, IntArray]]:
    """Columns and rows of the source pixels that make those of the stack's window."""
    x, y = source_coordinates(stack.warp(layer), layer.piece.window & stack.window)
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    if stack.resampling == "nearest":
        yield np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        return
    # Bilinear takes four; cubic, and a lattice that is coarser than the scene, as far as the kernel reaches.
    reach = 0 if four_samples_do(stack.resampling, layer.scale) else kernel_reach(layer.scale)
    left, top = np.floor(x - 0.5).astype(np.int64), np.floor(y - 0.5).astype(np.int64)
    for row in range(-reach, reach + 2):
        for column in range(-reach, reach + 2):
            yield left + column, top + row


def _touches(columns: IntArray, rows: IntArray, part: Window, counts: npt.NDArray[np.bool_]) -> bool:
    inside = (columns >= part.x0) & (columns < part.x1) & (rows >= part.y0) & (rows < part.y1)
    return bool(counts[rows[inside] - part.y0, columns[inside] - part.x0].any())
