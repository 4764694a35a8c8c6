"""In which order products are taken, and which cells can be composited as soon as some of them are done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import batched, chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.garbage import seldom_collected
from s2sr_core.planning.units import CellGroup, CompositeUnit, PeriodShares
from s2sr_core.products.tiles import outline_of
from s2sr_core.scenes.scene import Scene
from s2sr_core.selection.near_cells import CellsNear, distinct, taken
from s2sr_core.selection.observations import Observation

Indices = npt.NDArray[np.integer[Any]]
#: Observations that are looked at together: each may be near hundreds of cells.
_BATCH = 4096


class Schedule:
    """Releases groups of cells as soon as no observation near them, in their periods, is awaited.

    Attributes
    ----------
    observations: in an order that releases one group after another: those near the first group come first.
    """

    @seldom_collected()
    def __init__(self, groups: Sequence[CellGroup], observations: Sequence[Observation]) -> None:
        self._groups, self._in_time = groups, PeriodShares(groups)
        self._cells = list({cell.cell_id: cell for group in groups for cell in group.cells}.values())
        self._near: dict[str, Indices] = {}
        self._awaiting: dict[str, list[int]] = {}
        near, group_of = CellsNear(self._cells), self._group_of_cells()
        # Those of a tile together, because their outlines are much the same.
        for some in batched(sorted(observations, key=lambda observation: observation.tile), _BATCH):
            keys = [observation.key for observation in some]
            pairs = self._cells_near(near, some)
            self._near |= zip(keys, _parted(*pairs, len(some)), strict=True)
            awaiting = _parted(*self._groups_near(group_of, some, *pairs), len(some))
            self._awaiting |= zip(keys, (numbers.tolist() for numbers in awaiting), strict=True)
        self._awaited = Counter(chain.from_iterable(self._awaiting.values()))
        self._free = [number for number in range(len(groups)) if not self._awaited[number]]

        def first_needed(observation: Observation) -> tuple[int, str]:
            return min(self._awaiting[observation.key], default=len(groups)), observation.key

        self.observations = sorted(observations, key=first_needed)

    def cells_near(self, observation: Observation) -> tuple[Gridcell, ...]:
        """The cells near an observation: where granules of its tile lie, and where footprints say."""
        return tuple(self._cells[index] for index in self._near[observation.key].tolist())

    def _cells_near(self, near: CellsNear, observations: Sequence[Observation]) -> tuple[Indices, Indices]:
        """Pairs, in order: the number of an observation, and the index of a cell near it."""
        tiles = {tile: number for number, tile in enumerate(dict.fromkeys(each.tile for each in observations))}
        footprints = [observation.footprints for observation in observations]
        outlines = [*map(outline_of, tiles), *chain.from_iterable(footprints)]
        numbers = [*(tiles[each.tile] for each in observations), *range(len(tiles), len(outlines))]
        stops, cells = taken(*near.indices(outlines), np.array(numbers, np.int64))
        owners = np.arange(len(observations))
        owners = np.concatenate([owners, np.repeat(owners, list(map(len, footprints)))])
        count = max(len(self._cells), 1)
        observation, cell = np.divmod(distinct(np.repeat(owners, np.diff(stops)) * count + cells), count)
        return observation, cell.astype(np.int32)

    def _group_of_cells(self) -> Indices:
        """The number of the group of each cell in each share of the periods (shares × cells), -1 if there is none."""
        number_of = {cell.cell_id: number for number, cell in enumerate(self._cells)}
        group_of = np.full((len(self._in_time), len(self._cells)), -1, np.int64)
        for number, each in enumerate(self._groups):
            group_of[self._in_time.of_group(each), [number_of[cell.cell_id] for cell in each.cells]] = number
        return group_of

    def _groups_near(
        self, group_of: Indices, observations: Sequence[Observation], observation: Indices, cell: Indices
    ) -> tuple[Indices, Indices]:
        """Pairs like those of cells: the number of an observation, and that of a group near it and of its time."""
        found = [self._in_time.of_time(each.sensing_time) for each in observations]
        shares = np.array([-1 if share is None else share for share in found], np.int64)[observation]
        # One that is outside all periods, as a query of another window may have left it, is near no group.
        in_time = shares >= 0
        groups, count = group_of[shares[in_time], cell[in_time]], max(len(self._groups), 1)
        near, group = np.divmod(distinct(observation[in_time] * count + groups), count)
        return near, group

    def settle(self, observation: Observation, scenes: Sequence[Scene] = ()) -> None:
        """``observation`` is no longer awaited: these are the scenes of it that are used."""
        for scene in scenes:
            self._in_time.add(scene)
        for number in self._awaiting.pop(observation.key, ()):
            self._awaited[number] -= 1
            if not self._awaited[number]:
                self._free.append(number)

    def units_ready(self, failed_products: Iterable[str]) -> list[CompositeUnit]:
        """Units of the groups released since the last call; they are given the names of ``failed_products``."""
        failed = frozenset(failed_products)
        units = [unit for number in self._free for unit in self._in_time.units(self._groups[number], failed)]
        self._free = []
        return units


def _parted(owners: Indices, values: Indices, count: int) -> list[Indices]:
    """The values of each of ``count`` owners; ``owners`` are in order."""
    stops = np.searchsorted(owners, np.arange(count + 1)).tolist()
    return [values[start:stop] for start, stop in pairwise(stops)]
