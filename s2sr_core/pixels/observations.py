"""Observations: the values of scenes at the pixels of a window, as statistics see them.

A scene is an observation of its own or, if a run groups by datatake, a part of one: where tiles of one pass overlap,
they show the same light, and count once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from s2sr_core.pixels.rules import SCENE_NODATA, BoolArray, UInt16Array

IntArray = npt.NDArray[np.integer[Any]]

Sort = Callable[[UInt16Array], UInt16Array]
"""Sorts along the first axis."""


def numpy_sort(values: UInt16Array) -> UInt16Array:
    """Sorted along the first axis by numpy."""
    result: UInt16Array = np.sort(values, axis=0)
    return result


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Acquisitions:
    """When the scenes of a stack were sensed; both tuples have an entry for each scene, in the order of the stack.

    Attributes
    ----------
    days: of sensing (UTC), since 1970-01-01.
    passes: scenes with the same number are parts of one observation; at a pixel, the first that is valid counts.
    """

    days: tuple[int, ...]
    passes: tuple[int, ...]

    @classmethod
    def of(cls, scenes: Sequence[tuple[datetime, str]]) -> Self:
        """Of scenes with these sensing times; those that name the same observation are parts of it."""
        numbers: dict[str, int] = {}
        passes = tuple(numbers.setdefault(observation, len(numbers)) for _, observation in scenes)
        return cls(tuple((time - _EPOCH).days for time, _ in scenes), passes)

    def at(self, places: Sequence[int]) -> Self:
        """Of some of the scenes."""
        return type(self)(tuple(self.days[place] for place in places), tuple(self.passes[place] for place in places))

    def arguments(self) -> dict[str, str]:
        """As arguments of a pixel function."""
        return {"days": " ".join(map(str, self.days)), "passes": " ".join(map(str, self.passes))}

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, str]) -> Self:
        """The inverse of :meth:`arguments`; there may be others among them."""
        return cls(tuple(map(int, arguments["days"].split())), tuple(map(int, arguments["passes"].split())))

    def observations(self, values: UInt16Array, sort: Sort = numpy_sort) -> Observations:
        """What the scenes observed; ``values`` as in :class:`Observations`, scenes first."""
        firsts: dict[int, int] = {}
        parts: list[tuple[int, int]] = []
        for place, number in enumerate(self.passes):
            if firsts.setdefault(number, place) != place:
                parts.append((firsts[number], place))
        if parts:
            values = values.copy()
            for first, part in parts:
                np.copyto(values[first], values[part], where=values[first] == SCENE_NODATA)
            values = values[list(firsts.values())]
        return Observations(values, tuple(self.days[place] for place in firsts.values()), sort)


class Observations:
    """The values of a window's pixels.

    Attributes
    ----------
    values: UInt16, nodata 65535 (``SCENE_NODATA``), observations × rows × columns; for statistics over several bands
        observations × bands × rows × columns, and then valid in all bands or in none.
    days: of each observation, since 1970-01-01. They are in the order of time and, at the same time, of product names.
    """

    def __init__(self, values: UInt16Array, days: Sequence[int] = (), sort: Sort = numpy_sort) -> None:
        self.values, self.days, self._sort = values, np.array(days or [0] * len(values), np.int64), sort

    @cached_property
    def valid(self) -> BoolArray:
        """Observations × rows × columns."""
        result: BoolArray = (self.values if self.values.ndim == 3 else self.values[:, 0]) != SCENE_NODATA
        return result

    @cached_property
    def count(self) -> UInt16Array:
        """Valid observations of each pixel, rows × columns."""
        counts: UInt16Array = np.count_nonzero(self.valid, axis=0).astype(np.uint16)
        return counts

    @cached_property
    def ordered(self) -> Ordered:
        """The values of a band by size."""
        return Ordered(self._sort(self.values), self.count)

    def of_valid(self, numbers: IntArray) -> Observations:
        """Numbers of 0 … 65534, one for each observation, where its value is valid."""
        numbers = numbers.astype(np.uint16)[:, None, None]
        return Observations(np.where(self.valid, numbers, np.uint16(SCENE_NODATA)), sort=self._sort)


@dataclass(frozen=True, slots=True)
class Ordered:
    """Values of each pixel by size.

    Attributes
    ----------
    values: observations × rows × columns, the valid ones first.
    count: of the valid ones, rows × columns. Where it is 0, what the methods return means nothing.
    """

    values: IntArray
    count: UInt16Array

    def at(self, rank: IntArray) -> npt.NDArray[np.int64]:
        """The value of this rank, from 0, of each pixel."""
        within = np.clip(rank, 0, len(self.values) - 1)[None]
        values: npt.NDArray[np.int64] = np.take_along_axis(self.values, within, axis=0)[0].astype(np.int64)
        return values

    def twice_the_median(self) -> npt.NDArray[np.int64]:
        """The sum of the two values in the middle; of an odd number they are the same."""
        count = self.count.astype(np.int64)
        return self.at((count - 1) // 2) + self.at(count // 2)

    def hundred_percentiles(self, percent: int) -> npt.NDArray[np.int64]:
        """A hundred times the percentile, which is thus a whole number.

        It lies at (n − 1) · percent / 100 of the n values in order, counted from 0, on the straight line between
        the two next to that (type 7 of Hyndman & Fan 1996, numpy's ``linear``).
        """
        place = (self.count.astype(np.int64) - 1) * percent
        low, share = place // 100, place % 100
        lower, upper = self.at(low), self.at(low + 1)
        return np.where(share == 0, 100 * lower, (100 - share) * lower + share * upper)


def days_of_year(days: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Days since 1970-01-01 as days of their year, 1 … 366."""
    dates = [_EPOCH + timedelta(days=day) for day in days.tolist()]
    return np.array([date.timetuple().tm_yday for date in dates], np.int64)


def jointly_valid(bands: Sequence[UInt16Array]) -> UInt16Array:
    """Bands of scenes × rows × columns as scenes × bands × rows × columns.

    Where a scene lacks a value in one band, it has none in the others either.
    """
    values = np.stack(bands, axis=1)
    lacking = (values == SCENE_NODATA).any(axis=1)
    np.copyto(values, np.uint16(SCENE_NODATA), where=lacking[:, None])
    return values
