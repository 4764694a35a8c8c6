"""The numbers that this process has as a worker of runs which did not start it, by their work folders."""

from __future__ import annotations

from pathlib import Path

_numbers: dict[Path, int] = {}


def assign_rank(work_dir: Path, number: int) -> None:
    """From now on this process is the worker ``number`` of the run in ``work_dir``."""
    _numbers[work_dir] = number


def withdraw_rank(work_dir: Path) -> None:
    """The process works no more for the run in ``work_dir``."""
    _numbers.pop(work_dir, None)


def assigned_rank(work_dir: Path) -> int | None:
    """The number of this process in the run of ``work_dir``; None if nobody gave it one."""
    return _numbers.get(work_dir)
