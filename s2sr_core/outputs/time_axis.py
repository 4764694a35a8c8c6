"""When the composites of a folder begin, for axes of time."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import datetime

from s2sr_core.composites.records import inputs_in, scenes_in
from s2sr_core.errors import ProductError
from s2sr_core.files import read_record
from s2sr_core.periods import begin_of
from s2sr_core.products.names import ProductName
from s2sr_core.workspace import Workspace


def time_axis(workspace: Workspace, periods: Sequence[str]) -> list[datetime | None]:
    """The beginning of each period by the calendar, UTC, without a time zone; None if it is not known.

    Without periods (one empty label) that of the run's time window or, in a copy without the record of the run, the
    first sensing time behind a composite.
    """
    return [begin_of(period).replace(tzinfo=None) if period else _window_start(workspace) for period in periods]


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
