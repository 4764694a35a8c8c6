"""Files of the user, looked for before any work; files of a run, never seen half-written; locks on files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import logging
import os
import shutil
import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from s2sr_core.errors import InputError

#: Bytes that a record and a table of a run may have.
_LARGEST_RECORD, _LARGEST_TABLE = 100_000_000, 2_000_000_000

_logger = logging.getLogger(__name__)
#: Devices of filesystems without locks that the log has named.
_unlocked: set[int] = set()


def shown(text: str) -> str:
    r"""``text`` with each byte of a file's name that is not UTF-8 as ``\xNN``, which can be written and printed."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_utf8(path: Path) -> bool:
    """Whether a path can be written as text; GDAL, tables and Prefect take no other."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


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
        If it does not exist, is a folder, a pipe or a device, or cannot be read.
    """
    mode = check_exists(field, path, remedy).st_mode
    if stat.S_ISDIR(mode):
        raise InputError(field, path, "is a folder, not a file", remedy)
    if not stat.S_ISREG(mode):
        raise InputError(field, path, "is not a regular file", remedy)
    if not os.access(path, os.R_OK):
        raise InputError(field, path, "cannot be read (Permission denied)", remedy)


def check_folder(field: str, path: Path, remedy: str) -> None:
    """Look for the folder that the parameter ``field`` names, without listing it.

    Raises
    ------
    InputError
        If it does not exist, is not a folder, or cannot be read.
    """
    if not stat.S_ISDIR(check_exists(field, path, remedy).st_mode):
        raise InputError(field, path, "is not a folder", remedy)
    if not os.access(path, os.R_OK | os.X_OK):
        raise InputError(field, path, "cannot be read (Permission denied)", remedy)


def check_writable(field: str, folder: Path) -> None:
    """Look whether the folder that the parameter ``field`` names can be written, without writing anything.

    Raises
    ------
    InputError
        If it, or the nearest folder above it that exists, is not a folder that this user can write.
    """
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if not existing.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        remedy = "give a folder that you can write to"
        raise InputError(field, folder, f"cannot be written ({error.strerror})", remedy) from error


def read_bytes(path: Path, limit: int) -> bytes:
    """The bytes of a regular file, which somebody else may have put there: nothing is waited for.

    Raises
    ------
    OSError
        If it cannot be read, is a pipe, a socket or a device, or has more than ``limit`` bytes.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # to open a device can do something to it
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # another may be there by now
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"has more than {limit // 10**6} MB", str(path))
    return content


def table_in(path: Path) -> io.BytesIO:
    """The bytes of a table of a run, for a parser.

    Raises
    ------
    OSError
        As :func:`read_bytes`.
    """
    return io.BytesIO(read_bytes(path, _LARGEST_TABLE))


def remove_tree(folder: Path) -> None:
    """Remove a folder and what is in it, as far as that is possible; a link is left alone."""
    with contextlib.suppress(RecursionError):  # a thousand folders deep
        shutil.rmtree(folder, ignore_errors=True)


def open_to_append(path: Path) -> IO[str]:
    """Open a text file (UTF-8) to read and append; it is created if it does not exist.

    Raises
    ------
    OSError
        If it cannot be written, or is not a regular file: a symbolic link would have another file changed.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(errno.ELOOP, f"{path.name} is a symbolic link", str(path)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"{path.name} is not a regular file", str(path))
    return os.fdopen(descriptor, "a+", encoding="utf-8")


@contextlib.contextmanager
def written_atomically(final: Path) -> Iterator[Path]:
    """A temporary path in the folder of ``final``, which is renamed to ``final`` if the block ends without an error.

    Otherwise the temporary file is removed, and ``final`` stays as it was.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{socket.gethostname()}.{os.getpid()}.{threading.get_native_id()}.part")
    temporary.unlink(missing_ok=True)  # a link would have another file written
    try:
        yield temporary
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[IO[str] | None]:
    """Hold a lock among processes on ``path``, which is created; it ends with the block, or with the process.

    Gives the file, open for reading and appending; without ``wait``, None if somebody else holds the lock. On a
    filesystem without locks everybody gets it, and the log says so once.
    """
    with open_to_append(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        except OSError as error:
            _say_unlocked(path.parent, error)
        yield file


def _say_unlocked(folder: Path, error: OSError) -> None:
    device = folder.stat().st_dev
    if device not in _unlocked:
        _unlocked.add(device)
        _logger.warning("the filesystem of %s has no locks (%s); let one run at a time use it", folder, error.strerror)


def write_text(final: Path, text: str) -> None:
    """Write ``text`` (UTF-8), so that ``final`` is never seen half-written."""
    with written_atomically(final) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_record(path: Path) -> dict[str, Any] | None:
    """The record (a JSON object) in ``path``, or None if there is none that can be read."""
    try:
        record = json.loads(read_bytes(path, _LARGEST_RECORD))
    except (OSError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record, whole or not at all."""
    write_text(path, json.dumps(record, indent=2) + "\n")
