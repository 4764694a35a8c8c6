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
#: Outlines that are looked at together; each may be near some hundred cells.
_BATCH = 4096


def distinct(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """``numbers`` sorted, each once. In numpy 2.5 ``np.unique`` took 9.3 s for 7.7 million pairs; this takes 0.1 s."""
    ordered = np.sort(numbers)
    result: npt.NDArray[np.int64] = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])[: len(ordered)]]
    return result


def taken(
    stops: npt.NDArray[np.int64], values: npt.NDArray[np.int32], numbers: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Of owners that each have some of ``values``, those that ``numbers`` names: where theirs start and end, and they.

    Owner ``n`` has the values from ``stops[n]`` to ``stops[n + 1]``.
    """
    counts = np.diff(stops)[numbers]
    new_stops = np.concatenate([[0], np.cumsum(counts)])
    moved = np.repeat(stops[numbers] - new_stops[:-1], counts)
    return new_stops, values[moved + np.arange(len(moved))]


class CellsNear:
    """Finds the cells near footprints in a spatial index."""

    def __init__(self, cells: Sequence[Gridcell]) -> None:
        self._cells = cells
        self._array = np.array(cells, object)
        self._polygons = np.array([cell.polygon for cell in cells], object)
        self._tree = shapely.STRtree(self._polygons)

    def footprint(self, outline: Polygon | MultiPolygon | None) -> list[Gridcell]:
        """Cells within :data:`_NEAR` of ``outline``; all if it is unknown."""
        return self.footprints([outline])[0]

    def footprints(self, outlines: Sequence[Polygon | MultiPolygon | None]) -> list[list[Gridcell]]:
        """The same for many outlines at once."""
        stops, cells = self.indices(outlines)
        return [self._array[cells[start:stop]].tolist() for start, stop in pairwise(stops)]

    def indices(
        self, outlines: Sequence[Polygon | MultiPolygon | None]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """The same as two arrays: where each outline's cells start and end, and the indices of the cells.

        Outlines that are the same, as those of whole granules of a tile mostly are, are looked at once.
        """
        array = np.array(outlines, object)
        places: dict[bytes | None, int] = {}  # of each text among the distinct ones
        numbers = np.array([places.setdefault(wkb, len(places)) for wkb in shapely.to_wkb(array).tolist()], np.int64)
        different = array[np.unique(numbers, return_index=True)[1]]
        found = [self._near(different[start : start + _BATCH]) for start in range(0, len(different), _BATCH)]
        counts = np.concatenate([np.empty(0, np.int64), *(count for count, _ in found)])
        cells = np.concatenate([np.empty(0, np.int32), *(cells for _, cells in found)])
        return taken(np.concatenate([[0], np.cumsum(counts)]), cells, numbers)

    def _near(self, outlines: npt.NDArray[np.object_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """How many cells are near each outline, and the indices of the cells."""
        parts, owners = shapely.get_parts(outlines, return_index=True)
        bounds = shapely.bounds(parts).reshape(-1, 4)
        near = _NEAR / np.maximum(np.cos(np.radians(np.abs(bounds[:, [1, 3]]).max(axis=1))), 0.05)
        # Cells on the other side of ±180 may be near too.
        beyond = np.flatnonzero((bounds[:, 0] - near < -180.0) | (bounds[:, 2] + near > 180.0)).tolist()
        turned = [translate(parts[index], 360.0 if bounds[index, 0] < 0 else -360.0) for index in beyond]
        count = len(self._cells)
        unknown = np.flatnonzero(shapely.is_missing(outlines))
        pairs = [(unknown[:, None] * count + np.arange(count)).ravel()]
        for some, indices in ((parts, slice(None)), (np.array(turned, object), beyond)):
            found, cells = self._within(some, near[indices])
            pairs.append(owners[indices][found] * count + cells)
        owner, cell = np.divmod(distinct(np.concatenate(pairs)), max(count, 1))
        return np.bincount(owner, minlength=len(outlines)), cell.astype(np.int32)

    def _within(self, outlines: npt.NDArray[np.object_], distances: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Pairs, as two rows of indices of outlines and of cells: cells that meet an outline grown by its distance.

        Corners stay corners, so cells a little farther from one are found as well. A distance of each pair would take
        twice the time, and hardly a pair would drop out.
        """
        grown = shapely.buffer(outlines, distances, quad_segs=1, join_style="mitre")
        shapely.prepare(grown)
        # All pairs at once take two thirds of the time that the tree takes with a predicate.
        pairs: npt.NDArray[np.int64] = self._tree.query(grown)
        owners, cells = pairs
        return pairs[:, shapely.intersects(grown[owners], self._polygons[cells])]

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
