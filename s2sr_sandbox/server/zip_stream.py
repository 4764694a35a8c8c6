"""A folder as an uncompressed zip, written while it is sent: its size is known beforehand, its bytes never change."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

_BLOCK = 1 << 18
_EPOCH = (1980, 1, 1, 0, 0, 0)


class ZipStream:
    """The zip of ``folder``, the folder itself at its root as CDSE packs products."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = sorted(path for path in folder.rglob("*") if path.is_file())

    @cached_property
    def size(self) -> int:
        """Bytes of the whole zip, found without reading the files."""
        sink = _Sink()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
            overhead = 0
            for path in self._files:
                archive.writestr(self._info(path), b"")
                overhead += path.stat().st_size
        return sink.written + overhead

    def blocks(self) -> Iterator[bytes]:
        """The zip, block by block."""
        sink = _Sink()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
            for path in self._files:
                with path.open("rb") as source, archive.open(self._info(path), "w") as member:
                    while block := source.read(_BLOCK):
                        member.write(block)
                        yield sink.taken()
                yield sink.taken()
        yield sink.taken()

    def _info(self, path: Path) -> zipfile.ZipInfo:
        name = path.relative_to(self._folder.parent).as_posix()
        info = zipfile.ZipInfo(name, _EPOCH)
        info.external_attr = 0o644 << 16
        return info


class _Sink:
    """A file that cannot seek and forgets what was taken from it."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self.written = 0

    def write(self, block: bytes, /) -> int:
        self._blocks.append(bytes(block))
        self.written += len(block)
        return len(block)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def taken(self) -> bytes:
        taken = b"".join(self._blocks)
        self._blocks.clear()
        return taken
