"""Files that hold a secret."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from s2sr_core.errors import InputError

#: More than any file of keys has.
_LARGEST = 1 << 20


def read_private_file(field: str, path: Path) -> str:
    """The text of a file that only its owner can read; ``field`` names it in errors.

    Raises
    ------
    InputError
        If it cannot be read, is not a regular file, is not text, or can be read or changed by others.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise InputError(field, path, "is not a regular file", "give a file of mode 0600")
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o177:
                problem = f"can be read or changed by others (mode {mode:04o})"
                raise InputError(field, path, problem, f"type: chmod 600 {path}")
            return file.read(_LARGEST)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise InputError(field, path, f"cannot be read ({reason})", "give a file of mode 0600") from error
