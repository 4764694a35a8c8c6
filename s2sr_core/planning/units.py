"""Units of work: what one task covers, and how a run is cut into them.

Units are plain classes: Prefect would walk through all that a dataclass, a list or a tuple holds, for each task.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from math import isqrt
from pathlib import Path
from types import MappingProxyType
from typing import Any

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import Outcome
from s2sr_core.periods import ALWAYS, Period, period_of, span_of
from s2sr_core.scenes.scene import Scene
from s2sr_core.selection.line import Line
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
#: At the end of the titles of units that are composited again.
_AGAIN = " with substitutes"


class DownloadUnit:
    """Products that one task downloads from ``source``: SCL and ``bands``; ``title`` says which.

    ``occupancies`` are the files that say which pixels of each product count, None where that is not known.
    """

    __slots__ = ("bands", "occupancies", "products", "source", "title")

    def __init__(
        self,
        title: str,
        source: Source[Any],
        products: tuple[ProductDescription, ...],
        bands: tuple[str, ...],
        occupancies: tuple[Path | None, ...],
    ) -> None:
        self.title = title
        self.source = source
        self.products = products
        self.bands = bands
        self.occupancies = occupancies


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
    """What one task of phase 2 composites: cells, each with its scenes, bands and periods; ``title`` says which.

    ``failed_products`` are names of products that could not be used. ``lines`` are products that may take the place of
    scenes whose image cannot be decoded, for composites that were postponed for lack of them.
    """

    __slots__ = ("bands", "cells", "failed_products", "lines", "periods", "title")

    def __init__(
        self,
        title: str,
        cells: tuple[tuple[Gridcell, tuple[Scene, ...]], ...],
        bands: tuple[str, ...],
        periods: tuple[Period, ...],
        failed_products: frozenset[str] = frozenset(),
        lines: Mapping[str, tuple[Contender, ...]] = MappingProxyType({}),
    ) -> None:
        self.title = title
        self.cells = cells
        self.bands = bands
        self.periods = periods
        self.failed_products = failed_products
        self.lines = dict(lines)


class CellGroup:
    """Neighbouring cells that are composited together, in one unit or, by groups of ``bands``, in a few.

    ``periods`` are some that follow one another.
    """

    __slots__ = ("bands", "cells", "periods", "title")

    def __init__(
        self,
        title: str,
        cells: tuple[Gridcell, ...],
        bands: tuple[tuple[str, ...], ...],
        periods: tuple[Period, ...],
    ) -> None:
        self.title = title
        self.cells = cells
        self.bands = bands
        self.periods = periods

    def units(
        self, scenes: Mapping[str, Sequence[Scene]], failed_products: frozenset[str] = frozenset()
    ) -> list[CompositeUnit]:
        """Its units; ``scenes`` of its periods, by the ids of the cells they touch."""
        work = tuple((cell, tuple(scenes.get(cell.cell_id, ()))) for cell in self.cells)
        return [
            CompositeUnit(f"{self.title} {' '.join(bands)}", work, bands, self.periods, failed_products)
            for bands in self.bands
        ]


class PeriodShares:
    """The shares into which groups divide the periods of a run, and the scenes of each, by the cells they touch."""

    def __init__(self, groups: Sequence[CellGroup]) -> None:
        shares = list(dict.fromkeys(group.periods for group in groups))
        self._periods = [period for share in shares for period in share]
        self._numbers = {period.label: number for number, share in enumerate(shares) for period in share}
        self._scenes: list[defaultdict[str, list[Scene]]] = [defaultdict(list) for _ in shares]

    def __len__(self) -> int:
        return len(self._scenes)

    def of_group(self, group: CellGroup) -> int:
        """The number of a group's share, from 0."""
        return self._numbers[group.periods[0].label]

    def of_time(self, sensing_time: datetime) -> int | None:
        """The number of the share in which a sensing time lies; None if it is outside all periods."""
        period = period_of(sensing_time, self._periods)
        return None if period is None else self._numbers[period.label]

    def add(self, scene: Scene) -> None:
        """Take note of a scene that is used."""
        if (number := self.of_time(scene.product.name.sensing_time)) is not None:
            scenes = self._scenes[number]
            for cell_id in scene.cells:
                scenes[cell_id].append(scene)

    def units(self, group: CellGroup, failed_products: frozenset[str] = frozenset()) -> list[CompositeUnit]:
        """The units of a group, with the scenes that are known by now."""
        return group.units(self._scenes[self.of_group(group)], failed_products)


