"""Hosts that are down: the run waits for one, as a whole, and ends with one sentence if that takes too long.

What is wrong with a host is kept apart from what is wrong with one product. A host that cannot be reached at all
(refused, no such name, no connection in time) is down. One that fails (5xx, no answer, an answer that breaks off) is
asked for something else: if it fails there too, it is down; if it answers, the failure is the product's own, and only
that product is given up. Bytes that came and need not come again are an answer.

While a host is down, one thread at a time tries what it wanted, with growing pauses; all others wait. Nothing of this
counts as a try of a product.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from s2sr_core import stopping
from s2sr_core.errors import SourceDownError
from s2sr_core.progress import announce
from s2sr_core.sources.cdse.http import CdseError, TransientError

#: Pauses between tries while a host is down: the first one, and the longest, seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
#: Seconds for which an answer shows that a host is up.
_RECENT = 5.0
#: Seconds between looks at whether a waiting thread may go on.
_LOOK = 0.2

_logger = logging.getLogger(__name__)


class Breakers:
    """The breakers of several hosts, by their base URLs."""

    def __init__(self, urls: Iterable[str], patience: float) -> None:
        self._breakers = {_host(url): Breaker(_host(url), patience) for url in urls}

    def reset(self, url: str, others: Callable[[str], bool | None] | None = None) -> None:
        """As :meth:`Breaker.reset` for the host of ``url``."""
        self._breakers[_host(url)].reset(others)

    def run[R](self, url: str, exchange: Callable[[], R]) -> R:
        """As :meth:`Breaker.run` for the host of ``url``."""
        breaker = self._breakers.get(_host(url))
        return exchange() if breaker is None else breaker.run(url, exchange)


class Breaker:
    """Whether one host is down, for all threads of the process.

    Parameters
    ----------
    host: its name, for messages.
    patience: seconds that it may be down.
    """

    def __init__(self, host: str, patience: float) -> None:
        self._host, self._patience = host, patience
        self._lock, self._comparing = threading.Lock(), threading.Lock()
        self.reset()

    def reset(self, others: Callable[[str], bool | None] | None = None) -> None:
        """Forget what was: a run begins.

        ``others`` asks the host for something else than the address that failed: whether it answers, None if there is
        nothing else to ask for. Without it, whatever fails is the host's failure.
        """
        with self._lock:
            self._others = others or (lambda _url: False)
            self._down_since: float | None = None
            self._pause, self._next_try, self._answer = _FIRST_PAUSE, 0.0, float("-inf")
            self._trying: int | None = None
            self._given_up: str = ""

    def run[R](self, url: str, exchange: Callable[[], R]) -> R:
        """What ``exchange`` about ``url`` gives; it is called again as long as the host is down.

        Raises
        ------
        TransientError
            If something else is wrong than the host.
        SourceDownError
            If the host stays down.
        CdseError
            If the host refuses.
        """
        while True:
            self._await_turn()
            try:
                try:
                    result = exchange()
                except TransientError as error:
                    if not self._is_failing(url, error):
                        raise
                    continue
                except CdseError as error:
                    if error.status:
                        self._answered()
                    raise
                self._answered()
                return result
            finally:
                self._end_turn()

    # ----------------------------------------------------------------------------------------------------- waiting

    def _await_turn(self) -> None:
        """Return if the host may be asked: it is up, or it is this thread's turn to try."""
        while True:
            stopping.check()
            with self._lock:
                if self._given_up:
                    raise SourceDownError(self._given_up)
                if self._down_since is None:
                    return
                now = time.monotonic()
                if self._trying is None and now >= self._next_try:
                    self._trying = threading.get_ident()
                    return
                wait = min(_LOOK, max(self._next_try - now, 0.01))
            stopping.pause(wait)

    def _end_turn(self) -> None:
        with self._lock:
            if self._trying == threading.get_ident():
                self._trying = None

    # ---------------------------------------------------------------------------------------------------- evidence

    def _answered(self) -> None:
        with self._lock:
            self._answer = time.monotonic()
            since, self._down_since = self._down_since, None
            self._pause, self._given_up = _FIRST_PAUSE, ""
        if since is not None:
            self._say(logging.INFO, f"{self._host} answers again, after {_lasted(self._answer - since)}")

    def _is_failing(self, url: str, error: TransientError) -> bool:
        """Whether a failure is the host's and not that of the product at ``url``."""
        if error.is_unreachable:
            self._failed(error)
            return True
        if error.went_on or (error.status and error.status < 500):
            self._answered()
            return False
        while not self._comparing.acquire(timeout=_LOOK):
            stopping.check()
        try:
            if self._down_since is not None and self._trying != threading.get_ident():
                return True  # this was under way when another thread found out
            if self._down_since is None and time.monotonic() - self._answer < _RECENT:
                return False
            other_answers = self._others(url)
        finally:
            self._comparing.release()
        if other_answers:
            self._answered()
        elif other_answers is not None:
            self._failed(error)
        return other_answers is False

    def _failed(self, error: TransientError) -> None:
        now, reason = time.monotonic(), str(error).partition(": ")[2] or str(error)
        with self._lock:
            is_new = self._down_since is None
            since = self._down_since = now if self._down_since is None else self._down_since
            left = since + self._patience - now
            if left <= 0:
                self._given_up = (
                    f"{self._host} is down ({reason}) and the run does not wait for it longer than "
                    f"{_lasted(self._patience)}; what is complete is kept, and the same command continues from there"
                )
            elif is_new or self._trying == threading.get_ident():
                self._next_try = now + min(self._pause, left)
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        if is_new and left > 0:
            self._say(
                logging.WARNING,
                f"{self._host} is down ({reason}); the run waits for it, up to {_lasted(self._patience)}",
            )

    def _say(self, level: int, sentence: str) -> None:
        _logger.log(level, "%s", sentence)
        announce(sentence)


def _host(url: str) -> str:
    """Name and port of a host, for messages."""
    return urlsplit(url).netloc


def _lasted(seconds: float) -> str:
    """``40 s``, ``10 min``."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
