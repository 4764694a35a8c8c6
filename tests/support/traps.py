"""Modules that must not be imported: named like this project's and the standard library's, in a user's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SENTENCE = "imported from the folder where the command was typed"


NAMES = ("tasks.py", "flows/__init__.py", "deployments/__init__.py", "queue.py")


def lay_traps(folder: Path, names: Sequence[str] = NAMES) -> Path:
    """Put ``tasks.py``, ``flows/``, ``deployments/`` and ``queue.py`` there; the import of any of them is an error.

    Each also leaves a file ``trapped-by-…`` in ``folder``, in case somebody catches the error. Returns ``folder``.
    """
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        mark = folder / f"trapped-by-{name.partition('/')[0].removesuffix('.py')}"
        path.write_text(f"open({str(mark)!r}, 'w').close()\nraise ImportError({SENTENCE!r})\n")
    return folder


def trapped(folder: Path) -> list[str]:
    """Names of the traps that were imported."""
    return sorted(path.name.removeprefix("trapped-by-") for path in folder.glob("trapped-by-*"))
