"""Pictures of a run's composites: what its report and the page of its flow run show."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from s2sr_core.outputs import maps
from s2sr_core.parameters import RunParameters

#: The most periods that are shown, the last ones; quicklooks of all cells are files.
_MOST_PERIODS = 6

Rasters = Callable[[str, str, str], Sequence[Path]]
"""The files of a period (its label), band and statistic that are there."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A PNG with its caption; ``key`` names it among the artifacts of a flow run."""

    key: str
    caption: str
    png: bytes

    @property
    def address(self) -> str:
        """The picture itself, as an address that needs no file."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode('ascii')}"


def pictures_of(parameters: RunParameters, rasters: Rasters, what: str) -> list[Picture]:
    """Maps of the composites (of the first statistic), and of the counts of the first band where there are some.

    Of a run with periods, the last ones that have composites are shown. ``what`` begins the captions.
    """
    periods = list(islice(_with_composites(parameters, rasters), _MOST_PERIODS))
    return [picture for label in reversed(periods) for picture in _of_period(parameters, rasters, what, label)]


def _with_composites(parameters: RunParameters, rasters: Rasters) -> Iterator[str]:
    """Labels, the last first."""
    statistic = parameters.statistic_names[0]
    for period in reversed(parameters.periods):
        if any(rasters(period.label, band, statistic) for band in parameters.bands):
            yield period.label


def _of_period(parameters: RunParameters, rasters: Rasters, what: str, label: str) -> Iterator[Picture]:
    title, suffix = (f"{what}, {label}", f"-{label.lower()}") if label else (what, "")
    statistic, band = parameters.statistic_names[0], parameters.bands[0]
    values: dict[str, Sequence[Path]] = {each: rasters(label, each, statistic) for each in parameters.bands}
    if (png := maps.true_colour(values, title)) is not None:
        yield Picture(f"quicklook{suffix}", f"{title}; white where nothing is valid.", png)
    if (png := maps.valid_counts(rasters(label, band, "count"), f"{title}, {band}")) is not None:
        yield Picture(f"valid-counts{suffix}", f"{title}: values behind each pixel of {band}.", png)
