from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from s2sr_core.planning.season import SeasonParameters


@pytest.mark.parametrize(
    ("day", "now", "begun"),
    [
        ("06-01", "2026-11-23T12:00:00+00:00", "2026-06-01"),
        ("06-01", "2026-06-01T00:00:00+00:00", "2026-06-01"),
        ("06-01", "2026-05-31T23:59:59+00:00", "2025-06-01"),
        ("06-01", "2026-05-31T23:30:00-08:00", "2026-06-01"),  # in UTC it is June already
        ("11-15", "2026-02-03T00:00:00+00:00", "2025-11-15"),  # a southern season, over the turn of the year
        ("02-29", "2024-03-01T00:00:00+00:00", "2024-02-29"),
        ("02-29", "2025-03-01T00:00:00+00:00", "2025-03-01"),
        ("02-29", "2025-02-28T00:00:00+00:00", "2024-02-29"),
    ],
)
def test_the_window_is_from_the_last_beginning_to_now(day: str, now: str, begun: str) -> None:
    start, end = SeasonParameters(season_start=day).window(datetime.fromisoformat(now))
    assert start == datetime.fromisoformat(begun).replace(tzinfo=UTC)
    assert end == datetime.fromisoformat(now)


@given(
    st.dates(min_value=datetime(2023, 1, 1).date(), max_value=datetime(2023, 12, 31).date()),
    st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)),
    st.integers(-12, 14),
)
def test_a_season_is_at_most_a_year_old(day: datetime, now: datetime, hours: int) -> None:
    now = now.replace(tzinfo=timezone(timedelta(hours=hours)))
    start, end = SeasonParameters(season_start=f"{day:%m-%d}").window(now)
    assert timedelta(0) <= end - start < timedelta(days=366)
    assert f"{start:%m-%d}" == f"{day:%m-%d}"


@pytest.mark.parametrize("day", ["02-30", "13-01", "6-1", "June", "06-01-2026", "", "0601"])
def test_a_day_that_is_none_is_refused(day: str) -> None:
    with pytest.raises(ValidationError, match="is not a day of the year; write month and day like 06-01"):
        SeasonParameters(season_start=day)
