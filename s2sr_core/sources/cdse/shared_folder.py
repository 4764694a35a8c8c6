"""Downloads into a folder that several runs share: one of them at a time completes a product, and the others wait.

The lock is a file that the kernel unlocks however its process ends. Without locks (some network filesystems) two runs
may download the same file; each writes under a name of its own, and what is renamed last is as whole as the first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections.abc import Iterator
from pathlib import Path

from s2sr_core import stopping
from s2sr_core.files import locked
from s2sr_core.products.names import ProductName

#: Folder of the lock files, which no search for products looks at: they are not named like one.
_LOCKS = ".locks"
_PAUSE = 0.2

_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def completing(folder: Path, name: ProductName) -> Iterator[None]:
    """Be the only one who completes the product ``name`` in ``folder``; waits while another thread or run does.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    path = folder / _LOCKS / f"lock-{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    waits = False
    while True:
        with locked(path, wait=False) as lock:
            if lock is not None and _is_same(lock.fileno(), path):
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                    with contextlib.suppress(OSError):  # it is not empty, unless nothing came at all
                        (folder / name.folder).rmdir()
                return
        if lock is None:
            if not waits:
                _logger.info("%s is being downloaded by another run, which is waited for", name)
                waits = True
            stopping.pause(_PAUSE * (1 + random.random()))  # noqa: S311


def _is_same(descriptor: int, path: Path) -> bool:
    """Whether the file that was locked still has its name: who held the lock before has removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
