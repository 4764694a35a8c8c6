"""In which order products are taken, and which cells can be composited as soon as some of them are done."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.planning.units import CellGroup, CompositeUnit
from s2sr_core.scenes.scene import Scene
from s2sr_core.selection.near_cells import CellsNear, distinct
from s2sr_core.sources.source import ProductDescription


class Schedule[P: ProductDescription]:
    """Releases groups of cells as soon as no product near them is awaited.

    Attributes
    ----------
    products: in an order that releases one group after another: those near the first group come first.
    """

    def __init__(self, groups: Sequence[CellGroup], products: Sequence[P]) -> None:
        self._groups = groups
        self._cells = [cell for group in groups for cell in group.cells]
        self._numbers = {str(product.name): number for number, product in enumerate(products)}
        outlines = [product.footprint for product in products]
        self._stops, self._near = CellsNear(self._cells).indices(outlines)
        self._awaiting = self._groups_near()
        self._awaited = Counter(number for numbers in self._awaiting.values() for number in numbers)
        self._free = [number for number in range(len(groups)) if not self._awaited[number]]
        self._scenes: defaultdict[str, list[Scene]] = defaultdict(list)

        def first_needed(product: P) -> tuple[int, str]:
            return min(self._awaiting[str(product.name)], default=len(groups)), str(product.name)

        self.products = sorted(products, key=first_needed)

    def cells_near(self, product: str) -> tuple[Gridcell, ...]:
        """The cells near the footprint of the product of that name."""
        number = self._numbers[product]
        near = self._near[self._stops[number] : self._stops[number + 1]]
        return tuple(self._cells[index] for index in near.tolist())

    def _groups_near(self) -> dict[str, list[int]]:
        """By the name of each product, the numbers of the groups that have a cell near it."""
        group_of = np.repeat(np.arange(len(self._groups)), [len(group.cells) for group in self._groups])
        product_of = np.repeat(np.arange(len(self._numbers)), np.diff(self._stops))
        pairs = distinct(product_of * len(self._groups) + group_of[self._near])
        product, group = np.divmod(pairs, max(len(self._groups), 1))
        stops = np.searchsorted(product, np.arange(len(self._numbers) + 1)).tolist()
        return {name: group[stops[n] : stops[n + 1]].tolist() for name, n in self._numbers.items()}

    def settle(self, product: str, scene: Scene | None = None) -> None:
        """``product`` is no longer awaited: it became ``scene``, or failed if that is None."""
        if scene is not None:
            for cell_id in scene.cells:
                self._scenes[cell_id].append(scene)
        for number in self._awaiting.pop(product, ()):
            self._awaited[number] -= 1
            if not self._awaited[number]:
                self._free.append(number)

    def units_ready(self, failed_products: Iterable[str]) -> list[CompositeUnit]:
        """Units of the groups released since the last call; they are given the names of ``failed_products``."""
        failed = frozenset(failed_products)
        units = [unit for number in self._free for unit in self._groups[number].units(self._scenes, failed)]
        self._free = []
        return units
