"""A limit of byte connections per account, over all threads and processes of this machine.

A slot is a lock on a file in the user's cache folder; the process releases it however it ends.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from s2sr_core import stopping
from s2sr_core.files import locked
from s2sr_core.user_folders import cache_folder

_PAUSE = 0.05


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
    def of_account(cls, username: str, download_url: str, count: int) -> Slots:
        """The slots of ``username`` at ``download_url``, below ``$XDG_CACHE_HOME`` (or ``~/.cache``)."""
        account = hashlib.sha256(f"{username}\0{download_url}".encode()).hexdigest()[:16]
        return cls(cache_folder() / "connections" / account, count)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Hold one slot; waits until one is free."""
        ours = _threads(self.folder, self.count)
        while not ours.acquire(timeout=_PAUSE):
            stopping.check()
        try:
            with self._locked():
                yield
        finally:
            ours.release()

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
