"""Progress of a run where it was asked for: in a notebook, bars below the cell; elsewhere the run prints it itself."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from s2sr_core.progress import Show

#: Seconds between two updates of what is shown.
_PAUSE = 0.3


@contextmanager
def progress_display() -> Iterator[Show | None]:
    """In a notebook, what shows progress; elsewhere None."""
    if not _is_notebook():
        yield None
        return
    from IPython.display import HTML, display

    handle = display(HTML(""), display_id=True)
    bars: dict[str, tuple[int, int | None]] = {}
    shown = 0.0

    def show(title: str, done: int, total: int | None) -> None:
        nonlocal shown
        bars[title] = done, total
        if time.monotonic() - shown > _PAUSE:
            shown = time.monotonic()
            handle.update(HTML(_table(bars)))

    yield show
    handle.update(HTML(_table(bars)))


def _is_notebook() -> bool:
    """Whether the code runs in a Jupyter kernel, whose pages show HTML."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _table(bars: dict[str, tuple[int, int | None]]) -> str:
    rows = (
        f"<tr><td>{html.escape(title)}</td><td><progress value={done} max={total or max(done, 1)}></progress></td>"
        f"<td>{done}{'' if total is None else f' of {total}'}</td></tr>"
        for title, (done, total) in bars.items()
    )
    return f"<table>{''.join(rows)}</table>"
