"""Workers of this machine that die while they start: others take their place, a bounded number of times.

Dask's nannies replace a worker that dies later, and only those. A nanny that takes longer for that than
``distributed.deploy.lost-worker-timeout`` (15 s), on a busy machine, is closed and forgotten by the cluster.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from s2sr_core import stopping
from s2sr_core.errors import ClusterError

logger = logging.getLogger("s2sr_core.workers")

#: How often a cluster is started whose workers die meanwhile; how many workers are replaced later, per worker.
_STARTS, _REPLACED = 5, 5
#: Seconds without any worker after which nobody waits for one; imports from a slow disk take a minute.
_SILENCE = 600.0
_REMEDY = "see how much memory is free, and give fewer --workers"


def started(make: Callable[[], Any]) -> Any:
    """The cluster that ``make`` starts with its workers; it is called again if one of them dies.

    Raises
    ------
    ClusterError
        If that happens again and again.
    StoppedError
        If the process shall stop.
    """
    for attempt in range(1, _STARTS + 1):
        stopping.check()
        try:
            return make()
        except (RuntimeError, OSError) as error:
            logger.warning("a worker died while it started, attempt %d of %d: %s", attempt, _STARTS, error)
            reason = " ".join(f"{type(error).__name__}: {error}".split())
    raise ClusterError(f"the workers of this machine do not start ({reason}); {_REMEDY}")


class Replacement:
    """Called regularly by whoever waits for results, it replaces workers whose nanny has given up."""

    def __init__(self, cluster: Any, count: int) -> None:
        self._cluster, self._most = cluster, _REPLACED * count
        self._replaced, self._is_replacing = 0, False
        self._last_seen = time.monotonic()

    def __call__(self) -> None:
        """Replace who is lost.

        Raises
        ------
        ClusterError
            If that has been done too often, or no worker comes any more.
        """
        now = time.monotonic()
        if self._cluster.scheduler.workers:
            self._last_seen = now
        statuses = {name: nanny.status.name for name, nanny in list(self._cluster.workers.items())}
        lost = [
            name for name in list(self._cluster.worker_spec) if statuses.get(name, "closed") in ("closed", "failed")
        ]
        if lost and not self._is_replacing:
            self._replaced += len(lost)
            self._is_replacing = True
            logger.warning("replacing workers %s, which died", lost)
            self._cluster.loop.add_callback(self._replace, lost)
        if self._replaced > self._most or now - self._last_seen > _SILENCE:
            raise ClusterError(f"the workers of this machine die while they start; {_REMEDY}")

    async def _replace(self, lost: list[Any]) -> None:
        for name in lost:
            self._cluster.workers.pop(name, None)
        with contextlib.suppress(RuntimeError, OSError):  # lost once more, which is seen next time
            await self._cluster
        self._is_replacing = False
