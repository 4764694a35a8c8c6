"""Groups of tasks and the coroutines that await them, on threads and a few lines of work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import Pause
from prefect.states import Suspended
from prefect.task_runners import ThreadPoolTaskRunner

from flows.task_groups import TaskGroup, TaskGroups
from s2sr_core import stopping
from s2sr_core.errors import InputError, SourceDownError
from s2sr_core.stopping import Reason, StoppedError
from tasks.partly_failed import PartlyFailedError


class Numbers:
    """A unit of work."""

    def __init__(self, *numbers: int) -> None:
        self.title, self.numbers = " ".join(map(str, numbers)), numbers


#: Units that found no server, each the first time.
AWAY: list[str] = []


@task(name="add", cache_policy=NO_CACHE)
def add(unit: Numbers, amount: int) -> list[int]:
    """Add to numbers; 13 fails, alone or with others, 0 cannot be worked on at all; 99 waits until it is to stop.

    77 finds no server the first time, and somebody has suspended the run at 55.
    """
    if unit.numbers == (99,):
        stopping.pause(3600)
    if unit.numbers == (55,):
        raise Pause(state=Suspended())
    if unit.numbers == (77,) and unit.title not in AWAY:
        AWAY.append(unit.title)
        raise RuntimeError("Failed to reach API at http://127.0.0.1:4200/api/")
    if 0 in unit.numbers:
        raise InputError("number", 0, "is nothing", "give another")
    if -1 in unit.numbers:
        raise SourceDownError("nothing can be had")
    if unit.numbers == (13,):
        raise RuntimeError("an unlucky\nnumber")
    results = [number + amount for number in unit.numbers if number != 13]
    if 13 in unit.numbers:
        raise PartlyFailedError("one failed", results)
    return results


def lost(unit: Numbers, reason: str) -> list[int]:
    assert reason == "RuntimeError: an unlucky number"
    return [-number for number in unit.numbers]


def within_a_flow(body: Callable[[TaskGroups, TaskGroup[Numbers, int], TaskGroup[Numbers, int]], Any]) -> Any:
    @flow(name="numbers")
    def numbers() -> Any:
        with ThreadPoolTaskRunner(max_workers=4) as runner:
            groups = TaskGroups()
            ones = groups.group("ones", add, runner, lost, amount=1)
            tens = groups.group("tens", add, runner, lost, amount=10)
            return body(groups, ones, tens)

    return numbers()


def test_each_coroutine_goes_on_with_the_results_of_its_own_unit() -> None:
    """1 … 5 plus 1 plus 10, each by itself; the lost one is told by its unit, the partly failed one has the rest."""
    seen: dict[int, list[int]] = {}

    def body(groups: TaskGroups, ones: TaskGroup[Numbers, int], tens: TaskGroup[Numbers, int]) -> tuple[int, int]:
        async def way(first: int, *others: int) -> None:
            results = await ones.run(Numbers(first, *others))
            seen[first] = await tens.run(Numbers(*results))

        for first in range(1, 6):
            groups.start(way(first))
        groups.start(way(13))
        groups.start(way(20, 13, 30))
        groups.wait(ones, tens)
        return ones.count, tens.under_way

    assert within_a_flow(body) == (7, 0)
    assert seen == {number: [number + 11] for number in range(1, 6)} | {13: [-3], 20: [31, 41]}


def test_a_coroutine_may_start_others_and_none_waits_for_all() -> None:
    ended: list[int] = []

    def body(groups: TaskGroups, ones: TaskGroup[Numbers, int], tens: TaskGroup[Numbers, int]) -> int:
        async def leaf(number: int) -> None:
            ended.extend(await tens.run(Numbers(number)))

        async def root() -> None:
            for number in await ones.run(Numbers(1, 2, 3)):
                groups.start(leaf(number))

        groups.start(root())
        groups.wait(ones)
        assert tens.count == 3
        groups.wait(tens)
        return tens.under_way

    assert within_a_flow(body) == 0
    assert sorted(ended) == [12, 13, 14]


def test_bad_input_ends_everything_and_closes_who_still_waits() -> None:
    closed: list[str] = []

    def body(groups: TaskGroups, ones: TaskGroup[Numbers, int], tens: TaskGroup[Numbers, int]) -> None:
        async def way(number: int) -> None:
            try:
                await ones.run(Numbers(number))
                await tens.run(Numbers(0))
            finally:
                closed.append(str(number))

        groups.start(way(1))
        groups.start(way(2))
        groups.wait(ones, tens)

    with pytest.raises(InputError, match="is nothing; give another"):
        within_a_flow(body)
    assert sorted(closed) == ["1", "2"]


def test_a_source_that_is_down_stops_what_needs_it_and_nothing_else() -> None:
    seen: list[int] = []

    def body(groups: TaskGroups, ones: TaskGroup[Numbers, int], tens: TaskGroup[Numbers, int]) -> None:
        async def way(number: int) -> None:
            seen.extend(await tens.run(Numbers(*await ones.run(Numbers(number)))))

        for number in (1, -1, 2):
            groups.start(way(number))
        groups.wait(ones, tens)
        assert str(groups.source_down) == "nothing can be had"

    within_a_flow(body)
    assert sorted(seen) == [12, 13]


def test_a_unit_that_finds_no_server_is_submitted_again() -> None:
    seen: list[int] = []
    AWAY.clear()

    def body(groups: TaskGroups, ones: TaskGroup[Numbers, int], tens: TaskGroup[Numbers, int]) -> int:
        async def way(number: int) -> None:
            seen.extend(await tens.run(Numbers(number)))

        for number in (1, 77, 2):
            groups.start(way(number))
        groups.wait(tens)
        return tens.under_way

    assert within_a_flow(body) == 0
    assert sorted(seen) == [11, 12, 87]
    assert AWAY == ["77"]


@pytest.mark.parametrize(("number", "reason", "raised"), [(55, None, Pause), (99, Reason.CANCELLED, StoppedError)])
def test_a_suspension_and_a_request_to_stop_end_the_wait(
    number: int, reason: Reason | None, raised: type[BaseException]
) -> None:
    """What pauses for an hour in a thread of the pool wakes up, too: the pool waits for its threads at the end."""
    closed: list[int] = []

    def body(groups: TaskGroups, ones: TaskGroup[Numbers, int], tens: TaskGroup[Numbers, int]) -> None:
        async def way() -> None:
            try:
                await ones.run(Numbers(number))
            finally:
                closed.append(number)

        groups.start(way())
        if reason is not None:
            threading.Timer(0.0, stopping.request, (reason,)).start()
        with pytest.raises(raised):
            groups.wait(ones, tens)

    try:
        within_a_flow(body)
    finally:
        stopping.withdraw(Reason.CANCELLED)
    assert closed == [number]
