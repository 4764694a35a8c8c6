"""Progress of long work, on stderr: bars with counts and time left in a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from s2sr_core import stopping

#: Seconds between lines if there is no terminal.
_PAUSE = 15.0

Advance = Callable[[], None]
Show = Callable[[str, int, int | None], None]
#: What shows progress instead of this process's stderr.
_elsewhere: Show | None = None


@contextlib.contextmanager
def progress_shown_by(show: Show) -> Iterator[None]:
    """Within the block, progress is shown by ``show``: called with a title, the number of items done and their total.

    For a run whose user looks at another process.
    """
    global _elsewhere
    before, _elsewhere = _elsewhere, show
    try:
        yield
    finally:
        _elsewhere = before


@contextlib.contextmanager
def progress(title: str, total: int | None) -> Iterator[Advance]:
    """Show the progress of ``total`` items (None: unknown); call the yielded function once for each item done.

    It raises a ``StoppedError`` if the process shall stop.
    """
    done = 0

    def advance() -> None:
        nonlocal done
        stopping.check()
        done += 1
        show(title, done, total)

    with progress_of_several() as show:
        show(title, 0, total)
        yield advance


@contextlib.contextmanager
def progress_of_several() -> Iterator[Show]:
    """Show several kinds of work that run at the same time.

    Call the yielded function with a title, the number of items done and their total (None: unknown), which may grow.
    """
    if _elsewhere is not None:
        yield _elsewhere
        return
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
            shown: dict[str, TaskID] = {}

            def show(title: str, done: int, total: int | None) -> None:
                if title not in shown:
                    shown[title] = bars.add_task(title, total=total)
                bars.update(shown[title], completed=done, total=total)

            yield show
        return
    lines: dict[str, _Lines] = {}

    def say(title: str, done: int, total: int | None) -> None:
        lines.setdefault(title, _Lines(title)).update(done, total)

    yield say
    for each in lines.values():
        each.end()


def announce(sentence: str) -> None:
    """Say something that the user should know at once, above the bars."""
    print(sentence, file=sys.stderr, flush=True)


class _Lines:
    def __init__(self, title: str) -> None:
        self._title = title
        self._done = 0
        self._total: int | None = None
        self._begun = self._said = time.monotonic()

    def update(self, done: int, total: int | None) -> None:
        is_news = done > self._done
        self._done, self._total = done, total
        if is_news and time.monotonic() - self._said >= _PAUSE and done != total:
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
