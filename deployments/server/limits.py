"""The concurrency limit that :mod:`deployments.set_up` makes on a Prefect server, and that flows respect."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import httpx
from prefect.concurrency.sync import concurrency
from prefect.exceptions import PrefectException

from deployments.server.outage import answered
from s2sr_core import stopping

logger = logging.getLogger("s2sr_core.flow")

#: A run has a slot of this limit while it downloads. An account at CDSE may have four connections, from all machines
#: together, and a run uses that many. So one run downloads at a time, while others compute.
DOWNLOADS, DOWNLOAD_SLOTS = "cdse", 1
#: Seconds for which the slot of a run that died stays taken; the least that Prefect allows.
LEASE_SECONDS = 60.0
#: Seconds for one attempt to get the slot; between attempts it is seen whether the process shall stop.
_ATTEMPT = 4.0


@contextlib.contextmanager
def download_slot() -> Iterator[None]:
    """Hold a slot of the limit, if the server has it; waits until one is free.

    Raises
    ------
    StoppedError
        If the process shall stop.
    """
    with contextlib.ExitStack() as slot:
        _acquire(slot)
        try:
            yield
        finally:
            try:
                slot.close()
            except (httpx.HTTPError, PrefectException) as error:
                logger.warning("the slot of %s is free again only when its lease is over: %s", DOWNLOADS, error)


def _acquire(slot: contextlib.ExitStack) -> None:
    while True:
        stopping.check()
        with contextlib.suppress(TimeoutError):
            answered(_enter, slot)
            return


def _enter(slot: contextlib.ExitStack) -> None:
    slot.enter_context(concurrency(DOWNLOADS, lease_duration=LEASE_SECONDS, timeout_seconds=_ATTEMPT))
