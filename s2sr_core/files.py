"""Files that are never seen half-written: written beside, then renamed."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def written_beside(final: Path) -> Iterator[Path]:
    """A temporary path in ``final``'s folder that gets ``final``'s name when the block ends well, else goes."""
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.with_name(f".{final.name}.{socket.gethostname()}.{os.getpid()}.{threading.get_native_id()}.part")
    try:
        yield temporary
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(final: Path, text: str) -> None:
    """Write ``text`` so that ``final`` is never seen half-written."""
    with written_beside(final) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_record(path: Path) -> dict[str, Any] | None:
    """A record, or None where there is none that can be read."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record, whole or not at all."""
    write_text(path, json.dumps(record, indent=2) + "\n")
