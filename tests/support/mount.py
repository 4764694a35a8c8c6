"""The archive of CDSE as it is mounted on its own machines."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from s2sr_sandbox.server.products import Entry


def mounted(entries: Iterable[Entry], archive: Path, mount: Path) -> Path:
    """Products of ``archive`` below ``mount``, where the catalogue says that they are; gives ``mount``."""
    for entry in entries:
        place = mount / entry.s3_path.removeprefix("/eodata/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(archive / entry.name)
    return mount
