"""Periods: a time window cut by the calendar, in UTC. One run makes a composite of each period.

Labels name folders and files: letters, digits and ``-``. The labels of one run sort by time.
"""

from __future__ import annotations

import functools
import itertools
import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

#: What ``every`` may be; a number of days, at most 9999, has no leading zero.
EVERY = re.compile(r"year|month|season|[1-9][0-9]{0,3}d")
#: The most periods of one run: monthly for 83 years, or daily for almost three.
MOST_PERIODS = 1000
#: Three months each, from December on, which belongs to the season of the next year.
_SEASONS = ("1-DJF", "2-MAM", "3-JJA", "4-SON")
#: The first and the last time that can be written, and the shortest.
_FIRST, _LAST, _MOMENT = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), timedelta.resolution
_LABEL = re.compile(rf"[0-9]{{4}}(?:-[0-9]{{2}}(?:-[0-9]{{2}})?|-(?:{'|'.join(_SEASONS)}))?")


@dataclass(frozen=True, slots=True)
class Period:
    """A part of a run's time window, start ≤ sensing time < end, UTC.

    Attributes
    ----------
    label: of the calendar's period, also if the run's window or months cut it; empty if it is the whole window of a run
        that has no periods.
    """

    label: str
    start: datetime
    end: datetime

    def contains(self, time: datetime) -> bool:
        """Whether a sensing time lies in it."""
        return self.start <= time < self.end


#: For what has no window.
ALWAYS = Period("", _FIRST, _LAST)


def is_label(text: str) -> bool:
    """Whether ``text`` is written like the label of a period, or is the empty one."""
    return text == "" or _LABEL.fullmatch(text) is not None


def begin_of(label: str) -> datetime:
    """When the calendar's period of this label begins, UTC; a run's window may cut it.

    Raises
    ------
    ValueError
        If it is not the label of a period.
    """
    year, _, rest = label.partition("-")
    if rest in _SEASONS:
        season = _SEASONS.index(rest)
        return _midnight(int(year), 3 * season) if season else _midnight(int(year) - 1, 12)
    return datetime.fromisoformat(f"{label}-01-01"[: max(10, len(label))]).replace(tzinfo=UTC)


@functools.lru_cache(maxsize=64)
def periods_of(
    every: str | None, start: datetime, end: datetime, months: tuple[int, ...] | None = None, most: int = MOST_PERIODS
) -> tuple[Period, ...]:
    """The periods of a time window, in order; without ``every``, one that is the whole window.

    A period that the window cuts is shorter, and so is one whose first or last months are not among ``months``; one of
    which nothing is left does not exist. Days are counted from midnight before ``start``. At most ``most`` + 1 periods
    are given, so that too many can be noticed.
    """
    if every is None:
        return (Period("", start, end),)
    cut = (_shortened(period, months) for period in _calendar(every, start, end))
    return tuple(itertools.islice((period for period in cut if period is not None), most + 1))


def span_of(periods: Sequence[Period]) -> str:
    """``2019 … 2021``: the labels of the first and the last of at least one period."""
    first, last = periods[0].label, periods[-1].label
    return first if first == last else f"{first} … {last}"


def period_of(time: datetime, periods: Sequence[Period]) -> Period | None:
    """The one of ``periods``, which are in order, that contains a sensing time."""
    index = bisect_right(periods, time, key=lambda period: period.start) - 1
    return periods[index] if index >= 0 and periods[index].contains(time) else None


def _calendar(every: str, start: datetime, end: datetime) -> Iterator[Period]:
    """The periods of the calendar that share time with a window, cut to it."""
    origin, at = _midnight(start.year, start.month, start.day), start
    while at < end:
        label, stop = _calendar_period(every, at, origin)
        yield Period(label, at, min(stop, end))
        at = stop


def _calendar_period(every: str, at: datetime, origin: datetime) -> tuple[str, datetime]:
    """The label of the period that holds ``at``, and its end by the calendar."""
    if every == "year":
        return f"{at.year:04d}", _midnight(at.year + 1)
    if every == "month":
        return f"{at.year:04d}-{at.month:02d}", _next_month(at)
    if every == "season":
        year, number = at.year + at.month // 12, at.month % 12 // 3
        return f"{year:04d}-{_SEASONS[number]}", _midnight(year, 3 * number + 3)
    length = timedelta(days=int(every.removesuffix("d")))
    begin = origin + (at - origin) // length * length
    return begin.date().isoformat(), begin + min(length, _LAST - begin)


def _shortened(period: Period, months: Collection[int] | None) -> Period | None:
    """``period`` from its first time in ``months`` to its last; None if there is none."""
    start, end = period.start, period.end
    while months is not None and start < end and start.month not in months:
        start = _next_month(start)
    while months is not None and start < end and (last := end - _MOMENT).month not in months:
        end = _midnight(last.year, last.month)
    return Period(period.label, start, end) if start < end else None


def _next_month(time: datetime) -> datetime:
    return _midnight(time.year + time.month // 12, time.month % 12 + 1)


def _midnight(year: int, month: int = 1, day: int = 1) -> datetime:
    """The beginning of a day; of one after the year 9999, the last time that there is."""
    return datetime(year, month, day, tzinfo=UTC) if year <= _LAST.year else _LAST
