from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from s2sr_core.garbage import seldom_collected


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(("before", "inside"), [(700, 100_000), (200_000, 200_000), (0, 0)])
def test_garbage_is_looked_for_less_often_and_then_as_before(before: int, inside: int) -> None:
    """Never more often; and not at all if somebody switched that off."""
    gc.set_threshold(before, 11, 12)
    with seldom_collected():
        assert gc.get_threshold() == (inside, 11, 12)
    assert gc.get_threshold() == (before, 11, 12)


def test_an_error_changes_nothing_for_good() -> None:
    before = gc.get_threshold()
    with pytest.raises(ValueError, match="bad"), seldom_collected():
        raise ValueError("bad")
    assert gc.get_threshold() == before


def test_of_two_blocks_that_overlap_the_last_to_end_puts_everything_back() -> None:
    """As in two threads of a server."""
    before = gc.get_threshold()
    first, second = seldom_collected(), seldom_collected()
    with ExitStack() as later:
        with ExitStack() as sooner:
            sooner.enter_context(first)
            inside = gc.get_threshold()
            later.enter_context(second)
        assert gc.get_threshold() == inside != before
    assert gc.get_threshold() == before
