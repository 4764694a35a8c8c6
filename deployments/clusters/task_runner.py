"""The Prefect task runner of a run: Dask's, which also tells when its cluster is beyond hope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect_dask.task_runners import DaskTaskRunner


def _nothing() -> None:
    pass


class ClusterRunner(DaskTaskRunner):
    """A :class:`DaskTaskRunner` on a cluster that is there already.

    ``watch`` is called again and again by whoever waits for results; it raises what makes waiting vain.
    """

    def __init__(self, *, watch: Callable[[], None] = _nothing, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.watch = watch
