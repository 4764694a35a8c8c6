"""How a unit of work reports that a part of it failed."""

from __future__ import annotations

from collections.abc import Sequence


class PartlyFailedError[T](Exception):
    """Some items of a unit failed: the task run fails and is tried again; its last attempt hands over all results.

    ``results`` holds an entry for every item of the unit, good or bad.
    """

    def __init__(self, message: str, results: Sequence[T]) -> None:
        super().__init__(message, results)
        self.results = list(results)

    def __str__(self) -> str:
        return str(self.args[0])
