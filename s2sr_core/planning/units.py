"""Units of work: what one task covers, and how a run is cut into them.

Units are plain classes: Prefect would walk through all that a dataclass, a list or a tuple holds, for each task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.scenes.scene import Scene
from s2sr_core.selection.observations import Contender
from s2sr_core.sources.source import ProductDescription, Source

#: Units of each phase; and the most of a phase if there are more workers. A unit is a Prefect task run, which costs
#: about 0.13 s, and the server keeps up with about a thousand of them per flow run.
_UNITS_PER_PHASE = 250
_MOST_UNITS = 350
#: Units of downloads, each of which leads to one of phase 1.
DOWNLOADS = 200
#: Units of downloads of SCL alone, each of which leads to one more that looks at it.
SCL_DOWNLOADS = 100


class DownloadUnit:
    """Products that one task downloads from ``source``: SCL and ``bands``; ``title`` says which."""

    __slots__ = ("bands", "products", "source", "title")

    def __init__(
        self, title: str, source: Source[Any], products: tuple[ProductDescription, ...], bands: tuple[str, ...]
    ) -> None:
        self.title = title
        self.source = source
        self.products = products
        self.bands = bands


class SceneUnit:
    """What one task of phase 1 takes: observations, each its contenders and the cells near it; ``title`` says which.

    ``decodes`` asks for the decoded copies of their scenes at once: something of them was just downloaded, so no
    composite of their cells can be up to date.
    """

    __slots__ = ("decodes", "observations", "title")

    def __init__(
        self,
        title: str,
        observations: tuple[tuple[tuple[Contender, ...], tuple[Gridcell, ...]], ...],
        decodes: bool = False,
    ) -> None:
        self.title = title
        self.observations = observations
        self.decodes = decodes


class CompositeUnit:
    """What one task of phase 2 composites: cells, each with its scenes, and bands; ``title`` says which.

    ``failed_products`` are names of products that could not be used.
    """

    __slots__ = ("bands", "cells", "failed_products", "title")

    def __init__(
        self,
        title: str,
        cells: tuple[tuple[Gridcell, tuple[Scene, ...]], ...],
        bands: tuple[str, ...],
        failed_products: frozenset[str] = frozenset(),
    ) -> None:
        self.title = title
        self.cells = cells
        self.bands = bands
        self.failed_products = failed_products


class CellGroup:
    """Neighbouring cells that are composited together, in one unit or, by groups of ``bands``, in a few."""

    __slots__ = ("bands", "cells", "title")

    def __init__(self, title: str, cells: tuple[Gridcell, ...], bands: tuple[tuple[str, ...], ...]) -> None:
        self.title = title
        self.cells = cells
        self.bands = bands

    def units(
        self, scenes: Mapping[str, Sequence[Scene]], failed_products: frozenset[str] = frozenset()
    ) -> list[CompositeUnit]:
        """Its units; ``scenes`` by the ids of the cells they touch."""
        work = tuple((cell, tuple(scenes.get(cell.cell_id, ()))) for cell in self.cells)
        return [CompositeUnit(f"{self.title} {' '.join(bands)}", work, bands, failed_products) for bands in self.bands]


def download_unit(source: Source[Any], products: Sequence[ProductDescription], bands: Sequence[str]) -> DownloadUnit:
    """One unit of these products, at least one; without ``bands``, SCL alone."""
    title = _title("product" if bands else "SCL of product", [str(product.name) for product in products])
    return DownloadUnit(title, source, tuple(products), tuple(bands))


def scene_unit(
    observations: Sequence[tuple[Sequence[Contender], tuple[Gridcell, ...]]], *, decodes: bool = False
) -> SceneUnit:
    """One unit of phase 1 of these observations, at least one; ``decodes`` is as in :class:`SceneUnit`."""
    there = [contender.title for contenders, _ in observations for contender in contenders if contender.product]
    work = tuple((tuple(contenders), cells) for contenders, cells in observations)
    return SceneUnit(_title("scene", there), work, decodes)


def cell_groups(cells: Sequence[Gridcell], bands: Sequence[str], workers: int) -> list[CellGroup]:
    """Phase 2: neighbouring cells with all bands or, if cells alone would leave workers idle, groups of bands."""
    groups = min(len(bands), -(-2 * workers // len(cells)))
    bands_of = tuple(map(tuple, shares(bands, groups)))
    made: list[CellGroup] = []
    first = 1
    for share in shares(cells, max(most_units(workers) // groups, 1)):
        title, last = f"cell {share[0].cell_id}", first + len(share) - 1
        if len(share) > 1:
            title = f"cells {first}-{last} of {len(cells)} ({share[0].cell_id} … {share[-1].cell_id})"
        made.append(CellGroup(title, tuple(share), bands_of))
        first = last + 1
    return made


def composite_units(
    cells: Sequence[Gridcell],
    scenes: Sequence[Scene],
    bands: Sequence[str],
    workers: int,
    failed_products: frozenset[str] = frozenset(),
) -> list[CompositeUnit]:
    """Phase 2 of all cells, once all scenes are prepared."""
    scenes_of: dict[str, list[Scene]] = {cell.cell_id: [] for cell in cells}
    for scene in scenes:
        for cell_id in scene.cells:
            scenes_of[cell_id].append(scene)
    return [unit for group in cell_groups(cells, bands, workers) for unit in group.units(scenes_of, failed_products)]


def most_units(workers: int) -> int:
    """The most units of a phase."""
    return min(max(_UNITS_PER_PHASE, 2 * workers), _MOST_UNITS)


def shares[T](items: Sequence[T], most: int) -> list[Sequence[T]]:
    """``items`` cut into at most ``most`` runs of nearly the same length."""
    count = min(most, len(items))
    starts = [index * len(items) // count for index in range(count + 1)] if count else [0]
    return [items[start:stop] for start, stop in pairwise(starts)]


def _title(noun: str, names: Sequence[str]) -> str:
    first, *others = names
    return f"{noun} {first}" + (f" and {len(others)} more" if others else "")
