"""Which gridcells lie near the footprints of products."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import shapely
from shapely import MultiPolygon, Polygon
from shapely.affinity import translate

from s2sr_core.cells.gridcells import Gridcell

#: How far from a side of a footprint a cell may be and still count as near, degrees of latitude, because footprints are
#: inexact. Phase 1 then compares the cells with the outline of the raster itself.
_NEAR = 0.1


def distinct(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """``numbers`` sorted, each once. In numpy 2.5 ``np.unique`` took 9.3 s for 7.7 million pairs; this takes 0.1 s."""
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
        """Cells within :data:`_NEAR` of ``outline``; all if it is unknown."""
        return self.footprints([outline])[0]

    def footprints(self, outlines: Sequence[Polygon | MultiPolygon | None]) -> list[list[Gridcell]]:
        """The same for many outlines at once."""
        stops, cells = self.indices(outlines)
        return [self._array[cells[start:stop]].tolist() for start, stop in pairwise(stops)]

    def indices(
        self, outlines: Sequence[Polygon | MultiPolygon | None]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The same as two arrays: where each outline's cells start and end, and the indices of the cells."""
        parts, owners = shapely.get_parts(np.array(outlines, object), return_index=True)
        bounds = shapely.bounds(parts).reshape(-1, 4)
        near = _NEAR / np.maximum(np.cos(np.radians(np.abs(bounds[:, [1, 3]]).max(axis=1))), 0.05)
        # Cells on the other side of ±180 may be near too.
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
        """Pairs, outline × number of cells + cell, of cells that meet the outline grown by its distance on all sides.

        Corners stay corners, so cells a little farther from one are found as well. A distance of each pair would take
        twice the time, and hardly a pair would drop out.
        """
        if not len(outlines):
            return np.empty(0, np.int64)
        grown = shapely.buffer(outlines, distances, quad_segs=1, join_style="mitre")
        owners, cells = self._tree.query(grown, "intersects")
        pairs: npt.NDArray[np.int64] = owners * len(self._cells) + cells
        return pairs

    def any(self, outlines: Sequence[Polygon | MultiPolygon | None]) -> list[bool]:
        """Whether any cell is near, for each outline: a cell that contains its first point is found fastest."""
        array = np.array(outlines, object)
        coordinates, owners = shapely.get_coordinates(array, return_index=True)
        first = np.searchsorted(owners, np.arange(len(outlines)))
        known = np.flatnonzero(shapely.get_num_coordinates(array) > 0)
        found, _ = self._tree.query(shapely.points(coordinates[first[known]]), "intersects")
        near = np.zeros(len(outlines), bool)
        near[known[found]] = True
        rest = np.flatnonzero(~near)
        stops, _ = self.indices(array[rest].tolist())
        near[rest] = np.diff(stops) > 0
        return near.tolist()
