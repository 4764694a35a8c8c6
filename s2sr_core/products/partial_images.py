"""Images of which some JPEG 2000 tiles are there: those that a run needed.

Such an image is ``<image>.tiles`` next to where the whole one would be, a sparse file of the size of the image in which
everything is at its place: the header, each tile-part that came, and of each other one the marker SOT alone. So
decoders read the tiles that are there as they read the whole image, pass over the others, and fail at one that they are
asked for. ``<image>.tiles.json`` says which tile-parts are there, with a SHA-256 of each. No checksum of the manifest
vouches for them, until all of them are there: the file then becomes the image.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from s2sr_core.files import read_record, write_record, written_atomically
from s2sr_core.geo.codestream import Layout, LayoutError, TilePart, layout_found, layout_of
from s2sr_core.geo.lattice import Window

#: Bytes of a header, at most: real ones have some kilobytes.
LARGEST_HEADER = 1 << 20
#: Share of an image from which on the whole is better: it costs little more, and can be checked.
WHOLE_FROM = 0.75
#: Share of the pixels of an image whose tiles may be searched for: what comes in vain is about as much as is wanted.
MOST_SEARCHED = 0.25
#: Bytes at the start of a tile-part without which nothing of it can be decoded: SOT, and the marker that follows.
_MARKERS = 14
_BLOCK = 1 << 20
#: Seconds after which no run reads an image any more by the name that it had before it was whole.
_IN_USE = 86_400.0


def tiles_path(image: Path) -> Path:
    """The file of the tiles of ``image`` that are there."""
    return image.with_name(f"{image.name}.tiles")


def image_path(tiles: Path) -> Path:
    """The path of the whole image, of which ``tiles`` is the file of the tiles that are there."""
    return tiles.with_name(tiles.name.removesuffix(".tiles"))


def _index_path(image: Path) -> Path:
    return image.with_name(f"{image.name}.tiles.json")


@dataclass(frozen=True)
class PartialImage:
    """An image of which some tiles are there.

    Attributes
    ----------
    image: the path that the whole one would have.
    checksum: of the whole one, as the manifest lists it.
    layout: where tiles are.
    parts: SHA-256 (hexadecimal) of each tile-part that is there, by its place in the layout.
    """

    image: Path
    checksum: str
    layout: Layout
    parts: Mapping[int, str]

    @classmethod
    def read(cls, image: Path, size: int | None, checksum: str) -> PartialImage | None:
        """What is there of ``image``, whose manifest lists ``size`` and ``checksum``; None if that is nothing."""
        record, path = read_record(_index_path(image)), tiles_path(image)
        try:
            if record is None or (record["size"], record["checksum"]) != (size, checksum):
                return None
            header, parts = record["header"], {int(place): str(digest) for place, digest in record["parts"].items()}
            if not 0 < header <= LARGEST_HEADER or path.is_symlink() or path.stat().st_size != size:
                return None
            with path.open("rb") as file:
                beginning = file.read(header)
            found = record.get("found")
            if found is None:
                layout = layout_of(beginning, size)
            else:
                found = {int(tile): (int(start), int(length)) for tile, (start, length) in found.items()}
                layout = layout_found(beginning, size, found)
        except (OSError, LayoutError, KeyError, TypeError, ValueError, AttributeError):
            return None
        there = set(range(len(layout.parts))) if layout.found is None else layout.found
        return cls(image, checksum, layout, parts) if parts.keys() <= there else None

    @classmethod
    def begin(cls, image: Path, header: bytes, layout: Layout, trailer: bytes, checksum: str) -> PartialImage:
        """Write the file with its header and what follows the last tile (``trailer``), without any tile.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        path = tiles_path(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in (_index_path(image), path):
            old.unlink(missing_ok=True)
        with _opened(path) as file:
            _write_frame(file, header[: layout.header], layout, trailer)
        return cls(image, checksum, layout, {})._noted()

    def relaid(self, found: Mapping[int, tuple[int, int]]) -> PartialImage:
        """The same tiles in a file in which the places of more tiles are known: first byte and bytes of each.

        It is a new file, which is renamed: whoever reads the earlier one must not meet markers that change.

        Raises
        ------
        LayoutError
            If the tiles do not fit into the file.
        OSError
            If it cannot be written.
        """
        path = tiles_path(self.image)
        with path.open("rb") as old:
            layout = layout_found(old.read(self.layout.header + _MARKERS), self.layout.size, found)
        with written_atomically(path) as temporary, path.open("rb") as old, _opened(temporary) as file:
            header = old.read(layout.header)
            old.seek(layout.trailer)
            _write_frame(file, header, layout, old.read())
            for place in self.parts:
                _copy(old, file, layout.parts[place])
            file.flush()
            os.fdatasync(file.fileno())
        return replace(self, layout=layout)._noted()

    def add(self, parts: Collection[TilePart], received: BinaryIO, start: int) -> PartialImage:
        """Add tile-parts from a file whose first byte is byte ``start`` of the image.

        The markers of a part are written when all else of it is there, so that no decoder takes a half for the whole.

        Raises
        ------
        LayoutError
            If other bytes came than those of the tiles.
        OSError
            If they cannot be read or written.
        """
        digests = dict(self.parts)
        with _opened(tiles_path(self.image)) as file:
            for place, part in enumerate(self.layout.parts):
                if part not in parts:
                    continue
                received.seek(part.start - start)
                beginning = received.read(_MARKERS)
                self.layout.check_start(part, beginning)
                digest = hashlib.sha256(beginning)
                file.seek(part.start + _MARKERS)
                for block in _blocks(received, part.size - _MARKERS):
                    digest.update(block)
                    file.write(block)
                file.flush()
                file.seek(part.start)
                file.write(beginning)
                digests[place] = digest.hexdigest()
            file.flush()
            os.fdatasync(file.fileno())
        return replace(self, parts=digests)._noted()

    def changed(self) -> list[int]:
        """The places of those tile-parts that are not as they came.

        Raises
        ------
        OSError
            If they cannot be read.
        """
        with tiles_path(self.image).open("rb") as file:
            return [place for place, digest in self.parts.items() if _digest(file, self.layout.parts[place]) != digest]

    def verified(self) -> PartialImage:
        """The same, with those tile-parts alone that are as they came.

        Raises
        ------
        OSError
            If it cannot be read or written.
        """
        if not (changed := self.changed()):
            return self
        right = {place: digest for place, digest in self.parts.items() if place not in changed}
        return replace(self, parts=right)._noted()

    @property
    def tiles(self) -> frozenset[int]:
        """The tiles that are there."""
        lacking = {part.tile for place, part in enumerate(self.layout.parts) if place not in self.parts}
        return self.layout.tiles - lacking

    def lacks(self, windows: Iterable[Window]) -> frozenset[int]:
        """The tiles that hold a pixel of ``windows`` and are not there."""
        return self.layout.tiles_in(windows) - self.tiles

    @property
    def windows(self) -> list[Window]:
        """The pixels of each tile that is there."""
        return [self.layout.window_of(tile) for tile in sorted(self.tiles)]

    def become_image(self) -> None:
        """Give the file the name of the image, all of which must be there and be right.

        The other name stays as well for a while: another run may just read tiles by it.
        """
        path = tiles_path(self.image)
        try:
            with written_atomically(self.image) as temporary:
                os.link(path, temporary)
        except OSError:  # a filesystem without links
            path.replace(self.image)
        _index_path(self.image).unlink(missing_ok=True)

    def _found(self) -> dict[str, list[int]] | None:
        """First byte and bytes of the tiles that were found; None if the header lists all."""
        if self.layout.found is None:
            return None
        return {str(part.tile): [part.start, part.size] for part in self.layout.parts if part.tile in self.layout.found}

    def _noted(self) -> PartialImage:
        """Write the index."""
        content = {
            "size": self.layout.size,
            "checksum": self.checksum,
            "header": self.layout.header + _MARKERS,
            "found": self._found(),
            "parts": {str(place): self.parts[place] for place in sorted(self.parts)},
        }
        write_record(_index_path(self.image), content)
        return self


def remove_tiles(image: Path, *, also_in_use: bool = False) -> None:
    """Remove what was there of an image that is whole now; unless ``also_in_use``, only if no run can be reading it."""
    path = tiles_path(image)
    with contextlib.suppress(FileNotFoundError):
        if also_in_use or time.time() - path.lstat().st_ctime > _IN_USE:
            path.unlink()
    _index_path(image).unlink(missing_ok=True)


def _opened(path: Path) -> BinaryIO:
    """A file to read and write, which is created; a link would have another file written."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), "r+b")


def _write_frame(file: BinaryIO, header: bytes, layout: Layout, trailer: bytes) -> None:
    """All but the tiles: what comes before and after them, and a marker SOT for each part."""
    file.truncate(layout.size)
    file.seek(0)
    file.write(header)
    for part in layout.parts:
        file.seek(part.start)
        file.write(layout.sot_of(part))
    file.seek(layout.trailer)
    file.write(trailer)


def _copy(source: BinaryIO, target: BinaryIO, part: TilePart) -> None:
    source.seek(part.start)
    target.seek(part.start)
    target.writelines(_blocks(source, part.size))


def _digest(file: BinaryIO, part: TilePart) -> str:
    file.seek(part.start)
    digest = hashlib.sha256()
    for block in _blocks(file, part.size):
        digest.update(block)
    return digest.hexdigest()


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """So many bytes of a file, from where it stands.

    Raises
    ------
    LayoutError
        If it ends before.
    """
    while size > 0:
        block = file.read(min(size, _BLOCK))
        if not block:
            raise LayoutError("it ends within a tile")
        size -= len(block)
        yield block
