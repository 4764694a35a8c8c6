"""``python -m benchmarks.tile_search``: what it takes to find tiles in images that do not list them, simulated.

Images of 9 × 9 tiles are made up whose sizes vary, similarly for neighbours; beyond an edge of the swath tiles hold
next to nothing. All sizes are a sixteenth of those of 20 m bands, which changes no ratio. Wanted are blocks of tiles.
"""

from __future__ import annotations

import argparse
import io
import struct
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from benchmarks.meter import report
from s2sr_core.geo.codestream import Layout, LayoutError, TilePart
from s2sr_core.sources.cdse.ranges import HEADER, Span
from s2sr_core.sources.cdse.tile_search import TileSearch

_SIDE, _TILE, _GRANULE = 9, 640, 5490
_SCALE = 16
_MEAN, _HEADER, _EMPTY = 370_000 // _SCALE, 3_000 // _SCALE, 2_000 // _SCALE
#: Standard deviation of the logarithm of sizes, how often they are smoothed, and whether the swath has an edge.
_KINDS = {"15": (0.15, 1, False), "30": (0.3, 1, False), "50": (0.5, 2, False), "30_edge": (0.3, 2, True)}
_BLOCKS = {"six": (3, 2), "twelve": (4, 3)}
_IMAGES = 60


def _sizes(random: np.random.Generator, spread: float, smoothed: int, *, edge: bool) -> NDArray[np.int64]:
    field = random.standard_normal((_SIDE, _SIDE))
    for _ in range(smoothed):
        field = (field + sum(np.roll(field, step, axis) for step in (1, -1) for axis in (0, 1))) / 5
    sizes = _MEAN * np.exp(spread * field / field.std())
    share = _GRANULE % _TILE / _TILE
    sizes[:, -1] *= share
    sizes[-1] *= share
    if edge:
        sizes[:, : random.integers(2, 7)] = _EMPTY
    result: NDArray[np.int64] = np.maximum(sizes, _EMPTY).astype(np.int64).ravel()
    return result


def _search(sizes: Sequence[int], wanted: Sequence[int]) -> tuple[int, float, bool]:
    """Requests, the share of the image that came, and whether the wanted tiles were found."""
    content = bytearray(_HEADER)
    for tile, size in enumerate(sizes):
        content += struct.pack(">HHHIBB", 0xFF90, 10, tile, size, 0, 1) + bytes(size - 12)
    content += b"\xff\xd9"
    places = [_HEADER + 14 * tile for tile in range(len(sizes))] + [len(content) - 2]
    parts = tuple(TilePart(tile, start, places[tile + 1] - start) for tile, start in enumerate(places[:-1]))
    layout = Layout(len(content), _HEADER, _GRANULE, _GRANULE, _TILE, _TILE, parts, frozenset())
    asked = [Span(0, HEADER // _SCALE)]

    def receive(span: Span, file: BinaryIO) -> None:
        asked.append(span)
        file.write(content[span.start : span.stop])

    search = TileSearch(layout, io.BytesIO(), receive)
    search.put(asked[0], io.BytesIO(content[: asked[0].stop]))
    try:
        search.find(wanted)
    except LayoutError:
        is_found = False
    else:
        is_found = True
    return len(asked), sum(span.size for span in asked) / len(content), is_found


def main() -> int:
    """Simulate; the last line of the output is one JSON object."""
    argparse.ArgumentParser(prog="python -m benchmarks.tile_search", description=main.__doc__).parse_args()
    random, figures = np.random.default_rng(0), {}
    for block, (rows, columns) in _BLOCKS.items():
        for kind, (spread, smoothed, edge) in _KINDS.items():
            results = []
            for _ in range(_IMAGES):
                sizes = _sizes(random, spread, smoothed, edge=edge).tolist()
                top, left = random.integers(0, _SIDE - rows), random.integers(0, _SIDE - columns)
                wanted = [int((top + y) * _SIDE + left + x) for y in range(rows) for x in range(columns)]
                results.append(_search(sizes, wanted))
            requests, shares, found = map(np.array, zip(*results, strict=True))
            figures[f"{block}_{kind}_requests"] = float(requests.mean())
            figures[f"{block}_{kind}_most_requests"] = float(requests.max())
            figures[f"{block}_{kind}_share"] = float(shares.mean())
            figures[f"{block}_{kind}_not_found"] = float(1 - found.mean())
    for label, figure in figures.items():
        print(f"{label:32}{figure:8.3f}")
    report({label: float(f"{figure:.3g}") for label, figure in figures.items()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