def download_unit(
    source: Source[Any],
    products: Sequence[ProductDescription],
    bands: Sequence[str],
    occupancies: Sequence[Path | None] | None = None,
) -> DownloadUnit:
    """One unit of these products, at least one; without ``bands``, SCL alone."""
    title = _title("product" if bands else "SCL of product", [str(product.name) for product in products])
    return DownloadUnit(title, source, tuple(products), tuple(bands), tuple(occupancies or [None] * len(products)))


def scene_unit(
    observations: Sequence[tuple[Sequence[Contender], tuple[Gridcell, ...]]], *, decodes: bool = False
) -> SceneUnit:
    """One unit of phase 1 of these observations, at least one; ``decodes`` is as in :class:`SceneUnit`."""
    there = [contender.title for contenders, _ in observations for contender in contenders if contender.product]
    work = tuple((tuple(contenders), cells) for contenders, cells in observations)
    return SceneUnit(_title("scene", there), work, decodes)


def cell_groups(
    cells: Sequence[Gridcell],
    bands: Sequence[str],
    workers: int,
    periods: Sequence[Period] = (ALWAYS,),
    *,
    together: bool = False,
) -> list[CellGroup]:
    """Phase 2: neighbouring cells with all bands or, if these alone would leave workers idle, groups of bands.

    One period comes after the other, each with all cells, so that the scenes of one can be forgotten before those of
    the next are needed. Of many periods, some in a row are taken together: so many that cells are not left in a few
    large groups, because what a process knows of a cell serves all dates.

    ``together``: bands are not divided, because each unit would compute all of them.
    """
    groups = 1 if together else min(len(bands), -(-2 * workers // (len(cells) * len(periods))))
    bands_of, most = tuple(map(tuple, shares(bands, groups))), max(most_units(workers) // groups, 1)
    in_time = shares(periods, max(most // len(cells), isqrt(most)))
    in_space = shares(cells, max(most // len(in_time), 1))
    titles = _cell_titles(in_space)
    return [
        CellGroup(f"{title} {span_of(some)}".rstrip(), tuple(share), bands_of, tuple(some))
        for some in in_time
        for title, share in zip(titles, in_space, strict=True)
    ]


def _cell_titles(in_space: Sequence[Sequence[Gridcell]]) -> list[str]:
    """``cell a`` or ``cells 1-3 of 750 (a … c)`` for each share of the cells."""
    titles, first, count = [], 1, sum(map(len, in_space))
    for share in in_space:
        title, last = f"cell {share[0].cell_id}", first + len(share) - 1
        if len(share) > 1:
            title = f"cells {first}-{last} of {count} ({share[0].cell_id} … {share[-1].cell_id})"
        titles.append(title)
        first = last + 1
    return titles


def composite_units(
    cells: Sequence[Gridcell],
    scenes: Sequence[Scene],
    bands: Sequence[str],
    workers: int,
    periods: Sequence[Period] = (ALWAYS,),
    *,
    together: bool = False,
) -> list[CompositeUnit]:
    """Phase 2 of all cells, once all scenes are prepared; see :func:`cell_groups`."""
    groups = cell_groups(cells, bands, workers, periods, together=together)
    in_time = PeriodShares(groups)
    for scene in scenes:
        in_time.add(scene)
    return [unit for group in groups for unit in in_time.units(group)]


def postponed_units(
    unit: CompositeUnit, outcomes: Sequence[Outcome], line_of: Mapping[str, Line]
) -> Iterator[CompositeUnit]:
    """The units of composites of ``unit`` that were postponed, with the products that they need.

    ``line_of`` finds the line of a product.
    """
    lines = list(dict.fromkeys(line_of[error.product] for outcome in outcomes for error in outcome.left_out))
    contenders = dict(unit.lines)
    for line in lines:
        there = line.substitutes()
        contenders |= dict.fromkeys((each.title for each in there), there)
    bands_of: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for outcome in outcomes:
        bands_of[outcome.period, outcome.cell_id].append(outcome.band)
    groups: defaultdict[tuple[str, tuple[str, ...]], set[str]] = defaultdict(set)
    for (label, cell_id), several in bands_of.items():
        groups[label, tuple(several)].add(cell_id)
    for (label, bands), cell_ids in groups.items():
        cells = tuple((cell, scenes) for cell, scenes in unit.cells if cell.cell_id in cell_ids)
        periods = tuple(period for period in unit.periods if period.label == label)
        title = f"{unit.title.removesuffix(_AGAIN)}{_AGAIN}"
        yield CompositeUnit(title, cells, bands, periods, unit.failed_products, contenders)


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
