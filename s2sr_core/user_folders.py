"""Folders of the user outside a run's own, on machines whose home folder cannot be written or does not exist."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from s2sr_core.errors import InputError

#: Where Prefect keeps its settings and files; unless this is set, in ``~/.prefect``.
_PREFECT_HOME = "PREFECT_HOME"


def check_prefect_home() -> str:
    """The folder of Prefect, created if it does not exist.

    If nobody has chosen it, and none can be had in the home folder, this process and its children get one in the folder
    for temporary files. So do those of a user without any home folder, for all that programs keep there.

    Raises
    ------
    InputError
        If one is chosen that cannot be written.
    """
    chosen = os.environ.get(_PREFECT_HOME, "")
    try:
        Path.home()
    except RuntimeError:  # neither HOME is set, nor has the user an entry in the table of users
        os.environ["HOME"] = str(own := _temporary())
        if not chosen:
            return f"{own}/.prefect, because this user has no home folder"
    if problem := _problem(Path(chosen or "~/.prefect")):
        if chosen:
            raise InputError(_PREFECT_HOME, chosen, problem, "give a folder that you can write to, or unset it")
        os.environ[_PREFECT_HOME] = str(own := _temporary() / "prefect")
        return f"{own}, because ~/.prefect {problem}"
    return chosen or "~/.prefect"


def cache_folder() -> Path:
    """Where all runs of this user on this machine meet: ``$XDG_CACHE_HOME/s2sr`` or ``~/.cache/s2sr``, created.

    If that cannot be written, a folder among the temporary files.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "s2sr"
    return _temporary() if _problem(folder) else folder.expanduser()


def _problem(folder: Path) -> str:
    """Why a folder, which is created, cannot be written; empty if it can."""
    try:
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    except RuntimeError:
        return "cannot be found (this user has no home folder)"


def _temporary() -> Path:
    """The same for all runs of this user on this machine; another one if somebody else has taken its name."""
    folder = Path(tempfile.gettempdir()) / f"s2sr-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
    return folder if private else Path(tempfile.mkdtemp(prefix="s2sr-"))
