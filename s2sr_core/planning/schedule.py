"""In which order products are taken, and which cells can be composited as soon as some of them are done."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.planning.units import CellGroup, CompositeUnit
from s2sr_core.products.tiles import outline_of
from s2sr_core.scenes.scene import Scene
from s2sr_core.selection.near_cells import CellsNear, distinct
from s2sr_core.selection.observations import Observation

Indices = npt.NDArray[np.int64]


class Schedule:
    """Releases groups of cells as soon as no observation near them is awaited.

    Attributes
    ----------
    observations: in an order that releases one group after another: those near the first group come first.
    """

    def __init__(self, groups: Sequence[CellGroup], observations: Sequence[Observation]) -> None:
        self._groups = groups
        self._cells = [cell for group in groups for cell in group.cells]
        self._numbers = {observation.key: number for number, observation in enumerate(observations)}
        self._stops, self._near = self._cells_near(observations)
        self._awaiting = self._groups_near()
        self._awaited = Counter(number for numbers in self._awaiting.values() for number in numbers)
        self._free = [number for number in range(len(groups)) if not self._awaited[number]]
        self._scenes: defaultdict[str, list[Scene]] = defaultdict(list)

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

    def _groups_near(self) -> dict[str, list[int]]:
        """By the key of each observation, the numbers of the groups that have a cell near it."""
        group_of = np.repeat(np.arange(len(self._groups)), [len(group.cells) for group in self._groups])
        observation_of = np.repeat(np.arange(len(self._numbers)), np.diff(self._stops))
        pairs = distinct(observation_of * len(self._groups) + group_of[self._near])
        observation, group = np.divmod(pairs, max(len(self._groups), 1))
        stops = np.searchsorted(observation, np.arange(len(self._numbers) + 1)).tolist()
        return {key: group[stops[n] : stops[n + 1]].tolist() for key, n in self._numbers.items()}

    def settle(self, observation: Observation, scenes: Sequence[Scene] = ()) -> None:
        """``observation`` is no longer awaited: these are the scenes of it that are used."""
        for scene in scenes:
            for cell_id in scene.cells:
                self._scenes[cell_id].append(scene)
        for number in self._awaiting.pop(observation.key, ()):
            self._awaited[number] -= 1
            if not self._awaited[number]:
                self._free.append(number)

    def units_ready(self, failed_products: Iterable[str]) -> list[CompositeUnit]:
        """Units of the groups released since the last call; they are given the names of ``failed_products``."""
        failed = frozenset(failed_products)
        units = [unit for number in self._free for unit in self._groups[number].units(self._scenes, failed)]
        self._free = []
        return units
