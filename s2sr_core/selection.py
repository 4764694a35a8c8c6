"""Which products count, and why the others do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from s2sr_core import footprint
from s2sr_core.errors import InputError, ProductError
from s2sr_core.gridcells import Gridcell
from s2sr_core.parameters import RunParameters
from s2sr_core.product_name import ProductName
from s2sr_core.safe import Product, find_products, read_product

Status = Literal["selected", "filtered", "duplicate", "twin", "no cell", "failed"]

#: How far beyond a footprint a cell may lie and still be tried, degrees of latitude: footprints are drawn roughly.
#: Phase 1 then holds the cells against the outline of the raster itself.
_NEAR = 0.1


@dataclass(frozen=True, slots=True)
class Candidate:
    """A product found, whether it counts, and why not.

    ``step`` is what failed, where that is its status. ``product`` is None where its files were not read: its name was
    enough to leave it out, or it could not be read.
    """

    path: Path
    name: ProductName | None
    product: Product | None
    status: Status
    reason: str = ""
    step: str = ""

    @property
    def title(self) -> str:
        """The product's name, or that of the folder where it has none."""
        return str(self.name) if self.name else self.path.name.removesuffix(".SAFE")


def select_products(
    parameters: RunParameters, cells: Sequence[Gridcell], progress: Callable[[], None] = lambda: None
) -> list[Candidate]:
    """Every product below ``parameters.source``, judged, ordered by name; ``progress`` is called once for each.

    Raises
    ------
    InputError
        Where there is none at all.
    """
    near = CellsNear(cells)
    candidates: list[Candidate] = []
    seen: dict[str, Path] = {}
    for path in find_products(parameters.source):
        first = seen.setdefault(path.name, path)
        if first != path:
            candidates.append(Candidate(path, None, None, "duplicate", f"the same product lies at {first}"))
        else:
            candidates.append(_judge(path, parameters, near))
        progress()
    if not candidates:
        raise InputError("source", parameters.source, "holds no .SAFE product", "give the folder that holds them")
    if not parameters.keep_duplicates:
        candidates = _without_repetitions(candidates)
    return sorted(candidates, key=lambda candidate: candidate.title)


def _judge(path: Path, parameters: RunParameters, near: CellsNear) -> Candidate:
    """One product by itself: name first, so that what the name rules out is not read."""
    name = product = None
    try:
        name = ProductName.parse(path.name)
        if reason := _ruled_out_by_name(name, parameters):
            return Candidate(path, name, None, "filtered", reason)
        product = read_product(path)
        limit = parameters.max_cloud_cover
        if limit is not None and product.cloud_cover is not None and product.cloud_cover > limit:
            return Candidate(path, name, product, "filtered", f"cloud cover {product.cloud_cover:.1f} % > {limit:g} %")
        if not near.footprint(product.footprint):
            return Candidate(path, name, product, "no cell", "its footprint touches no selected gridcell")
    except ProductError as error:
        return Candidate(path, name, None, "failed", error.reason, error.step)
    except OSError as error:
        return Candidate(path, name, None, "failed", f"cannot be read: {error}", "read")
    return Candidate(path, name, product, "selected")


def _ruled_out_by_name(name: ProductName, parameters: RunParameters) -> str:
    if not parameters.start <= name.sensing_time < parameters.end:
        return "sensing time outside start … end"
    if parameters.months is not None and name.sensing_time.month not in parameters.months:
        return f"month {name.sensing_time.month} not asked for"
    if parameters.tiles is not None and name.tile not in parameters.tiles:
        return f"tile {name.tile} not asked for"
    if parameters.min_baseline is not None and not name.is_user_made and name.baseline < parameters.min_baseline:
        return f"baseline {name.baseline} < {parameters.min_baseline}"
    return ""


def preference(name: ProductName) -> tuple[bool, str, float]:
    """Sort key of products of one sensing time and tile, the preferred one last.

    A user-made baseline comes first, then the baselines rise, then the discriminators.
    """
    return not name.is_user_made, name.baseline, name.discriminator.timestamp()


def _without_repetitions(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Of one sensing time and tile, drop those whose footprint the preferred ones cover.

    Split pairs of two downlink stations hold different parts of a tile, so both stay. A product without a footprint
    covers nothing and is covered by nothing.
    """

    def key(candidate: Candidate) -> tuple[str, str]:
        name = candidate.name
        return ("", "") if name is None else (name.sensing_time.isoformat(), name.tile)

    judged: list[Candidate] = []
    for _, group in groupby(sorted(candidates, key=key), key):
        kept: list[Product] = []
        selected: list[tuple[Product, Candidate]] = []
        for candidate in group:
            if candidate.status == "selected" and candidate.product is not None:
                selected.append((candidate.product, candidate))
            else:
                judged.append(candidate)
        for product, candidate in sorted(selected, key=lambda pair: preference(pair[0].name), reverse=True):
            preferred = _covering(product, kept)
            if preferred is None:
                kept.append(product)
                judged.append(candidate)
            else:
                same = preferred.name.baseline == product.name.baseline
                reason = f"{preferred.name} is preferred and covers it"
                judged.append(replace(candidate, status="twin" if same else "duplicate", reason=reason))
    return judged


def _covering(product: Product, kept: Sequence[Product]) -> Product | None:
    """The best of ``kept`` where together they cover ``product``."""
    covers = [other.footprint for other in kept if other.footprint is not None]
    if product.footprint is None or not covers:
        return None
    return kept[0] if footprint.covers(footprint.union(covers), product.footprint) else None


class CellsNear:
    """Finds the cells near a footprint in a spatial index."""

    def __init__(self, cells: Sequence[Gridcell]) -> None:
        self._cells = cells
        self._tree = shapely.STRtree([cell.polygon for cell in cells])

    def footprint(self, outline: Polygon | MultiPolygon | None) -> list[Gridcell]:
        """Cells within :data:`_NEAR` of ``outline``; all where it is unknown."""
        if outline is None:
            return list(self._cells)
        found: set[int] = set()
        for part in shapely.get_parts(outline):
            _, south, _, north = part.bounds
            stretch = 1.0 / max(np.cos(np.radians(max(abs(south), abs(north)))), 0.05)
            found.update(self._tree.query(part, "dwithin", _NEAR * stretch).tolist())
        return [self._cells[index] for index in sorted(found)]
