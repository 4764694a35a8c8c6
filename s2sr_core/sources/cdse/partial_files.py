"""Files on their way: they have a name of their own until they are whole, and the next process continues them.

The name, ``.<file>.<host>.<process>.<thread>.part``, says who writes it. Whoever finds one that nobody writes any more
takes it over by renaming it, in which one process alone succeeds, also on filesystems without locks.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

#: Seconds after which a partial file of another host has no process any more: a download writes, or gives up, within
#: the time limit of a read, and clocks differ.
_RESTS = 600.0

#: The partial files of this process.
_in_use: set[Path] = set()


@contextlib.contextmanager
def partial_file(final: Path, *, may_continue: bool) -> Iterator[Path]:
    """The partial file of ``final``, which is renamed to ``final`` if the block ends without an error.

    Otherwise it stays for the next try, unless it is empty. With ``may_continue``, it begins with what another process
    received before it ended; without, it is always new and never stays.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    own = final.with_name(f".{final.name}.{socket.gethostname()}.{os.getpid()}.{threading.get_native_id()}.part")
    _in_use.add(own)
    try:
        if may_continue:
            _take_over(final, own)
        else:
            own.unlink(missing_ok=True)
        yield own
        own.replace(final)
        remove_orphans(final)
    finally:
        _in_use.discard(own)
        if not may_continue or _size(own) == 0:
            own.unlink(missing_ok=True)


def open_partial(path: Path) -> BinaryIO:
    """Open a partial file to read and write; it is created if it does not exist.

    Raises
    ------
    OSError
        If it cannot be written, or is a symbolic link: another file would be changed.
    """
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "r+b")


def remove_orphans(final: Path) -> None:
    """Remove the partial files of ``final`` that nobody writes any more."""
    for path in _orphans(final):
        path.unlink(missing_ok=True)


def _take_over(final: Path, own: Path) -> None:
    """Rename the largest partial file of ``final`` that nobody writes to ``own``, if it is larger than that."""
    for path in sorted(_orphans(final), key=_size, reverse=True):
        if _size(path) > _size(own):
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                path.replace(own)
                return


def _orphans(final: Path) -> list[Path]:
    prefix = f".{final.name}."
    return [
        path
        for path in (final.parent.iterdir() if final.parent.is_dir() else ())
        if path.name.startswith(prefix)
        and path.name.endswith(".part")
        and not _is_written(path, path.name.removeprefix(prefix))
    ]


def _is_written(path: Path, owner: str) -> bool:
    """Whether somebody may be writing a partial file; ``owner`` is ``<host>.<process>.<thread>.part``."""
    try:
        status = path.lstat()
    except OSError:
        return True  # its process has just renamed or removed it
    if not stat.S_ISREG(status.st_mode):
        return True  # none of ours
    host, process, *_ = [*owner.rsplit(".", 3), "", ""]
    if host == socket.gethostname() and process.isdecimal():
        if int(process) == os.getpid():
            return path in _in_use
        if not _is_alive(int(process)):
            return False
    return time.time() - status.st_mtime < _RESTS


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _size(path: Path) -> int:
    """Bytes of a regular file; 0 if there is none."""
    try:
        status = path.lstat()
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0
