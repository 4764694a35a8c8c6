"""Statistics: what the values of many scenes at one pixel become.

The median is one of them, the count another. A new statistic is one module: it makes a :class:`Statistic` and calls
:func:`register`. Its name then stands in file names, records, VRTs and band descriptions, and both engines compute it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from s2sr_core.pixels.observations import (
    Acquisitions,
    Observations,
    Ordered,
    Sort,
    days_of_year,
    jointly_valid,
    numpy_sort,
)
from s2sr_core.pixels.rules import COMPOSITE_NODATA, SCENE_NODATA, UInt16Array
from s2sr_core.pixels.statistic_names import percent_of

Array = npt.NDArray[Any]

#: Unit of harmonised DN, and their factor: values times this are reflectance.
DN_UNIT, DN_SCALE = "reflectance x 10000", 0.0001
DAY_OF_YEAR_UNIT = "day of year"


@dataclass(frozen=True, slots=True)
class Statistic:
    """A value per pixel, computed from the values of all scenes.

    Attributes
    ----------
    name: lower case letters, digits and ``_``; it becomes part of file names.
    dtype: of the result, a type that GeoTIFF knows.
    compute: from observations to rows × columns or, if it is ``joint``, bands × rows × columns; what it gives where too
        few values are valid (:attr:`min_count`) does not matter.
    nodata: of its files; what lies outside the cell.
    empty: where the cell has a pixel and too few values are valid.
    description: of the band of its files; ``{band}`` stands for the band, ``{name}`` for the statistic.
    overviews: how GDAL resamples its overviews.
    unit: of the values, as its files name it; :data:`DN_UNIT` if they are DN.
    joint: whether it is computed of all bands of a run together.
    min_count: how many values must be valid. 0 means that it says something also where there is none, as the count
        does; no run changes that.
    """

    name: str
    dtype: npt.DTypeLike
    compute: Callable[[Observations], Array]
    nodata: float = COMPOSITE_NODATA
    empty: float = COMPOSITE_NODATA
    description: str = "{band} {name}"
    overviews: Literal["AVERAGE", "NEAREST"] = "AVERAGE"
    unit: str = DN_UNIT
    joint: bool = False
    min_count: int = 1

    @property
    def outside(self) -> np.generic:
        """:attr:`nodata` as a value of :attr:`dtype`."""
        return np.dtype(self.dtype).type(self.nodata)  # type: ignore[call-overload]

    def requiring(self, min_count: int) -> Self:
        """The same statistic of at least so many values."""
        return replace(self, min_count=max(min_count, self.min_count)) if self.min_count else self

    def describe(self, band: str) -> str:
        """The description of its files' band."""
        return self.description.format(band=band, name=self.name)

    def filled(self, shape: tuple[int, int]) -> Array:
        """What it is where no scene has a value, rows × columns."""
        return np.full(shape, self.empty, self.dtype)

    def of(self, observations: Observations) -> Array:
        """The statistic, of ``dtype``, :attr:`empty` where too few values are valid."""
        result = self.compute(observations).astype(self.dtype, copy=False)
        return self.where_enough(result, observations.count) if self.min_count else result

    def where_enough(self, result: Array, count: UInt16Array) -> Array:
        """``result``, and :attr:`empty` where ``count`` says that too few values are valid."""
        result[..., count < self.min_count] = self.empty
        return result


def compute_all(
    statistics: Sequence[Statistic],
    bands: Sequence[UInt16Array],
    acquisitions: Acquisitions,
    sort: Sort = numpy_sort,
) -> list[tuple[Array, ...]]:
    """All statistics, in their order, of each of ``bands`` (scenes × rows × columns, UInt16, nodata 65535).

    ``sort`` sorts along the first axis, as numpy does.
    """
    found: list[dict[str, Array]] = [{} for _ in bands]
    if any(not statistic.joint for statistic in statistics):
        for values, of_band in zip(bands, found, strict=True):
            observations = acquisitions.observations(values, sort)
            of_band |= {each.name: each.of(observations) for each in statistics if not each.joint}
    if joint := [statistic for statistic in statistics if statistic.joint]:
        observations = acquisitions.observations(jointly_valid(bands), sort)
        for statistic in joint:
            for of_band, result in zip(found, statistic.of(observations), strict=True):
                of_band[statistic.name] = result
    return [tuple(of_band[statistic.name] for statistic in statistics) for of_band in found]


# ------------------------------------------------------------------------------------------------------- known by name

_STATISTICS: dict[str, Statistic] = {}


