"""The season under way: from a day of the year to now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

_LEAP = 2000
_PATTERN = r"^(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$"


def _check_day(text: str) -> str:
    try:
        datetime.strptime(f"{_LEAP}-{text}", "%Y-%m-%d")  # a day of any year
    except ValueError as error:
        raise ValueError("is not a day of the year; write month and day like 06-01") from error
    if len(text) != 5:
        raise ValueError("is not a day of the year; write month and day like 06-01")
    return text


class SeasonParameters(BaseModel):
    """Parameters of a nightly update besides those of a run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    season_start: Annotated[
        Annotated[str, AfterValidator(_check_day), WithJsonSchema({"type": "string", "pattern": _PATTERN})],
        Field(description="Day on which the season begins, UTC: month-day, e.g. 06-01. Its end is now."),
    ]

    def window(self, now: datetime) -> tuple[datetime, datetime]:
        """The start of the season under way, not after ``now``, and ``now``; both UTC.

        A season that begins on 29 February begins on 1 March in other years.
        """
        now = now.astimezone(UTC)
        begun = max(start for year in (now.year - 1, now.year) if (start := self._start(year)) <= now)
        return begun, now

    def _start(self, year: int) -> datetime:
        month, day = map(int, self.season_start.split("-"))
        try:
            return datetime(year, month, day, tzinfo=UTC)
        except ValueError:
            return datetime(year, 3, 1, tzinfo=UTC)
