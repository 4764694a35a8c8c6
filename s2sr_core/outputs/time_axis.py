"""When the composites of a folder begin, for axes of time."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from datetime import datetime

from s2sr_core.composites.records import inputs_in, scenes_in
from s2sr_core.errors import ProductError
from s2sr_core.files import read_record
from s2sr_core.products.names import ProductName
from s2sr_core.workspace import Workspace

#: Labels of periods: a year, a month, a day, or the season that begins in December of the year before.
_SEASON = re.compile(r"(\d{4})-([1-4])-[A-Z]{3}")


def time_axis(workspace: Workspace, periods: Sequence[str]) -> list[datetime | None]:
    """The beginning of each period by the calendar, UTC, without a time zone; None if it is not known.

    Without periods (one empty label) that of the run's time window or, in a copy without the record of the run, the
    first sensing time behind a composite.
    """
    return [_begin(period) if period else _window_start(workspace) for period in periods]


def _begin(period: str) -> datetime | None:
    if match := _SEASON.fullmatch(period):
        year, season = int(match[1]), int(match[2])
        return datetime(year, 3 * season - 3, 1) if season > 1 else datetime(year - 1, 12, 1)
    with contextlib.suppress(ValueError):
        return datetime.fromisoformat(f"{period}-01-01"[: max(10, len(period))])
    return None


def _window_start(workspace: Workspace) -> datetime | None:
    parameters = (read_record(workspace.run_record) or {}).get("parameters")
    if isinstance(parameters, dict) and isinstance(start := parameters.get("start"), str):
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(start).replace(tzinfo=None)
    for path in sorted(workspace.composites.glob("*/cell_*.json")):
        products = scenes_in(inputs_in(read_record(path) or {}) or {})
        with contextlib.suppress(ProductError, ValueError):
            return min(ProductName.parse(product).sensing_time for product in products).replace(tzinfo=None)
    return None
