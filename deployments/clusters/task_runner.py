"""The Prefect task runner of a run: Dask's, which also knows when no worker is left and none will come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect_dask.task_runners import DaskTaskRunner


def _no_trouble() -> None:
    pass


class ClusterTaskRunner(DaskTaskRunner):
    """A :class:`DaskTaskRunner` on a cluster that has been started.

    Whoever waits for results calls ``watch`` regularly; it raises a ``ClusterError`` if waiting is useless.
    """

    def __init__(self, *, watch: Callable[[], None] = _no_trouble, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.watch = watch
