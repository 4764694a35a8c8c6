"""What the page of a flow run shows: progress, tables, pictures, a report.

None of it decides anything: an artifact that cannot be made is a line in the log.
"""

from __future__ import annotations

import base64
import contextlib
import contextvars
import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate

from s2sr_core.outputs.pictures import Picture

logger = logging.getLogger("prefect.s2sr.artifacts")

#: Seconds between updates of the progress artifacts.
_PAUSE = 2.0
#: The most rows of a table; the whole table is a file in the work folder.
_MOST_ROWS = 500


@contextlib.contextmanager
def never_failing(what: str) -> Iterator[None]:
    """Log what goes wrong in the block, and continue."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # neither the server nor a picture may stop the run
        logger.warning("%s cannot be shown: %s: %s", what, type(error).__name__, error)


# ------------------------------------------------------------------------------------------------------------- regions


def region_of(work_dir: Path) -> str:
    """``lena-2024`` of ``/data/lena/2024``: the last two folders, because the last alone is often a year."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(work_dir.absolute().parts[-2:]).lower()).strip("-")


@contextlib.contextmanager
def keys_of(work_dir: Path, *, unseen: bool = False) -> Iterator[None]:
    """Artifacts that are made in the block have keys of their own for this work folder, so that it has a history.

    ``unseen``: nobody can see them, on a server that ends with the run, and none is made.
    """
    current, seen = _region.set(region_of(work_dir)), _unseen.set(unseen)
    try:
        yield
    finally:
        _region.reset(current)
        _unseen.reset(seen)


_region: contextvars.ContextVar[str] = contextvars.ContextVar("region", default="")
_unseen: contextvars.ContextVar[bool] = contextvars.ContextVar("unseen", default=False)


def _key(name: str) -> str:
    """The key of an artifact: Prefect allows lower-case letters, digits and dashes."""
    return f"{name}-{_region.get()}".strip("-")


# ------------------------------------------------------------------------------------------------------------ progress


class Bar:
    """One progress artifact: how many of how many are done. Counting is cheap, and any thread may do it."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.begun = self.moved = time.monotonic()
        self.total = self.done = 0
        self._lock = threading.Lock()
        self._shown: tuple[int, int] | None = None
        self._artifact: UUID | None = None

    def expect(self, count: int) -> None:
        with self._lock:
            self.total += count

    def step(self, _: object = None) -> None:
        with self._lock:
            self.done += 1
            self.moved = time.monotonic()

    @property
    def seconds(self) -> float:
        """From the creation of the bar to its last step."""
        return self.moved - self.begun

    def show(self) -> None:
        """Make the artifact, or update it if something has changed."""
        done, total = self.done, self.total
        if total == 0 or self._shown == (done, total) or _unseen.get():
            return
        text, share = f"{self.title}: {done} of {total}", 100.0 * done / total
        if self._artifact is None:
            key = _key(self.title.lower().replace(" ", "-"))
            self._artifact = _id(create_progress_artifact(share, key=key, description=text))
        else:
            update_progress_artifact(self._artifact, share, description=text)
        self._shown = done, total


class Bars:
    """The bars of a flow run, shown by a thread of their own, so that nothing waits for the server."""

    def __init__(self) -> None:
        self._bars: dict[str, Bar] = {}
        self._ended = threading.Event()

    def bar(self, title: str) -> Bar:
        return self._bars.setdefault(title, Bar(title))

    def seconds(self) -> dict[str, float]:
        """How long each stage took, by title."""
        return {bar.title: bar.seconds for bar in self._bars.values() if bar.total}

    @contextlib.contextmanager
    def shown(self) -> Iterator[Bars]:
        """Show them while the block runs, and once more at its end."""
        # Artifacts belong to the flow run of the context they are made in.
        thread = threading.Thread(target=contextvars.copy_context().run, args=(self._show_all,), daemon=True)
        thread.start()
        current = _current.set(self)
        try:
            yield self
        finally:
            _current.reset(current)
            self._ended.set()
            thread.join()

    def _show_all(self) -> None:
        last = False
        while not last:
            last = self._ended.wait(_PAUSE)
            for bar in list(self._bars.values()):
                with never_failing(f"progress of {bar.title}"):
                    bar.show()


_current: contextvars.ContextVar[Bars | None] = contextvars.ContextVar("bars", default=None)


def bar(title: str) -> Bar:
    """The bar of this title in the current flow run; outside one, a bar that is not shown."""
    bars = _current.get()
    return Bar(title) if bars is None else bars.bar(title)


# -------------------------------------------------------------------------------------------- tables, pictures, report


def publish_table(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    """A table; of a long one the first rows, with a note that there are more."""
    if _unseen.get():
        return
    if len(rows) > _MOST_ROWS:
        description = f"{description} The first {_MOST_ROWS} of {len(rows)} rows."
    with never_failing(f"table {key}"):
        create_table_artifact([dict(row) for row in rows[:_MOST_ROWS]], key=_key(key), description=description)


def publish_markdown(key: str, text: str, description: str = "") -> UUID | None:
    """A page of text; a later one of the same key is its next version. None if it could not be made."""
    if _unseen.get():
        return None
    with never_failing(key):
        return _id(create_markdown_artifact(text, key=_key(key), description=description or None))
    return None


def publish_picture(key: str, picture: bytes, caption: str) -> UUID | None:
    """A PNG inside the text of an artifact, so that no file has to be served."""
    return publish_markdown(key, _with_picture(key, picture), caption)


def publish_pictures(pictures: Sequence[Picture]) -> None:
    """Each of them, under its key."""
    for picture in pictures:
        publish_picture(picture.key, picture.png, picture.caption)


class MovingPicture:
    """One artifact whose picture changes while the flow runs."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._artifact: UUID | None = None

    def show(self, picture: bytes, caption: str) -> None:
        if self._artifact is None:
            self._artifact = publish_picture(self._key, picture, caption)
            return
        update = ArtifactUpdate(data=_with_picture(self._key, picture), description=caption)
        with never_failing(self._key), get_client(sync_client=True) as client:
            client.update_artifact(self._artifact, update)


def _with_picture(key: str, picture: bytes) -> str:
    return f"![{key}](data:image/png;base64,{base64.b64encode(picture).decode('ascii')})"


def _id(made: object) -> UUID:
    if not isinstance(made, UUID):
        raise TypeError("made in an event loop")
    return made
