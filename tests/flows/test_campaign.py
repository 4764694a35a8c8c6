"""When a campaign takes the run of a block for ended: the server may schedule one whose process died once more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType

from flows.campaign import has_ended

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "run_count", "seconds_ago", "ended"),
    [
        (StateType.RUNNING, 1, 1000, False),
        (StateType.SCHEDULED, 1, 1000, False),
        (StateType.CRASHED, 1, 5, False),
        (StateType.CRASHED, 1, 300, True),  # on a server that does not schedule it again
        (StateType.CRASHED, 2, 5, True),
        (StateType.COMPLETED, 1, 5, True),
        (StateType.FAILED, 1, 5, True),
        (StateType.CANCELLED, 1, 5, True),
    ],
)
def test_a_crash_in_the_first_run_is_an_end_only_after_a_while(
    kind: StateType, run_count: int, seconds_ago: int, ended: bool
) -> None:
    state = State(type=kind, timestamp=NOW - timedelta(seconds=seconds_ago))
    assert has_ended(FlowRun(flow_id=uuid4(), run_count=run_count, state=state), NOW) is ended
