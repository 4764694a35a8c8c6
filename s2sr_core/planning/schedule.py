"""In which order products are taken, and which cells can be composited as soon as some of them are done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.planning.units import CellGroup, CompositeUnit, PeriodShares
from s2sr_core.products.tiles import outline_of
from s2sr_core.scenes.scene import Scene
from s2sr_core.selection.near_cells import CellsNear, distinct
from s2sr_core.selection.observations import Observation

Indices = npt.NDArray[np.int64]


class Schedule:
    """Releases groups of cells as soon as no observation near them, in their periods, is awaited.

    Attributes
    ----------
    observations: in an order that releases one group after another: those near the first group come first.
    """

    def __init__(self, groups: Sequence[CellGroup], observations: Sequence[Observation]) -> None:
        self._groups, self._in_time = groups, PeriodShares(groups)
        self._cells = list({cell.cell_id: cell for group in groups for cell in group.cells}.values())
        self._numbers = {observation.key: number for number, observation in enumerate(observations)}
        self._stops, self._near = self._cells_near(observations)
        self._awaiting = self._groups_near(observations)
        self._awaited = Counter(number for numbers in self._awaiting.values() for number in numbers)
        self._free = [number for number in range(len(groups)) if not self._awaited[number]]

        def first_needed(observation: Observation) -> tuple[int, str]:
            return min(self._awaiting[observation.key], default=len(groups)), observation.key

        self.observations = sorted(observations, key=first_needed)

    def cells_near(self, observation: Observation) -> tuple[Gridcell, ...]:
        """The cells near an observation: where granules of its tile lie, and where footprints say."""
        number = self._numbers[observation.key]
        near = self._near[self._stops[number] : self._stops[number + 1]]
        return tuple(self._cells[index] for index in near.tolist())

    def _cells_near(self, observations: Sequence[Observation]) -> tuple[Indices, Indices]:
        """Where each observation's cells start and end, and the indices of the cells."""
        near, count = CellsNear(self._cells), len(self._cells)
        tiles = sorted({observation.tile for observation in observations})
        numbers = {tile: number for number, tile in enumerate(tiles)}
        stops, cells = near.indices([outline_of(tile) for tile in tiles])
        in_tile = np.array([numbers[observation.tile] for observation in observations], np.int64)
        owners, found = [np.repeat(np.arange(len(in_tile)), np.diff(stops)[in_tile])], [np.empty(0, np.int64)]
        found += [cells[stops[tile] : stops[tile + 1]] for tile in in_tile.tolist()]

        footprints = [observation.footprints for observation in observations]
        stops, cells = near.indices(list(chain(*footprints)))
        owner = np.repeat(np.arange(len(footprints)), list(map(len, footprints)))
        owners.append(np.repeat(owner, np.diff(stops)))
        found.append(cells)
        pairs = distinct(np.concatenate(owners) * max(count, 1) + np.concatenate(found))
        owner, cells = np.divmod(pairs, max(count, 1))
        return np.searchsorted(owner, np.arange(len(observations) + 1)), cells

    def _groups_near(self, observations: Sequence[Observation]) -> dict[str, list[int]]:
        """By the key of each observation, the numbers of the groups that have a cell near it and its time."""
        number_of = {cell.cell_id: number for number, cell in enumerate(self._cells)}
        group_of = np.full((len(self._in_time), len(self._cells)), -1, np.int64)
        for number, each in enumerate(self._groups):
            group_of[self._in_time.of_group(each), [number_of[cell.cell_id] for cell in each.cells]] = number
        found = [self._in_time.of_time(observation.sensing_time) for observation in observations]
        shares = np.array([-1 if share is None else share for share in found], np.int64)
        observation_of = np.repeat(np.arange(len(observations)), np.diff(self._stops))
        # One that is outside all periods, as a query of another window may have left it, is near no group.
        in_time = shares[observation_of] >= 0
        observation_of, cell_of = observation_of[in_time], self._near[in_time]
        pairs = distinct(observation_of * len(self._groups) + group_of[shares[observation_of], cell_of])
        observation, group = np.divmod(pairs, max(len(self._groups), 1))
        stops = np.searchsorted(observation, np.arange(len(self._numbers) + 1)).tolist()
        return {key: group[stops[n] : stops[n + 1]].tolist() for key, n in self._numbers.items()}

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
