"""What the catalogue gives for the area of gridcells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import shapely
from shapely import Polygon

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.sources.cdse.catalogue import Catalogue
from s2sr_core.sources.source import FoundProduct, RemoteProduct, UnusableEntry


def found_in(
    catalogue: Catalogue, cells: Sequence[Gridcell], start: datetime, end: datetime
) -> Iterator[FoundProduct[RemoteProduct] | UnusableEntry]:
    """What ``catalogue`` gives for the area of ``cells`` and the window, each entry once."""
    seen: set[str] = set()
    for area in envelopes(cells):
        for entry in catalogue.search(area, start, end):
            if entry.id in seen:
                continue
            seen.add(entry.id)
            yield entry if isinstance(entry, UnusableEntry) else _found(entry)


def _found(product: RemoteProduct) -> FoundProduct[RemoteProduct]:
    unavailable = "" if product.online else "its bytes are not online at CDSE"
    return FoundProduct(str(product.name), lambda: product, name=product.name, unavailable=unavailable)


def envelopes(cells: Sequence[Gridcell]) -> list[Polygon]:
    """The box around all cells; two if that is shorter across the antimeridian, one on each side of it."""
    bounds = shapely.bounds([cell.polygon for cell in cells])
    west, east = bounds[bounds[:, 2] <= 0], bounds[bounds[:, 0] >= 0]
    if len(west) + len(east) == len(bounds) and len(west) and len(east):
        around = 360 - (east[:, 0].min() - west[:, 2].max())
        if around < bounds[:, 2].max() - bounds[:, 0].min():
            return [_box(west), _box(east)]
    return [_box(bounds)]


def _box(bounds: Any) -> Polygon:
    xmin, ymin = bounds[:, :2].min(axis=0)
    xmax, ymax = bounds[:, 2:].max(axis=0)
    return shapely.box(float(xmin), float(ymin), float(xmax), float(ymax))
