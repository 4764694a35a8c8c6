"""Limits of byte connections and of their requests per account, over all threads and processes of this machine.

A slot is a lock on a file in the user's cache folder; the process releases it however it ends. Requests are counted by
the size of a file for every ten seconds: appending a byte is a single step.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from s2sr_core import stopping
from s2sr_core.files import locked
from s2sr_core.user_folders import cache_folder

_PAUSE = 0.05
#: CDSE allows 2000 requests a minute (https://documentation.dataspace.copernicus.eu/Quotas.html). Any minute shares
#: time with at most seven windows of ten seconds, so that many requests in each are never too many.
_WINDOW = 10.0
REQUESTS_IN_WINDOW = 2000 // 7


@functools.cache
def _threads(_folder: Path, count: int) -> threading.BoundedSemaphore:
    """The slots for the threads of this process, which count where files cannot be locked, too."""
    return threading.BoundedSemaphore(count)


@dataclass(frozen=True)
class Slots:
    """``count`` slots of an account at a service.

    ``folder`` holds the lock files; all processes that share the account must use the same.
    """

    folder: Path
    count: int

    @classmethod
    def of_account(cls, account: str, service: str, count: int) -> Slots:
        """The slots of ``account`` at ``service``, a base URL, below ``$XDG_CACHE_HOME`` (or ``~/.cache``)."""
        digest = hashlib.sha256(f"{account}\0{service}".encode()).hexdigest()[:16]
        return cls(cache_folder() / "connections" / digest, count)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Hold one slot; waits until one is free."""
        ours = _threads(self.folder, self.count)
        while not ours.acquire(timeout=_PAUSE):
            stopping.check()
        try:
            with self._locked():
                self._count_request()
                yield
        finally:
            ours.release()

    def _count_request(self) -> None:
        """Wait until another request keeps the limit of requests."""
        while True:
            now = time.time()
            window = int(now // _WINDOW)
            with (self.folder / f"requests-{window}").open("ab") as file:
                file.write(b".")
                file.flush()
                if file.tell() <= REQUESTS_IN_WINDOW:
                    break
            stopping.pause((window + 1) * _WINDOW - now)
        for old in self.folder.glob("requests-*"):
            if int(old.name.rpartition("-")[2]) < window - 1:
                old.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of one slot; waits until another process releases one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            for number in range(self.count):
                with locked(self.folder / f"slot-{number}", wait=False) as slot:
                    if slot is not None:
                        yield
                        return
            stopping.pause(_PAUSE * (1 + random.random()))  # noqa: S311
