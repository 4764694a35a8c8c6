"""Where the coefficients and code blocks of a tile are (ISO/IEC 15444-1, annex B.5 to B.7 and B.12)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from s2sr_core.compiled import compiled
from s2sr_core.geo.lattice import Window
from s2sr_core.jpeg2000.coding import LAYERS_FIRST, RESOLUTIONS_FIRST, Coding, UncommonError

Int64Array = npt.NDArray[np.int64]

#: Pixels of a tile, and code blocks or packets of it, at most: Sentinel-2's have 1024 × 1024, and some hundred.
_LARGEST, _MOST_PIECES = 4096 * 4096, 100_000


@dataclass(frozen=True, slots=True)
class Band:
    """The coefficients of one band.

    Attributes
    ----------
    right, lower: 1 if it holds the details along rows, along columns, else 0.
    window: their columns and rows in the band of the whole image.
    place: of the first one among the coefficients of the tile; the others follow row by row.
    """

    right: int
    lower: int
    window: Window
    place: int

    @property
    def stop(self) -> int:
        """The first place after it."""
        return self.place + self.window.width * self.window.height


@dataclass(frozen=True, slots=True, eq=False)
class TileLayout:
    """Of one tile.

    Attributes
    ----------
    resolutions: the pixels of each resolution, lowest first; the last one is the tile itself.
    bands: of each resolution: LL of the lowest, HL, LH and HH of the others.
    blocks, packets, groups, order, nodes: what ``decode_blocks`` and ``read_packets`` take.
    reach: Int64, a row for each code block: columns and rows (x0, y0, x1, y1) of the pixels in which it takes part.
    """

    resolutions: tuple[Window, ...]
    bands: tuple[tuple[Band, ...], ...]
    blocks: Int64Array
    reach: Int64Array
    packets: Int64Array
    groups: Int64Array
    order: Int64Array
    nodes: int

    @property
    def size(self) -> int:
        """How many coefficients it has."""
        return self.bands[-1][-1].stop


def _scaled(window: Window, level: int, right: int = 0, lower: int = 0) -> Window:
    """Equations B-14 and B-15: what of a tile a resolution (``right`` and ``lower`` 0) or a band holds."""
    half = 1 << level >> 1
    x, y = half * right, half * lower
    x0, x1, y0, y1 = (
        -((offset - edge) >> level) for edge, offset in ((window.x0, x), (window.x1, x), (window.y0, y), (window.y1, y))
    )
    return Window(x0, y0, x1, y1)


@functools.lru_cache(maxsize=512)
def tile_layout(coding: Coding, tile: Window) -> TileLayout:
    """Of the tile that holds the pixels ``tile`` of an image.

    Raises
    ------
    UncommonError
        If it is larger, or cut into more pieces, than any tile of an image of a product.
    """
    if tile.width * tile.height > _LARGEST:
        raise UncommonError(f"it has a tile of {tile.width} × {tile.height} pixels")
    resolutions, bands, place = [], [], 0
    blocks: list[tuple[int, ...]] = []
    reach: list[tuple[int, ...]] = []
    packets: list[tuple[int, ...]] = []
    groups: list[tuple[int, ...]] = []
    packet_counts, nodes, number = [], 0, 0
    for resolution, (wide, high) in enumerate(coding.precincts):
        level = coding.levels - resolution
        pixels = _scaled(tile, level)
        resolutions.append(pixels)
        halved = resolution > 0
        kinds = ((1, 0), (0, 1), (1, 1)) if halved else ((0, 0),)
        of_resolution = []
        for right, lower in kinds:
            of_resolution.append(Band(right, lower, _scaled(tile, level + halved, right, lower), place))
            place = of_resolution[-1].stop
        bands.append(tuple(of_resolution))
        rows, columns = _range(pixels.y0, pixels.y1, high), _range(pixels.x0, pixels.x1, wide)
        if not pixels:
            rows = columns = range(0)
        packet_counts.append(len(rows) * len(columns))
        for row, column in product(rows, columns):
            packets.append((len(groups), len(of_resolution)))
            for index, band in enumerate(of_resolution):
                x, y = wide - halved, high - halved
                precinct = band.window & Window(column << x, row << y, column + 1 << x, row + 1 << y)
                block = min(coding.block[0], x), min(coding.block[1], y)
                across = len(_range(precinct.x0, precinct.x1, block[0])) if precinct else 0
                down = len(_range(precinct.y0, precinct.y1, block[1])) if precinct else 0
                if max(len(blocks) + across * down, len(packets) * coding.layers) > _MOST_PIECES:
                    raise UncommonError("it has a tile of too many pieces")
                groups.append((len(blocks), across, down, nodes, coding.planes[number + index]))
                nodes += _nodes(across, down)
                for part in _cut(precinct, block) if across else ():
                    left, top = part.offset_in(band.window)
                    kind = 2 if band.right and band.lower else band.right
                    first = band.place + top * band.window.width + left
                    blocks.append((first, band.window.width, part.width, part.height, kind))
                    reach.append(_reach(part, level + halved))
        number += len(of_resolution)
    return TileLayout(
        tuple(resolutions),
        tuple(bands),
        _table(blocks, 5),
        _table(reach, 4),
        _table(packets, 2),
        _table(groups, 5),
        _table(list(_order(coding, packet_counts)), 2),
        nodes,
    )


def _reach(part: Window, level: int) -> tuple[int, int, int, int]:
    """Pixels in which coefficients take part: a detail reaches two pixels on either side of its own, on each level."""
    x0, y0 = (((edge - 1) << level) + 1 for edge in (part.x0, part.y0))
    x1, y1 = ((edge + 1) << level for edge in (part.x1, part.y1))
    return x0, y0, x1, y1


@compiled()
def blocks_reaching(reach, is_decoded, x0, y0, counts):  # type: ignore[no-untyped-def]
    """The numbers of the code blocks that take part in a pixel that counts, and are not decoded yet (Int64).

    Parameters
    ----------
    reach: as in :class:`TileLayout`.
    is_decoded: bool, for each block.
    x0, y0: column and row of the first pixel of ``counts``.
    counts: bool, rows × columns.
    """
    rows, columns = counts.shape
    found = np.empty(len(reach), np.int64)
    size = 0
    for number in range(len(reach)):
        left, right = max(reach[number, 0] - x0, 0), min(reach[number, 2] - x0, columns)
        top, bottom = max(reach[number, 1] - y0, 0), min(reach[number, 3] - y0, rows)
        is_found = is_decoded[number] or left >= right
        y = top
        while not is_found and y < bottom:
            for x in range(left, right):
                if counts[y, x]:
                    is_found = True
                    found[size] = number
                    size += 1
                    break
            y += 1
    return found[:size]


def _range(start: int, stop: int, size: int) -> range:
    """The numbers of the squares of 2 to the ``size`` that meet ``start`` to ``stop``."""
    return range(start >> size, -(-stop >> size))


def _cut(window: Window, block: tuple[int, int]) -> Iterator[Window]:
    """Code blocks, row by row."""
    (wide, high) = block
    for row, column in product(_range(window.y0, window.y1, high), _range(window.x0, window.x1, wide)):
        yield window & Window(column << wide, row << high, column + 1 << wide, row + 1 << high)


def _nodes(columns: int, rows: int) -> int:
    """Of a tag tree (B.10.2)."""
    count = columns * rows
    while columns * rows > 1:
        columns, rows = (columns + 1) // 2, (rows + 1) // 2
        count += columns * rows
    return count


def _order(coding: Coding, packet_counts: list[int]) -> Iterator[tuple[int, int]]:
    """Layer and precinct of each packet (B.12.1); precincts are counted through all resolutions."""
    layers, total, first = range(coding.layers), sum(packet_counts), 0
    if coding.progression == LAYERS_FIRST:
        yield from product(layers, range(total))
        return
    for count in packet_counts:
        precincts = range(first, first + count)
        if coding.progression == RESOLUTIONS_FIRST:
            yield from product(layers, precincts)
        else:
            yield from ((layer, precinct) for precinct, layer in product(precincts, layers))
        first += count


def _table(rows: Sequence[tuple[int, ...]], columns: int) -> Int64Array:
    return np.array(rows, np.int64).reshape(-1, columns)
