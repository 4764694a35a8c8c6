"""A full disk, said as such: by Python it is an error of its own, by GDAL a text, or just a file that is too short."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_TEXT = re.compile("no space left on device|disk quota exceeded", re.IGNORECASE)
#: Bytes that are tried to be had; what could not be written was larger or left nothing.
_PROBE = 4 * 1024**2


def explained(error: BaseException, *folders: Path, needed: int | None = None) -> str:
    """What went wrong, on one line: that a disk is full if ``error`` says so, or if one of ``folders`` takes nothing.

    ``needed`` is how many bytes the work that failed takes in all; None if that is not known.
    It costs a file of 4 MB in each of ``folders`` and the folder for temporary files, which is allocated and not
    written; so it is for errors alone. To be called before what did not fit is removed.
    """
    full = _full_folder(error, folders)
    if full is not None:
        space = "some" if needed is None else f"{max(-(-needed // 10**6), 1)} MB or more"
        return f"no space left on {full}; free {space} there, or use another disk, and run the same again"
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return " ".join(text.split())


def is_full_disk(error: BaseException) -> bool:
    """Whether an error, or what caused it, says by itself that a disk is full."""
    return any(_says_full(cause) for cause in _causes(error))


def is_full(folder: Path) -> bool:
    """Whether ``folder`` takes no file of a few megabytes, for want of space or of quota."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, _PROBE)
    except OSError as error:
        return error.errno in _FULL
    return False


def _full_folder(error: BaseException, folders: tuple[Path, ...]) -> Path | None:
    for cause in _causes(error):
        if _says_full(cause) and isinstance(cause, OSError) and isinstance(cause.filename, str):
            return Path(cause.filename).parent
    places = (*folders, Path(tempfile.gettempdir()))
    if not isinstance(error, OSError | RuntimeError | ValueError) and not is_full_disk(error):
        return None
    full = next((place for place in places if is_full(place)), None)
    return places[0] if full is None and is_full_disk(error) else full


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _says_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return _TEXT.search(str(error)) is not None
