"""Python must not import from the folder where the command was typed.

``python -m``, ``python -c`` and an empty entry of PYTHONPATH put the current folder ahead of the standard library. A
``queue.py``, a ``tasks.py`` or a folder ``flows`` that lies there would be imported instead of the real one. The one
exception is a current folder that holds this project itself: a checkout that is not installed is imported from there.

This module imports as little as possible: the command lines call it before they import anything else.
"""

# pathlib would import half a dozen modules, which may lie in the current folder.
# ruff: noqa: PTH100, PTH117, PTH119, PTH120

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping

#: The folder that holds this project's packages: a checkout, or a ``site-packages``.
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_VARIABLES = ("PYTHONSAFEPATH", "PYTHONPATH")


def is_checkout() -> bool:
    """Whether this project is imported from a folder of its own, and not from among other installed packages."""
    return os.path.basename(ROOT) not in ("site-packages", "dist-packages")


def environment_of_child(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment for a Python process that imports this project, and nothing from its current folder.

    ``environment`` is this process's own by default. Relative entries of its PYTHONPATH are left out.
    """
    given = dict(os.environ if environment is None else environment)
    entries = [entry for entry in given.pop("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry)]
    kept = _without_current_folder([*([ROOT] if is_checkout() else []), *entries])
    return {**given, "PYTHONSAFEPATH": "1"} | ({"PYTHONPATH": os.pathsep.join(kept)} if kept else {})


def leave_out_current_folder() -> None:
    """From now on neither this process nor a Python process that it starts imports from the current folder."""
    sys.path[:] = _without_current_folder(sys.path)
    safe = environment_of_child()
    for name in _VARIABLES:
        if name in safe:
            os.environ[name] = safe[name]
        else:
            os.environ.pop(name, None)


@contextlib.contextmanager
def current_folder_left_out() -> Iterator[None]:
    """As :func:`leave_out_current_folder`, until the block ends; for flows in a process that belongs to somebody else.

    ``multiprocessing`` hands ``sys.path`` to the processes it spawns, which is why it changes, too.
    """
    path, variables = list(sys.path), {name: os.environ.get(name) for name in _VARIABLES}
    leave_out_current_folder()
    try:
        yield
    finally:
        sys.path[:] = path
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _without_current_folder(path: list[str]) -> list[str]:
    """``path`` without the current folder, unless that holds this project; each entry once."""
    current, root = os.path.realpath(os.curdir), os.path.realpath(ROOT)
    kept = []
    for entry in path:
        folder = os.path.realpath(entry or os.curdir)
        if folder == root:
            kept.append(ROOT)
        elif folder != current:
            kept.append(entry)
    return list(dict.fromkeys(kept))
