"""Products whose images have several JPEG 2000 tiles and list them in their headers (TLM)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import shapely
from support.scenes import product_name

from s2sr_core.cells.gridcells import Gridcell
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.products import write_product

#: 3 × 2 tiles of 640 × 640; the last column is 20 pixels wide.
GRID = Grid.utm(-149.6, 68.63, (900, 1300), zone=5)


def write_tiled(folder: Path, *, number: int = 0, baseline: str = "05.12", bands: Sequence[str] = ("B04",)) -> Path:
    """A product of clear noise on :data:`GRID`."""
    random = np.random.default_rng(number)
    arrays = {band: random.integers(1, 4000, GRID.shape, dtype=np.uint16) for band in bands}
    return write_product(
        folder, product_name(number, baseline=baseline), GRID, arrays, np.full(GRID.shape, 4, np.uint8)
    )


def cell_around(cell_id: str, column: float, row: float, side: float = 40) -> Gridcell:
    """A cell that is a square of ``side`` pixels of :data:`GRID`, more or less, around a pixel of it."""
    half = side / 2
    lon, lat = GRID.lonlat(np.array([column - half, column + half]), np.array([row - half, row + half]))
    return Gridcell(cell_id, shapely.box(lon.min(), lat.min(), lon.max(), lat.max()))


def tiles_of(image: bytes) -> dict[int, tuple[int, int]]:
    """First byte and size of each tile, found by its marker SOT, one part each; without a look at TLM."""
    found, at = {}, image.index(b"\xff\x90\x00\x0a")
    while image[at : at + 2] == b"\xff\x90":
        tile, size = struct.unpack(">HI", image[at + 4 : at + 10])
        found[tile] = (at, size)
        at += size
    assert image[at:] == b"\xff\xd9"
    return found
