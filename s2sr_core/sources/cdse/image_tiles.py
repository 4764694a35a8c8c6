"""The tiles of an image that a run needs, by ranges of its bytes: its header first, which says where tiles are.

They are kept as a partial image, to which other runs add what they need. Once all of it is there, it is compared with
the checksum of the manifest, and becomes the image.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Literal

from s2sr_core.geo.codestream import (
    END_OF_CODESTREAM,
    HeaderTooShortError,
    Layout,
    LayoutError,
    UnlistedError,
    layout_found,
    layout_of,
)
from s2sr_core.geo.lattice import Window
from s2sr_core.products.manifest import ListedFile
from s2sr_core.products.partial_images import (
    LARGEST_HEADER,
    MOST_SEARCHED,
    WHOLE_FROM,
    PartialImage,
    remove_tiles,
    tiles_path,
)
from s2sr_core.sources.cdse.ranges import HEADER, Span, spans_of
from s2sr_core.sources.cdse.reception import digest_of, hashed, hex_of
from s2sr_core.sources.cdse.tile_search import TileSearch

#: Writes a span of an image to a file.
Receive = Callable[[Span, BinaryIO], None]
#: What became of a request for tiles: they are there, or the image must come whole.
Outcome = Literal["there", "whole"]


def fetch_tiles(
    image: Path, listed: ListedFile, windows: Sequence[Window] | None, receive: Receive, *, always: bool
) -> Outcome:
    """Complete the partial image with the tiles that hold a pixel of ``windows``; with all if None.

    Without ``always``, an image of which most is wanted comes whole; one that does not list its tiles always does. Of
    one of which some tiles are there, the others come in ranges in any case.

    Raises
    ------
    LayoutError
        If the places of its tiles are not found, or something else comes than what its header says.
    OSError
        If it cannot be written.
    """
    partial = PartialImage.read(image, listed.size, listed.checksum)
    if partial is not None:
        partial = partial.verified()
        layout, header = partial.layout, b""
    elif windows is None or listed.size is None:
        return "whole"
    else:
        header, layout = _header(receive, listed.size)
    wanted = layout.tiles if windows is None else layout.tiles_in(windows)
    there = frozenset[int]() if partial is None else partial.tiles
    if wanted - there and _comes_whole(layout, wanted, there, always=always):
        if partial is None or not there:
            return "whole"
        wanted = layout.tiles
    if partial is None:
        partial = PartialImage.begin(image, header[: layout.header], layout, _trailer(receive, layout), listed.checksum)
    if layout.found is None:
        partial = _listed(partial, wanted - there, receive)
    else:
        partial = _found(partial, wanted - there, header, receive)
    if partial.tiles == layout.tiles:
        if not _is_right(image, listed):
            remove_tiles(image, also_in_use=True)
            return "whole"
        partial.become_image()
    return "there"


def _comes_whole(layout: Layout, wanted: frozenset[int], there: frozenset[int], *, always: bool) -> bool:
    """Whether so much of an image is wanted, besides what is there, that it should come whole."""
    if layout.found is not None:
        return layout.share_of(wanted - there) > MOST_SEARCHED or layout.share_of(wanted | there) > WHOLE_FROM
    return not always and layout.bytes_of(wanted | there) > WHOLE_FROM * layout.size


def _listed(partial: PartialImage, tiles: Collection[int], receive: Receive) -> PartialImage:
    """Add tiles, which the header lists."""
    for span in spans_of(partial.layout, tiles):
        with TemporaryFile(dir=partial.image.parent) as received:
            receive(span, received)
            partial = partial.add(span.parts, received, span.start)
    return partial


def _found(partial: PartialImage, tiles: Collection[int], header: bytes, receive: Receive) -> PartialImage:
    """Add tiles, which have to be found."""
    if not tiles:
        return partial
    with TemporaryFile(dir=partial.image.parent) as scratch:
        search = TileSearch(partial.layout, scratch, receive)
        if header:
            search.put(Span(0, len(header)), io.BytesIO(header))
        if tiles == partial.layout.tiles - partial.tiles:
            with tiles_path(partial.image).open("rb") as file:
                for part in (part for part in partial.layout.parts if part.tile in partial.tiles):
                    file.seek(part.start)
                    search.put(Span(part.start, part.stop), io.BytesIO(file.read(part.size)))
            search.find_all()
        else:
            search.find(tiles)
        partial = partial.relaid(search.found)
        came = set(search.came()) - partial.tiles
        return partial.add([part for part in partial.layout.parts if part.tile in came], scratch, 0)


def _header(receive: Receive, size: int) -> tuple[bytes, Layout]:
    """All that precedes the first tile, and where the tiles are."""
    received, stop = io.BytesIO(), HEADER
    while True:
        part = io.BytesIO()
        receive(Span(received.tell(), min(stop, size)), part)
        received.write(part.getvalue())
        header = received.getvalue()
        try:
            try:
                return header, layout_of(header, size)
            except UnlistedError:
                return header, layout_found(header, size, {})
        except HeaderTooShortError as error:
            if error.needed > min(LARGEST_HEADER, size):
                raise LayoutError("its header is larger than that of any image") from error
            stop = max(error.needed, 4 * stop)


def _trailer(receive: Receive, layout: Layout) -> bytes:
    """What follows the last tile: the end of the codestream, and boxes if there are any."""
    if layout.size == layout.trailer + len(END_OF_CODESTREAM):
        return END_OF_CODESTREAM
    if layout.size - layout.trailer > LARGEST_HEADER:
        raise LayoutError("more follows its last tile than in any image")
    received = io.BytesIO()
    receive(Span(layout.trailer, layout.size), received)
    return received.getvalue()


def _is_right(image: Path, listed: ListedFile) -> bool:
    """Whether the partial image, all of which is there, is what the manifest lists."""
    digest = digest_of(listed)
    with tiles_path(image).open("rb") as file:
        return digest is None or hashed(file, digest) == hex_of(listed)
