"""Which files of products were found to be what their manifests say, so that no run reads them again for it.

It is remembered in the folder of the run, a file for each product, never next to the products.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from s2sr_core.files import read_record, write_record
from s2sr_core.workspace import Workspace


@dataclass(frozen=True, slots=True)
class CheckedFiles:
    """The memory of one run's folder."""

    workspace: Workspace

    def knows(self, product: str, path: Path, checksum: str) -> bool:
        """Whether the file was found right, and neither it nor what is expected of it has changed since."""
        known = read_record(self.workspace.checked_files(product)) or {}
        try:
            return bool(known.get(str(path)) == _state(path, checksum))
        except OSError:
            return False

    def remember(self, product: str, path: Path, checksum: str) -> None:
        """Note that the file is right, unless the disk is full: it only saves time."""
        record = self.workspace.checked_files(product)
        with contextlib.suppress(OSError):
            write_record(record, {**(read_record(record) or {}), str(path): _state(path, checksum)})


def _state(path: Path, checksum: str) -> list[str | int]:
    """What changes when the file, or what is expected of it, does."""
    status = path.stat()
    return [checksum, status.st_size, status.st_mtime_ns, status.st_ino]
