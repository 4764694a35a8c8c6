"""What a run would do: its cells, its products, and the units of work they are cut into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import shapely

from s2sr_core.cells.gridcells import Gridcell, read_gridcells, select_gridcells
from s2sr_core.errors import InputError
from s2sr_core.geo import geometry
from s2sr_core.parameters import RunParameters
from s2sr_core.products.safe import SCL, BandFile, Product, band_files
from s2sr_core.scenes.scene import Scene
from s2sr_core.selection.candidates import Described
from s2sr_core.selection.near_cells import CellsNear
from s2sr_core.selection.selection import select_products
from s2sr_core.sources.cdse import client
from s2sr_core.sources.cdse.catalogue import CatalogueProduct
from s2sr_core.sources.cdse.query import query_products

#: Units of each phase; and the most of a phase, where there are more workers. A unit is a Prefect task run, which costs
#: some 0.13 s, and the server keeps up with about a thousand of them a flow run.
_UNITS_A_PHASE = 250
_MOST_UNITS = 350
#: Units of downloads, each of which is one of phase 1 as well; of SCL alone, each of which is one more to look at it.
DOWNLOADS = 200
SCL_DOWNLOADS = 100
#: Metres a degree of latitude and a pixel; pixels of a granule.
_METRES_A_DEGREE, _PIXEL, _GRANULE = 111_320.0, 20.0, 5490**2
#: Size of a full 20 m band and of SCL at CDSE, bytes: 25 to 35 MB, and 0.5 to 3 MB.
_BAND_BYTES, _SCL_BYTES = 28e6, 2e6


class DownloadUnit:
    """Products that one task downloads: SCL and ``bands``; ``title`` says which.

    Units are plain classes: Prefect would walk through all that a dataclass, a list or a tuple holds, for each task.
    """

    __slots__ = ("bands", "products", "title")

    def __init__(self, title: str, products: tuple[CatalogueProduct, ...], bands: tuple[str, ...]) -> None:
        self.title = title
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


def choose_gridcells(parameters: RunParameters) -> list[Gridcell]:
    """The cells of ``grid_csv`` that share area with ``bbox``.

    Raises
    ------
    InputError
        Where the file is bad, or no cell meets the box.
    """
    cells = select_gridcells(read_gridcells(parameters.grid_csv), geometry.box(parameters.bbox))
    if not cells:
        raise InputError("bbox", parameters.bbox, f"meets no gridcell of {parameters.grid_csv}", "check both")
    return cells


def download_units(products: Sequence[CatalogueProduct], bands: Sequence[str], most: int) -> list[DownloadUnit]:
    """One unit a product, or as few more products a unit as make at most ``most``; without ``bands``, SCL alone."""
    noun = "product" if bands else "SCL of product"
    return [
        DownloadUnit(_title(noun, chunk, first, len(products)), tuple(chunk), tuple(bands))
        for first, chunk in _chunks(products, most)
    ]


def scene_units(products: Sequence[Product], cells: Sequence[Gridcell], workers: int) -> list[SceneUnit]:
    """Phase 1 of an archive: one unit a product, or as few more products a unit as keep within the task runs."""
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
) -> list[SceneUnit]:
    """One unit of phase 1 of these products, whatever else there is; none where there is no product.

    ``cells_near`` gives the cells near a product by its name, ``classified`` scenes whose SCL was looked at;
    ``decodes`` is as in :class:`SceneUnit`.
    """
    if not products:
        return []
    names = [str(product.name) for product in products]
    title = f"scene {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    known = {name: classified[name] for name in names if classified and name in classified}
    work = tuple((product, cells_near(name)) for name, product in zip(names, products, strict=True))
    return [SceneUnit(title, work, known, decodes)]


def cell_groups(cells: Sequence[Gridcell], bands: Sequence[str], workers: int) -> list[CellGroup]:
    """Phase 2: neighbouring cells with all bands, or, where cells alone leave workers idle, groups of bands."""
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


def bytes_to_read(products: Sequence[Product], bands: Sequence[str]) -> int:
    """Size of the images of ``bands`` and SCL that are there."""
    files = (file for product in products for file in band_files(product, (SCL, *bands), hashed=False).values())
    return sum(file.size for file in files if isinstance(file, BandFile))


def bytes_of_copies(products: Sequence[Described], cells: Sequence[Gridcell], bands: Sequence[str]) -> float:
    """Size of all decoded copies were there no cloud and none ever removed: two bytes a pixel of 20 m and band."""
    polygons = [cell.polygon for cell in cells]
    latitudes = shapely.bounds(polygons)[:, [1, 3]].mean(axis=1)
    pixels = shapely.area(polygons) * (_METRES_A_DEGREE / _PIXEL) ** 2 * np.cos(np.radians(latitudes))
    stops, near = CellsNear(cells).indices([product.footprint for product in products])
    sums = np.concatenate([[0.0], np.cumsum(pixels[near])])
    return float(2 * len(bands) * np.minimum(sums[stops[1:]] - sums[stops[:-1]], _GRANULE).sum())


def _limit(workers: int) -> int:
    return min(max(_UNITS_A_PHASE, 2 * workers), _MOST_UNITS)


def _chunks[T](items: Sequence[T], count: int) -> list[tuple[int, Sequence[T]]]:
    """``items`` cut into at most ``count`` runs of nearly the same length, each with the index of its first item."""
    count = min(count, len(items))
    starts = [index * len(items) // count for index in range(count + 1)] if count else [0]
    return [(start, items[start:stop]) for start, stop in pairwise(starts)]


def _title(noun: str, chunk: Sequence[Gridcell | Described], first: int, total: int) -> str:
    names = [item.cell_id if isinstance(item, Gridcell) else str(item.name) for item in chunk]
    if len(names) == 1:
        return f"{noun} {names[0]}"
    return f"{noun}s {first + 1}-{first + len(names)} of {total} ({names[0]} … {names[-1]})"


def describe(parameters: RunParameters, workers: int) -> str:
    """What a run would do, as text: cells, products by status, bytes, units of work. Nothing is written.

    Raises
    ------
    InputError, CdseError
        Where the input is bad, or CDSE's catalogue cannot be asked.
    """
    cells, bands = choose_gridcells(parameters), parameters.bands
    statuses: Counter[str]
    if not parameters.is_offline:
        found = query_products(parameters, cells, client.catalogue())
        statuses = Counter(candidate.status for candidate in found)
        products_found = [c.product for c in found if c.status == "selected" and c.product is not None]
        units = len(download_units(products_found, bands, DOWNLOADS))
        copies = bytes_of_copies(products_found, cells, bands)
        size = statuses["selected"] * (_BAND_BYTES * len(bands) + _SCL_BYTES) / 1e9
        amount = f"to download about {size:.1f} GB of {' '.join(bands)} and SCL"
        if parameters.scl_first:
            scl_size = statuses["selected"] * _SCL_BYTES / 1e9
            amount += f", less what need not come once SCL is there (first, {scl_size:.1f} GB)"
    else:
        candidates = select_products(parameters, cells)
        statuses = Counter(candidate.status for candidate in candidates)
        products = [c.product for c in candidates if c.status == "selected" and c.product is not None]
        units = len(scene_units(products, cells, workers))
        copies = bytes_of_copies(products, cells, bands)
        amount = f"to read     {bytes_to_read(products, bands) / 1e6:.1f} MB of {' '.join(bands)} and SCL"
    left_out = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()) if status != "selected")
    total = sum(statuses.values())
    return "\n".join(
        [
            f"gridcells   {len(cells)}",
            f"products    {statuses['selected']} of {total} found" + (f" ({left_out})" if left_out else ""),
            amount,
            f"decoded     at most {copies / 1e9:.2g} GB in tmp/, each copy until its last cell is done",
            f"composites  {len(cells) * len(bands)}",
            f"units       {units} of phase 1, {len(composite_units(cells, [], bands, workers))} of phase 2, "
            f"on {workers} workers",
        ]
    )
