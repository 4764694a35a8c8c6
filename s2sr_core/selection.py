"""Which products count, and why the others do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import shapely
from shapely import MultiPolygon, Polygon
from shapely.affinity import translate

from s2sr_core import footprint
from s2sr_core.errors import InputError, ProductError
from s2sr_core.gridcells import Gridcell
from s2sr_core.parameters import RunParameters
from s2sr_core.product_name import ProductName
from s2sr_core.safe import Product, find_products, read_product

Status = Literal["selected", "filtered", "offline", "duplicate", "twin", "no cell", "spared", "failed"]

#: How far beyond a footprint a cell may lie and still be tried, degrees of latitude: footprints are drawn roughly.
#: Phase 1 then holds the cells against the outline of the raster itself.
_NEAR = 0.1


class Described(Protocol):
    """What selection asks of a product, wherever it was described: on disk, or in the catalogue."""

    @property
    def name(self) -> ProductName: ...
    @property
    def cloud_cover(self) -> float | None: ...
    @property
    def footprint(self) -> Polygon | MultiPolygon | None: ...


@dataclass(frozen=True, slots=True)
class Candidate[P: Described]:
    """A product found, whether it counts, and why not.

    Attributes
    ----------
    title: the product's name, or what stands in its place.
    product: None where it was not described: its name was enough to leave it out, or it could not be read.
    step: what failed, where that is its status.
    name: None where it is no product's.
    path: its folder, None where it was found in the catalogue.
    """

    title: str
    product: P | None
    status: Status
    reason: str = ""
    step: str = ""
    name: ProductName | None = None
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Download:
    """One product after its download: as a candidate like those of an archive, and the bytes that came for it."""

    candidate: Candidate[Product]
    size: int


def select_products(
    parameters: RunParameters, cells: Sequence[Gridcell], progress: Callable[[], None] = lambda: None
) -> list[Candidate[Product]]:
    """Every product below ``parameters.source``, judged, ordered by name; ``progress`` is called once for each.

    Raises
    ------
    InputError
        Where there is none at all.
    """
    near = CellsNear(cells)
    candidates: list[Candidate[Product]] = []
    copies: dict[str, Candidate[Product]] = {}
    for path in find_products(parameters.archive):
        copy = copies.get(path.name)
        if copy is None or copy.status == "failed":
            candidate = copies[path.name] = _judge(path, parameters, near)
        else:
            reason = f"the same product lies at {copy.path}"
            candidate = Candidate(copy.title, None, "duplicate", reason, name=copy.name, path=path)
        candidates.append(candidate)
        progress()
    if not candidates and parameters.source is None:
        raise InputError("stage", parameters.stage, f"finds no product in {parameters.archive}", "download some first")
    if not candidates:
        raise InputError("source", parameters.source, "holds no .SAFE product", "give the folder that holds them")
    if not parameters.keep_duplicates:
        candidates = without_repetitions(candidates)
    return sorted(candidates, key=lambda candidate: candidate.title)


def _judge(path: Path, parameters: RunParameters, near: CellsNear) -> Candidate[Product]:
    """One product by itself: name first, so that what the name rules out is not read."""
    title, name = path.name.removesuffix(".SAFE"), None
    try:
        name = ProductName.parse(path.name)
        if reason := ruled_out_by_name(name, parameters):
            return Candidate(title, None, "filtered", reason, name=name, path=path)
        product = read_product(path)
    except ProductError as error:
        return Candidate(title, None, "failed", error.reason, error.step, name, path)
    except OSError as error:
        return Candidate(title, None, "failed", f"cannot be read: {error}", "read", name, path)
    status, reason = judge(product, parameters, near)
    return Candidate(title, product, status, reason, name=name, path=path)


def judge(product: Described, parameters: RunParameters, near: CellsNear) -> tuple[Status, str]:
    """Whether a product counts by what is said of it beyond its name, and why not."""
    limit = parameters.max_cloud_cover
    if limit is not None and product.cloud_cover is not None and product.cloud_cover > limit:
        return "filtered", f"cloud cover {product.cloud_cover:.1f} % > {limit:g} %"
    if not near.any(product.footprint):
        return "no cell", "its footprint touches no selected gridcell"
    return "selected", ""


def ruled_out_by_name(name: ProductName, parameters: RunParameters) -> str:
    """Why the name alone leaves a product out; empty where it does not."""
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


def without_repetitions[P: Described](candidates: Iterable[Candidate[P]]) -> list[Candidate[P]]:
    """Of one sensing time and tile, drop those whose footprint the preferred ones cover.

    Split pairs of two downlink stations hold different parts of a tile, so both stay. A product without a footprint
    covers nothing and is covered by nothing.
    """

    def key(candidate: Candidate[P]) -> tuple[str, str]:
        name = candidate.name
        return ("", "") if name is None else (name.sensing_time.isoformat(), name.tile)

    judged: list[Candidate[P]] = []
    for _, group in groupby(sorted(candidates, key=key), key):
        kept: list[Described] = []
        selected: list[tuple[P, Candidate[P]]] = []
        for candidate in group:
            if candidate.status == "selected" and candidate.product is not None:
                selected.append((candidate.product, candidate))
            else:
                judged.append(candidate)
        for product, candidate in sorted(selected, key=lambda pair: preference(pair[0].name), reverse=True):
            preferred = _covering(product, kept)
            if not preferred:
                kept.append(product)
                judged.append(candidate)
            else:
                same = all(name.baseline == product.name.baseline for name in preferred)
                verbs = "is preferred and covers it" if len(preferred) == 1 else "are preferred and cover it"
                reason = f"{' and '.join(map(str, preferred))} {verbs}"
                judged.append(replace(candidate, status="twin" if same else "duplicate", reason=reason))
    return judged


def _covering(product: Described, kept: Sequence[Described]) -> list[ProductName]:
    """The best of ``kept`` that together cover ``product``; none where all of them do not."""
    if product.footprint is None:
        return []
    names: list[ProductName] = []
    covers: list[Polygon | MultiPolygon] = []
    for other in kept:
        if other.footprint is None or not other.footprint.intersects(product.footprint):
            continue
        names.append(other.name)
        covers.append(other.footprint)
        if footprint.covers(footprint.union(covers), product.footprint):
            return names
    return []


def distinct(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """``numbers`` sorted, each once: ``np.unique``, which in numpy 2.5 took 9.3 s for 7.7 million pairs; this, 0.1."""
    ordered = np.sort(numbers)
    result: npt.NDArray[np.int64] = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]]
    return result


class CellsNear:
    """Finds the cells near footprints in a spatial index."""

    def __init__(self, cells: Sequence[Gridcell]) -> None:
        self._cells = cells
        self._array = np.array(cells, object)
        self._tree = shapely.STRtree([cell.polygon for cell in cells])

    def footprint(self, outline: Polygon | MultiPolygon | None) -> list[Gridcell]:
        """Cells within :data:`_NEAR` of ``outline``; all where it is unknown."""
        return self.footprints([outline])[0]

    def footprints(self, outlines: Sequence[Polygon | MultiPolygon | None]) -> list[list[Gridcell]]:
        """The same for many at once."""
        stops, cells = self.indices(outlines)
        return [self._array[cells[start:stop]].tolist() for start, stop in pairwise(stops)]

    def indices(
        self, outlines: Sequence[Polygon | MultiPolygon | None]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The same as indices of the cells, of one outline after the other, and where each outline's begin and end."""
        parts, owners = shapely.get_parts(np.array(outlines, object), return_index=True)
        bounds = shapely.bounds(parts).reshape(-1, 4)
        near = _NEAR / np.maximum(np.cos(np.radians(np.abs(bounds[:, [1, 3]]).max(axis=1))), 0.05)
        # What lies beyond ±180 is near too.
        beyond = np.flatnonzero((bounds[:, 0] - near < -180.0) | (bounds[:, 2] + near > 180.0)).tolist()
        turned = [translate(parts[index], 360.0 if bounds[index, 0] < 0 else -360.0) for index in beyond]
        count = len(self._cells)
        unknown = np.array([number for number, outline in enumerate(outlines) if outline is None], np.int64)
        pairs = [(unknown[:, None] * count + np.arange(count)).ravel()]
        for some, indices in ((parts, slice(None)), (np.array(turned, object), beyond)):
            found = self._within(some, near[indices])
            pairs.append(owners[indices][found // count] * count + found % count)
        owner, cell = np.divmod(distinct(np.concatenate(pairs)), count)
        return np.searchsorted(owner, np.arange(len(outlines) + 1)), cell

    def _within(self, outlines: npt.NDArray[np.object_], distances: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Pairs, outline × number of cells + cell, that are no farther apart than the outline's distance.

        Most of them intersect, which is found much sooner than a distance, so only the others are measured.
        """
        if not len(outlines):
            return np.empty(0, np.int64)
        count, bounds = len(self._cells), shapely.bounds(outlines)
        around = shapely.box(*(bounds + distances[:, None] * [-1, -1, 1, 1]).T)
        candidates, meeting = (
            distinct(inputs * count + cells)
            for inputs, cells in (self._tree.query(around), self._tree.query(outlines, "intersects"))
        )
        rest = np.setdiff1d(candidates, meeting, assume_unique=True)
        outline, cell = np.divmod(rest, count)
        far = shapely.distance(outlines[outline], self._tree.geometries[cell])
        close = far <= distances[outline]
        return np.concatenate([meeting, rest[close]])

    def any(self, outline: Polygon | MultiPolygon | None) -> bool:
        """Whether there is one; a cell that holds the outline's first point is found sooner than all that are near."""
        if outline is not None:
            first = shapely.points(shapely.get_coordinates(outline)[0])
            if len(self._tree.query(first, "intersects")):
                return True
        return bool(self.footprint(outline))
