"""Units of work: what one task covers, and how a run is cut into them.

Units are plain classes: Prefect would walk through all that a dataclass, a list or a tuple holds, for each task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.products.safe import Product
from s2sr_core.scenes.scene import Scene
from s2sr_core.selection.near_cells import CellsNear
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
    """What one task of phase 1 takes: products, each with the cells near its footprint; ``title`` says which.

    ``classified`` holds the scenes of those whose SCL was looked at before, by product name. ``decodes`` asks for their
    decoded copies at once: something of them was just downloaded, so no composite of their cells can be up to date.
    """

    __slots__ = ("classified", "decodes", "products", "title")

    def __init__(
        self,
        title: str,
        products: tuple[tuple[Product, tuple[Gridcell, ...]], ...],
        classified: Mapping[str, Scene] | None = None,
        decodes: bool = False,
    ) -> None:
        self.title = title
        self.products = products
        self.classified = classified or {}
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


def download_units(
    source: Source[Any], products: Sequence[ProductDescription], bands: Sequence[str], most: int
) -> list[DownloadUnit]:
    """One unit per product, or as many products per unit as keep them to ``most``; without ``bands``, SCL alone."""
    noun = "product" if bands else "SCL of product"
    return [
        DownloadUnit(_title(noun, chunk, first, len(products)), source, tuple(chunk), tuple(bands))
        for first, chunk in _chunks(products, most)
    ]


def scene_units(products: Sequence[Product], cells: Sequence[Gridcell], workers: int) -> list[SceneUnit]:
    """Phase 1 of an archive: one unit per product, or as many products per unit as keep within the task runs."""
    near = CellsNear(cells).footprints([product.footprint for product in products])
    work = [(product, tuple(some)) for product, some in zip(products, near, strict=True)]
    return [
        SceneUnit(_title("scene", products[first : first + len(chunk)], first, len(products)), tuple(chunk))
        for first, chunk in _chunks(work, _limit(workers))
    ]


def scene_unit(
    products: Sequence[Product],
    cells_near: Callable[[str], tuple[Gridcell, ...]],
    classified: Mapping[str, Scene] | None = None,
    decodes: bool = False,
) -> SceneUnit:
    """One unit of phase 1 of these products, at least one, whatever else there is.

    ``cells_near`` gives the cells near a product by its name, ``classified`` scenes whose SCL was looked at;
    ``decodes`` is as in :class:`SceneUnit`.
    """
    names = [str(product.name) for product in products]
    title = f"scene {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    known = {name: classified[name] for name in names if classified and name in classified}
    work = tuple((product, cells_near(name)) for name, product in zip(names, products, strict=True))
    return SceneUnit(title, work, known, decodes)


def cell_groups(cells: Sequence[Gridcell], bands: Sequence[str], workers: int) -> list[CellGroup]:
    """Phase 2: neighbouring cells with all bands or, if cells alone would leave workers idle, groups of bands."""
    groups = min(len(bands), -(-2 * workers // len(cells)))
    bands_of = tuple(tuple(group) for _, group in _chunks(bands, groups))
    return [
        CellGroup(_title("cell", chunk, first, len(cells)), tuple(chunk), bands_of)
        for first, chunk in _chunks(cells, max(_limit(workers) // groups, 1))
    ]


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


def _limit(workers: int) -> int:
    return min(max(_UNITS_PER_PHASE, 2 * workers), _MOST_UNITS)


def _chunks[T](items: Sequence[T], count: int) -> list[tuple[int, Sequence[T]]]:
    """``items`` cut into at most ``count`` runs of nearly the same length, each with the index of its first item."""
    count = min(count, len(items))
    starts = [index * len(items) // count for index in range(count + 1)] if count else [0]
    return [(start, items[start:stop]) for start, stop in pairwise(starts)]


def _title(noun: str, chunk: Sequence[Gridcell | ProductDescription], first: int, total: int) -> str:
    names = [item.cell_id if isinstance(item, Gridcell) else str(item.name) for item in chunk]
    if len(names) == 1:
        return f"{noun} {names[0]}"
    return f"{noun}s {first + 1}-{first + len(names)} of {total} ({names[0]} … {names[-1]})"
