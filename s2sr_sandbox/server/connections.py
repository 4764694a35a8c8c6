"""Downloads under way, counted by account: how many there are, were at most, and may be."""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Self


class Connections:
    """The downloads under way of all accounts; used in one thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: Counter[str] = Counter()
        self.high_water = 0

    def open(self, account: str) -> int:
        """How many connections of ``account`` are open."""
        return self._open[account]

    def slot(self, account: str) -> Slot | None:
        """One more connection for ``account``, open from now on; None if that would be too many."""
        if self._open[account] >= self._limit:
            return None
        self._open[account] += 1
        self.high_water = max(self.high_water, self._open[account])
        return Slot(self._open, account)


class Slot:
    """One open connection; a context that closes it."""

    def __init__(self, counts: Counter[str], account: str) -> None:
        self._counts = counts
        self._account = account

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._counts[self._account] -= 1
