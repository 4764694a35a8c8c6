"""The files of a composite as its record holds them, and whether they still are what was written.

Size and time are looked at first, so that a re-run reads no file that nobody touched. A file with another time is read
once, and its checksum decides.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self


class FileState(StrEnum):
    """A file compared with its record."""

    SAME = "same"
    #: The same bytes at another time, as after ``cp`` or ``rsync``.
    COPIED = "copied"
    CHANGED = "changed"
    MISSING = "missing"
    #: The file is there, and the record does not name it.
    UNRECORDED = "unrecorded"


#: States of a file that holds what was written.
INTACT = (FileState.SAME, FileState.COPIED)


@dataclass(frozen=True, slots=True)
class RecordedFile:
    """A file when it was written.

    Attributes
    ----------
    size: bytes.
    mtime_ns: time of its last change, nanoseconds since 1970; None if the record does not say.
    sha256: of its bytes, hexadecimal; empty if the record does not say.
    """

    size: int
    mtime_ns: int | None = None
    sha256: str = ""

    @classmethod
    def of(cls, path: Path, sha256: str) -> Self:
        """The file as it is now; its checksum is known."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, sha256)

    def state(self, path: Path, *, thorough: bool = False) -> FileState:
        """Compare the file in ``path``. It is read if its size is right and its time is not; with ``thorough``, always.

        A record without a checksum (of an earlier version) is compared by size alone.

        Raises
        ------
        OSError
            If the file cannot be read.
        """
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return FileState.MISSING
        if not stat.S_ISREG(status.st_mode):
            return FileState.MISSING
        if status.st_size != self.size:
            return FileState.CHANGED
        is_same_time = status.st_mtime_ns == self.mtime_ns
        if not self.sha256 or (is_same_time and not thorough):
            return FileState.SAME
        if sha256_of(path) != self.sha256:
            return FileState.CHANGED
        return FileState.SAME if is_same_time else FileState.COPIED


def sha256_of(path: Path) -> str:
    """The checksum of a file's bytes, hexadecimal; read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recorded_files(record: Mapping[str, Any]) -> dict[str, RecordedFile]:
    """The files that a record of a composite names, by name.

    Earlier versions recorded the sizes alone, as ``bytes``. What is not a file's description is left out.
    """
    files = record.get("files", record.get("bytes"))
    if not isinstance(files, dict):
        return {}
    return {str(name): file for name, entry in files.items() if (file := _recorded(entry)) is not None}


def _recorded(entry: object) -> RecordedFile | None:
    if isinstance(entry, int):
        return RecordedFile(entry)
    if not isinstance(entry, dict) or not isinstance(size := entry.get("size"), int):
        return None
    mtime_ns, sha256 = entry.get("mtime_ns"), entry.get("sha256")
    return RecordedFile(
        size, mtime_ns if isinstance(mtime_ns, int) else None, sha256 if isinstance(sha256, str) else ""
    )
