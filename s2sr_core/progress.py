"""Progress of long work: a bar with counts and time left in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

#: Seconds between lines where there is no terminal.
_PAUSE = 15.0

Advance = Callable[[], None]


@contextlib.contextmanager
def progress(title: str, total: int | None) -> Iterator[Advance]:
    """Show ``title``; call what is yielded once for each of ``total`` items done (None: not known beforehand)."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bars:
            task = bars.add_task(title, total=total)
            yield lambda: bars.advance(task)
        return
    lines = _Lines(title, total)
    yield lines.advance
    lines.end()


class _Lines:
    def __init__(self, title: str, total: int | None) -> None:
        self._title, self._total, self._done = title, total, 0
        self._begun = self._said = time.monotonic()

    def advance(self) -> None:
        self._done += 1
        if time.monotonic() - self._said >= _PAUSE and self._done != self._total:
            self._say()

    def end(self) -> None:
        self._say()

    def _say(self) -> None:
        self._said = now = time.monotonic()
        spent = now - self._begun
        text = f"{self._title}: {self._done}"
        if self._total is not None:
            text += f" of {self._total}"
            if 0 < self._done < self._total:
                text += f", about {spent / self._done * (self._total - self._done):.0f} s left"
        print(f"{text} ({spent:.0f} s)", file=sys.stderr, flush=True)
