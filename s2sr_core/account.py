"""The variables of the account and of its S3 keys, which only the login and downloads read.

While a run lasts, no process that it starts inherits them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

ACCOUNT = (
    *("CDSE_USERNAME", "CDSE_PASSWORD", "CDSE_PASSWORD_FILE", "CDSE_TOTP"),
    *("CDSE_S3_ACCESS_KEY", "CDSE_S3_SECRET_KEY", "CDSE_S3_KEYS_FILE"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"),
)

#: Of ``/proc/<process>/stat`` after the name: where the environment begins and ends that the process was started with.
_ENVIRONMENT = slice(47, 49)

_lock = threading.Lock()
#: The variables that are out of the environment now, and how many blocks keep them out.
_kept: dict[str, str] = {}
_blocks = 0


def account_variable(name: str) -> str:
    """The value of one of ``ACCOUNT``, also while it is hidden from the environment; empty if it is not set."""
    with _lock:
        return os.environ.get(name) or _kept.get(name, "")


@contextlib.contextmanager
def account_hidden() -> Iterator[None]:
    """Processes that start within the block, whoever starts them and when, inherit nothing of the account.

    :func:`account_variable` still knows it. Blocks may overlap: the variables are back when the last one has ended.
    """
    global _blocks
    with _lock:
        _kept.update({name: os.environ.pop(name) for name in ACCOUNT if name in os.environ})
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                os.environ.update(_kept)
                _kept.clear()


def without_account(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a process that does not log in."""
    return {name: value for name, value in environment.items() if name not in ACCOUNT}


def forget_account() -> None:
    """Remove the account's variables for good from this process, which an MPI launcher started or which is a copy.

    The system would go on showing them in ``/proc/<process>/environ``, so they are overwritten there. Only for the
    start of a process, when no other thread reads its environment.
    """
    for name in ACCOUNT:
        os.environ.pop(name, None)
    _kept.clear()
    fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    start, end = map(int, fields[_ENVIRONMENT])
    for entry in ctypes.string_at(start, end - start).split(b"\0"):
        if entry.partition(b"=")[0].decode("utf-8", "replace") in ACCOUNT:
            ctypes.memset(start, ord("x"), len(entry))
        start += len(entry) + 1
