"""The names of statistics and layers, as parameters and file names have them. This module loads without numpy."""

from __future__ import annotations

import re

#: Statistics over several bands at once; of one band they would be the median, or a guess between two values.
JOINT_STATISTICS = ("medoid", "geomedian")
STATISTICS = ("median", "mean", *JOINT_STATISTICS)
LAYERS = ("count", "mad", "iqr", "doy", "first", "last")

#: A whole number of percent.
_PERCENTILE = re.compile(r"percentile:(0|[1-9][0-9]?|100)", re.ASCII)
#: What :func:`is_statistic` accepts.
STATISTIC_PATTERN = f"^({'|'.join(STATISTICS)}|{_PERCENTILE.pattern})$"
_PERCENTILE_IN_FILES = re.compile(r"p(0|[1-9][0-9]?|100)", re.ASCII)


def is_statistic(word: str) -> bool:
    """Whether ``word`` is a statistic as parameters have it: ``median``, ``percentile:25`` …"""
    return word in STATISTICS or _PERCENTILE.fullmatch(word) is not None


def in_files(word: str) -> str:
    """A statistic's or layer's name in files: ``p25`` for ``percentile:25``, otherwise ``word`` itself."""
    match = _PERCENTILE.fullmatch(word)
    return word if match is None else f"p{match[1]}"


def percent_of(name: str) -> int | None:
    """25 for ``p25``, a name in files; None if it is not that of a percentile."""
    match = _PERCENTILE_IN_FILES.fullmatch(name)
    return None if match is None else int(match[1])
