"""Files of the user, looked for before any work; files of a run, never seen half-written; locks on files."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from s2sr_core.errors import InputError


def check_exists(field: str, path: Path, remedy: str) -> os.stat_result:
    """Look for the file or folder that the parameter ``field`` names; ``remedy`` says what to give instead.

    Raises
    ------
    InputError
        If it does not exist, or nobody may look.
    """
    try:
        return path.stat()
    except FileNotFoundError as error:
        raise InputError(field, path, "does not exist", remedy) from error
    except OSError as error:
        raise InputError(field, path, f"cannot be read ({error.strerror})", remedy) from error


def check_readable(field: str, path: Path, remedy: str) -> None:
    """Look for the file that the parameter ``field`` names, without opening it.

    Raises
    ------
    InputError
        If it does not exist, is a folder or cannot be read.
    """
    if stat.S_ISDIR(check_exists(field, path, remedy).st_mode):
        raise InputError(field, path, "is a folder, not a file", remedy)
    if not os.access(path, os.R_OK):
        raise InputError(field, path, "cannot be read (Permission denied)", remedy)


@contextlib.contextmanager
def written_atomically(final: Path) -> Iterator[Path]:
    """A temporary path in the folder of ``final``, which is renamed to ``final`` if the block ends without an error.

    Otherwise the temporary file is removed, and ``final`` stays as it was.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{socket.gethostname()}.{os.getpid()}.{threading.get_native_id()}.part")
    try:
        yield temporary
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[IO[str] | None]:
    """Hold a lock among processes on ``path``, which is created; it ends with the block, or with the process.

    Gives the file, open for reading and appending; without ``wait``, None if somebody else holds the lock. On a
    filesystem without locks everybody gets it: nothing can be promised there.
    """
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        except OSError:
            pass
        yield file


def write_text(final: Path, text: str) -> None:
    """Write ``text`` (UTF-8), so that ``final`` is never seen half-written."""
    with written_atomically(final) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_record(path: Path) -> dict[str, Any] | None:
    """The record (a JSON object) in ``path``, or None if there is none that can be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record, whole or not at all."""
    write_text(path, json.dumps(record, indent=2) + "\n")