def register(statistic: Statistic) -> Statistic:
    """Make ``statistic`` known by its name, as VRTs call it.

    Raises
    ------
    ValueError
        If the name is not one that file names can hold, or another statistic has it.
    """
    if not (statistic.name.isidentifier() and statistic.name.islower()):
        raise ValueError(f"{statistic.name!r} cannot name a statistic; use lower case letters, digits and _")
    if _STATISTICS.setdefault(statistic.name, statistic) != statistic:
        raise ValueError(f"there already is a statistic {statistic.name!r}; give the new one another name")
    return statistic


def statistic_of(name: str) -> Statistic:
    """The statistic of this name in files; ``p0`` … ``p100`` are percentiles.

    Raises
    ------
    KeyError
        If none was registered.
    """
    if name not in _STATISTICS and (percent := percent_of(name)) is not None:
        return _STATISTICS.setdefault(name, _percentile(name, percent))
    return _STATISTICS[name]


# -------------------------------------------------------------------------------------------------- values of one band


def _median(ordered: Ordered) -> Array:
    """Of an even number of values, the mean of the two in the middle: in steps of 0.5, which Float32 holds exactly."""
    return ordered.twice_the_median() / 2


def _percentile(name: str, percent: int) -> Statistic:
    return Statistic(
        name,
        np.float32,
        lambda observations: observations.ordered.hundred_percentiles(percent) / 100,
        description=f"{{band}} percentile {percent}",
    )


def _mean(observations: Observations) -> Array:
    """A sum of whole numbers, divided in Float64."""
    total = np.where(observations.valid, observations.values, np.uint16(0)).sum(axis=0, dtype=np.int64)
    return total / np.maximum(observations.count, 1)


def _median_absolute_deviation(observations: Observations) -> Array:
    """Unscaled: the median of the distances from the median, in steps of 0.25."""
    ordered = observations.ordered
    distances = np.abs(2 * ordered.values.astype(np.int32) - ordered.twice_the_median().astype(np.int32))
    invalid = np.arange(len(distances))[:, None, None] >= ordered.count
    distances[invalid] = np.iinfo(np.int32).max
    distances.sort(axis=0)
    return Ordered(distances, ordered.count).twice_the_median() / 4


def _interquartile_range(observations: Observations) -> Array:
    ordered = observations.ordered
    return (ordered.hundred_percentiles(75) - ordered.hundred_percentiles(25)) / 100


# --------------------------------------------------------------------------------------------- dates of the valid ones


def _median_day_of_year(observations: Observations) -> Array:
    return _median(observations.of_valid(days_of_year(observations.days)).ordered)


def _first_day(observations: Observations) -> Array:
    return observations.of_valid(observations.days).values.min(axis=0)


def _last_day(observations: Observations) -> Array:
    return np.where(observations.valid, observations.days[:, None, None], 0).max(axis=0)


# ------------------------------------------------------------------------------------- all bands together, compiled


def _medoid(observations: Observations) -> Array:
    from s2sr_core.pixels import multiband  # numba, which other statistics do without

    return multiband.medoid(observations.values)


def _geomedian(observations: Observations) -> Array:
    from s2sr_core.pixels import multiband

    return multiband.geomedian(observations.values)


MEDIAN = Statistic("median", np.float32, lambda observations: _median(observations.ordered), description="{band}")
COUNT = Statistic(
    "count",
    np.uint16,
    lambda observations: observations.count,
    nodata=SCENE_NODATA,
    empty=0,
    description="{band} count of values",
    overviews="NEAREST",
    unit="values",
    min_count=0,
)
_OTHERS = (
    Statistic("mean", np.float32, _mean),
    Statistic("medoid", np.float32, _medoid, joint=True),
    Statistic("geomedian", np.float32, _geomedian, joint=True),
    Statistic(
        "mad", np.float32, _median_absolute_deviation, description="{band} median absolute deviation from the median"
    ),
    Statistic("iqr", np.float32, _interquartile_range, description="{band} interquartile range"),
    Statistic(
        "doy",
        np.float32,
        _median_day_of_year,
        description="{band} median day of year of the valid values",
        unit=DAY_OF_YEAR_UNIT,
    ),
    Statistic(
        "first",
        np.uint16,
        _first_day,
        nodata=SCENE_NODATA,
        empty=SCENE_NODATA,
        description="{band} date of the first valid value, days since 1970-01-01",
        overviews="NEAREST",
        unit="days since 1970-01-01",
    ),
    Statistic(
        "last",
        np.uint16,
        _last_day,
        nodata=SCENE_NODATA,
        empty=SCENE_NODATA,
        description="{band} date of the last valid value, days since 1970-01-01",
        overviews="NEAREST",
        unit="days since 1970-01-01",
    ),
)
for _statistic in (MEDIAN, COUNT, *_OTHERS):
    register(_statistic)
