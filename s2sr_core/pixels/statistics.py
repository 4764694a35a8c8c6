"""Statistics: what the values of many scenes at one pixel become.

The median is one of them, the count another. A new statistic is one module: it makes a :class:`Statistic` and calls
:func:`register`. Its name then stands in file names, records, VRTs and band descriptions, and both engines compute it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from s2sr_core.pixels.rules import COMPOSITE_NODATA, UInt16Array, count_of_valid, median_of_valid

#: Unit of harmonised DN, and their factor: values times this are reflectance.
DN_UNIT, DN_SCALE = "reflectance x 10000", 0.0001


@dataclass(frozen=True, slots=True)
class Statistic:
    """A value per pixel, computed from the values of all scenes.

    Attributes
    ----------
    name: lower case letters, digits and ``_``; it becomes part of file names.
    dtype: of the result, a type that GeoTIFF knows.
    of_stack: from scenes × rows × columns, UInt16 with nodata 65535 (``SCENE_NODATA``), in any order of scenes, to rows
        × columns of ``dtype``, :attr:`empty` where no scene has a value.
    nodata: of its files; what lies outside the cell.
    empty: where the cell has a pixel and no scene has a value.
    description: of the band of its files; ``{band}`` stands for the band, ``{name}`` for the statistic.
    overviews: how GDAL resamples its overviews.
    unit: of the values, as its files name it; :data:`DN_UNIT` if they are DN.
    """

    name: str
    dtype: npt.DTypeLike
    of_stack: Callable[[UInt16Array], npt.NDArray[Any]]
    nodata: float = COMPOSITE_NODATA
    empty: float = COMPOSITE_NODATA
    description: str = "{band} {name}"
    overviews: Literal["AVERAGE", "NEAREST"] = "AVERAGE"
    unit: str = DN_UNIT

    @property
    def outside(self) -> np.generic:
        """:attr:`nodata` as a value of :attr:`dtype`."""
        return np.dtype(self.dtype).type(self.nodata)  # type: ignore[call-overload]

    def describe(self, band: str) -> str:
        """The description of its files' band."""
        return self.description.format(band=band, name=self.name)

    def filled(self, shape: tuple[int, int]) -> npt.NDArray[Any]:
        """What it is where no scene has a value, rows × columns."""
        return np.full(shape, self.empty, self.dtype)


MEDIAN = Statistic("median", np.float32, median_of_valid, description="{band}")
COUNT = Statistic(
    "count",
    np.uint16,
    count_of_valid,
    nodata=65535,
    empty=0,
    description="{band} count of values",
    overviews="NEAREST",
    unit="values",
)

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
    """The statistic of this name.

    Raises
    ------
    KeyError
        If none was registered.
    """
    return _STATISTICS[name]


for _statistic in (MEDIAN, COUNT):
    register(_statistic)
