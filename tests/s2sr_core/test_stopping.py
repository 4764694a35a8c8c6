"""The request to stop, as those see it who wait for something."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from s2sr_core import stopping
from s2sr_core.stopping import Reason, StoppedError


@pytest.fixture(autouse=True)
def none_is_left() -> Iterator[None]:
    yield
    for reason in Reason:
        stopping.withdraw(reason)


def test_without_a_request_work_and_pauses_go_on() -> None:
    stopping.check()
    stopping.pause(0.001)
    assert stopping.requested() is None


def test_a_request_wakes_whoever_pauses_in_whatever_thread() -> None:
    """An hour's pause, in five threads: each ends, and raises what no code takes for the failure of a product."""
    raised: list[BaseException] = []

    def pause() -> None:
        try:
            stopping.pause(3600)
        except StoppedError as error:
            raised.append(error)

    threads = [threading.Thread(target=pause, daemon=True) for _ in range(5)]
    for thread in threads:
        thread.start()
    stopping.request(Reason.SIGNAL)
    for thread in threads:
        thread.join(60)
    assert [type(error) for error in raised] == [StoppedError] * 5
    assert not isinstance(raised[0], Exception)
    with pytest.raises(StoppedError, match="interrupted"):
        stopping.check()


def test_the_first_reason_stays_and_only_it_is_withdrawn() -> None:
    stopping.request(Reason.SIGNAL)
    stopping.request(Reason.CANCELLED)
    stopping.withdraw(Reason.CANCELLED)
    assert stopping.requested() is Reason.SIGNAL
    stopping.withdraw(Reason.SIGNAL)
    stopping.check()
