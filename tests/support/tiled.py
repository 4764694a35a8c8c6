"""Products whose images have several JPEG 2000 tiles and list them in their headers (TLM)."""

from __future__ import annotations

import hashlib
import re
import struct
from pathlib import Path

import numpy as np
import shapely
from osgeo import gdal
from support.scenes import product_name

from s2sr_core.cells.gridcells import Gridcell
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.jp2 import write_jp2
from s2sr_sandbox.products import write_product

#: 3 × 2 tiles of 640 × 640; the last column is 20 pixels wide.
GRID = Grid.utm(-149.6, 68.63, (900, 1300), zone=5)


def write_tiled(folder: Path, *, number: int = 0, baseline: str = "05.12") -> Path:
    """A product of clear noise on :data:`GRID`: B04 and SCL."""
    numbers = np.random.default_rng(number).integers(1, 4000, GRID.shape, dtype=np.uint16)
    scl = np.full(GRID.shape, 4, np.uint8)
    return write_product(folder, product_name(number, baseline=baseline), GRID, {"B04": numbers}, scl)


def write_unlisted(folder: Path, *, number: int = 0) -> Path:
    """A product whose images do not list their tiles, 11 × 8 of them in B04: :func:`small_tiles`."""
    product = write_tiled(folder, number=number, baseline="05.11")
    (image,) = product.rglob("*_B04_20m.jp2")
    before = image.read_bytes()
    with gdal.Open(str(image)) as dataset:
        small_tiles(image, dataset.ReadAsArray())
    manifest, after = product / "manifest.safe", image.read_bytes()
    text = manifest.read_text(encoding="utf-8").replace(f'size="{len(before)}"', f'size="{len(after)}"')
    for digest in (hashlib.md5, hashlib.sha3_256):
        text = re.sub(digest(before).hexdigest(), digest(after).hexdigest(), text, flags=re.IGNORECASE)
    manifest.write_text(text, encoding="utf-8")
    return product


def small_tiles(image: Path, pixels: np.ndarray) -> None:
    """An image of tiles of 128 × 128 pixels without TLM, of very different sizes: noise in the east alone."""
    pixels = pixels.copy()
    pixels[:, :400] = 1000
    pixels[:, 400:700] %= 64
    write_jp2(image, pixels, GRID, bits=15, tile=128)


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
