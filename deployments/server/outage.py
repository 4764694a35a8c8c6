"""A Prefect server that goes away for a while: a run waits for it and continues."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import httpx
from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError

from s2sr_core import stopping

logger = logging.getLogger("s2sr_core.flow")

#: Seconds for which a run waits for a server that went away, and between looks.
OUTAGE, PAUSE = 900.0, 2.0
#: How Prefect begins the message of a RuntimeError if a client finds no server.
_NOT_REACHED = "Failed to reach API at"


_away = threading.Event()


def note_outage() -> None:
    """The server did not answer just now."""
    _away.set()


def was_away() -> bool:
    """Whether the server ever failed to answer this process: task runs of that time may have stayed Pending."""
    return _away.is_set()


def is_outage(error: object) -> bool:
    """Whether an error says that the server does not answer, and nothing about the work."""
    if isinstance(error, ConcurrencySlotAcquisitionError):  # before each task run, for its tags
        return is_outage(error.__cause__)
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500
    return isinstance(error, httpx.TransportError) or (
        isinstance(error, RuntimeError) and str(error).startswith(_NOT_REACHED)
    )


def answered[**P, R](call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The result of ``call``, which is called again while the server does not answer.

    Raises
    ------
    StoppedError
        If the process shall stop meanwhile.
    """
    deadline: float | None = None
    while True:
        try:
            return call(*args, **kwargs)
        except (httpx.HTTPError, RuntimeError, ConcurrencySlotAcquisitionError) as error:
            if not is_outage(error):
                raise
            now = time.monotonic()
            if deadline is None:
                deadline = now + OUTAGE
                note_outage()
                logger.warning(
                    "the Prefect server does not answer; waiting for it up to %g min: %s", OUTAGE / 60, error
                )
            if now > deadline:
                raise
            stopping.pause(PAUSE)


def is_there() -> bool:
    """Whether the server answers now."""
    try:
        with get_client(sync_client=True) as client:
            return client.api_healthcheck() is None
    except (httpx.HTTPError, RuntimeError):
        return False


def check_server() -> None:
    """Ask the server for a sign of life.

    Raises
    ------
    RuntimeError
        If it does not answer.
    """
    if not is_there():
        raise RuntimeError(_NOT_REACHED + " its address")
