from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2sr_core.periods import MOST_PERIODS, Period, is_label, period_of, periods_of


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def listed(
    every: str | None, start: str, end: str, months: tuple[int, ...] | None = None
) -> list[tuple[str, str, str]]:
    """Label, start and end of each period; midnights as dates."""
    found = periods_of(every, at(start), at(end), months)
    times = [(period.start, period.end) for period in found]
    texts = [tuple(time.isoformat()[:19].removesuffix("T00:00:00") for time in pair) for pair in times]
    return [(period.label, *text) for period, text in zip(found, texts, strict=True)]


def test_without_every_there_is_one_period_without_a_label() -> None:
    assert listed(None, "2019-06-01", "2020-07-04", (6,)) == [("", "2019-06-01", "2020-07-04")]


def test_periods_by_hand() -> None:
    assert listed("year", "2019-06-15T12:00", "2021-01-01") == [
        ("2019", "2019-06-15T12:00:00", "2020-01-01"),
        ("2020", "2020-01-01", "2021-01-01"),
    ]
    assert listed("month", "2019-11-30", "2020-02-02") == [
        ("2019-11", "2019-11-30", "2019-12-01"),
        ("2019-12", "2019-12-01", "2020-01-01"),
        ("2020-01", "2020-01-01", "2020-02-01"),
        ("2020-02", "2020-02-01", "2020-02-02"),
    ]
    assert listed("season", "2018-11-30", "2020-01-01") == [
        ("2018-4-SON", "2018-11-30", "2018-12-01"),
        ("2019-1-DJF", "2018-12-01", "2019-03-01"),
        ("2019-2-MAM", "2019-03-01", "2019-06-01"),
        ("2019-3-JJA", "2019-06-01", "2019-09-01"),
        ("2019-4-SON", "2019-09-01", "2019-12-01"),
        ("2020-1-DJF", "2019-12-01", "2020-01-01"),
    ]
    assert listed("16d", "2020-02-20T06:00", "2020-03-24") == [
        ("2020-02-20", "2020-02-20T06:00:00", "2020-03-07"),
        ("2020-03-07", "2020-03-07", "2020-03-23"),
        ("2020-03-23", "2020-03-23", "2020-03-24"),
    ]


def test_months_shorten_periods_and_leave_none_without_a_month() -> None:
    assert listed("year", "2019-01-01", "2021-07-10", (6, 7, 8)) == [
        ("2019", "2019-06-01", "2019-09-01"),
        ("2020", "2020-06-01", "2020-09-01"),
        ("2021", "2021-06-01", "2021-07-10"),
    ]
    assert listed("season", "2019-01-01", "2020-01-01", (2, 6, 8)) == [
        ("2019-1-DJF", "2019-02-01", "2019-03-01"),
        ("2019-3-JJA", "2019-06-01", "2019-09-01"),
    ]
    assert listed("20d", "2019-05-01", "2019-07-20", (6,)) == [
        ("2019-05-21", "2019-06-01", "2019-06-10"),
        ("2019-06-10", "2019-06-10", "2019-06-30"),
        ("2019-06-30", "2019-06-30", "2019-07-01"),
    ]
    assert listed("month", "2019-01-01", "2019-05-01", (6,)) == []


times = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))
everies = st.one_of(st.sampled_from(["year", "month", "season"]), st.integers(1, 9999).map("{}d".format))
monthses = st.one_of(st.none(), st.frozensets(st.integers(1, 12), min_size=1).map(lambda some: tuple(sorted(some))))


@given(everies, times, st.timedeltas(timedelta(seconds=1), timedelta(days=900)), monthses, st.floats(0, 0.999))
def test_each_sensing_time_that_counts_is_in_one_period_and_labels_sort(
    every: str, start: datetime, length: timedelta, months: tuple[int, ...] | None, share: float
) -> None:
    end = start + min(length, datetime.max.replace(tzinfo=UTC) - start)
    periods = periods_of(every, start, end, months)
    sensed = start + share * (end - start)
    owners = [period for period in periods if period.contains(sensed)]
    if start <= sensed < end and (months is None or sensed.month in months):
        assert len(owners) == 1
    assert [period_of(sensed, periods)] == (owners or [None])
    labels = [period.label for period in periods]
    assert labels == sorted(set(labels))
    assert all(is_label(label) or start.year > 9990 for label in labels)
    assert all(start <= period.start < period.end <= end for period in periods)
    assert all(a.end <= b.start for a, b in pairwise(periods))


#: What pandas calls the periods of the calendar.
FREQUENCIES = {"year": "Y", "month": "M", "season": "Q-NOV"}


@given(st.sampled_from(sorted(FREQUENCIES)), st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1)))
def test_periods_of_the_calendar_are_those_of_pandas(every: str, time: datetime) -> None:
    around = timedelta(days=800)
    found = period_of(
        time.replace(tzinfo=UTC),
        periods_of(every, (time - around).replace(tzinfo=UTC), (time + around).replace(tzinfo=UTC)),
    )
    expected = pd.Timestamp(time).to_period(FREQUENCIES[every])
    assert found is not None
    assert found.start.replace(tzinfo=None) == expected.start_time.to_pydatetime()
    assert found.end.replace(tzinfo=None) == (expected + 1).start_time.to_pydatetime()
    assert found.label.startswith(f"{expected.qyear if every == 'season' else expected.year:04d}")
    if every == "season":
        assert found.label[5] == str(expected.quarter)


def test_too_many_periods_can_be_noticed_without_listing_them_all() -> None:
    assert len(periods_of("1d", at("0001-01-01"), at("9999-01-01"))) == MOST_PERIODS + 1


@pytest.mark.parametrize("text", ["2019-13-JJA", "..", "2019/06", "2019-3-DJF", "19", "2019-06-01\n", " "])
def test_what_is_not_a_label(text: str) -> None:
    assert not is_label(text)


@given(st.text(max_size=12))
def test_a_label_is_safe_in_a_path(text: str) -> None:
    assert not is_label(text) or re.fullmatch(r"[0-9A-Z-]*", text)


def test_before_the_first_period_there_is_none() -> None:
    periods = (Period("a", at("2019-01-01"), at("2019-02-01")), Period("b", at("2019-03-01"), at("2019-04-01")))
    found = [
        period_of(at(day), periods) for day in ("2018-12-31", "2019-01-01", "2019-02-01", "2019-03-31", "2019-04-01")
    ]
    assert [each and each.label for each in found] == [None, "a", None, "b", None]
