"""Images of which some tiles are downloaded: by OData if it gives ranges of bytes, and by S3."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from osgeo import gdal
from support.tiled import tiles_of, write_tiled, write_unlisted
from support.waiting import DEADLINE, until

from s2sr_core import stopping
from s2sr_core.errors import ProductError, Step
from s2sr_core.geo.codestream import Layout, TilePart
from s2sr_core.geo.lattice import Window
from s2sr_core.jpeg2000 import openjpeg
from s2sr_core.products.partial_images import PartialImage, tiles_path
from s2sr_core.products.safe import band_files, read_product
from s2sr_core.sources.cdse.download import Downloader
from s2sr_core.sources.cdse.keys import S3Keys
from s2sr_core.sources.cdse.ranges import Span, spans_of
from s2sr_core.sources.cdse.road import S3Road
from s2sr_sandbox.server import Fault

#: Pixels in one tile each, of six tiles: 640 × 640 and, in the last column and row, smaller.
IN_0, IN_1, IN_4 = Window(10, 10, 50, 50), Window(700, 600, 702, 602), Window(1270, 890, 1280, 900)
EVERYWHERE = Window(0, 0, 1300, 900)


@pytest.fixture(scope="session")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two products of baseline 05.12, and an older one."""
    folder = tmp_path_factory.mktemp("tiled")
    for number, baseline in enumerate(("05.12", "05.12", "05.11")):
        write_tiled(folder, number=number, baseline=baseline)
    return folder


@pytest.fixture(params=["odata", "s3"])
def road(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def downloader(client: Any, road: str = "odata", mode: str = "ranges") -> Downloader:
    keys = S3Keys("CDSE_S3_KEYS_FILE", client.sandbox.keys_file, "cdse")
    by = {"road": S3Road(client.sandbox.s3_url, keys)} if road == "s3" else {}
    ours: Downloader = client.downloader(mode=mode, **by)
    return ours


def original(client: Any, number: int = 0) -> Path:
    """The image of B04 at the server."""
    (path,) = client.sandbox.catalogue[client.product(number).name.folder].folder.rglob("*_B04_20m.jp2")
    return Path(path)


def image(client: Any, number: int = 0) -> Path:
    """Where that image comes to, if it comes."""
    folder = client.sandbox.catalogue[client.product(number).name.folder].folder
    return Path(client.folder, "imagery_raw", folder.name, original(client, number).relative_to(folder))


def partial(client: Any) -> PartialImage:
    """What is there of it, every byte of which must be the server's."""
    path, content = image(client), original(client).read_bytes()
    product = read_product(client.folder / "imagery_raw" / client.product().name.folder)
    listed = band_files(product, ("B04",), there=False)["B04"]
    found = PartialImage.read(path, listed.size, listed.checksum)
    assert found is not None
    there = tiles_path(path).read_bytes()
    where = tiles_of(content)
    assert there[: where[0][0]] == content[: where[0][0]]
    for tile in found.tiles:
        start, size = where[tile]
        assert there[start : start + size] == content[start : start + size]
    assert not path.exists()
    return found


def ranges(client: Any) -> list[tuple[int, int]]:
    """First byte and size of each range of B04 that was asked for, since the last question."""
    asked = [request for request in client.sandbox.byte_requests() if "_B04_" in request.path]
    client.sandbox.clear_requests()
    found = [re.fullmatch(r"bytes=(\d+)-(\d+)", request.range or "") for request in asked]
    return [(int(each[1]), int(each[2]) + 1 - int(each[1])) if each else (0, 0) for each in found]


def test_tiles_that_count_come_others_are_added_and_all_become_the_image(connect: Any, tiled: Path, road: str) -> None:
    client = connect(tiled, ranges=True)
    ours, product = downloader(client, road), client.product()
    where, size = tiles_of(original(client).read_bytes()), original(client).stat().st_size
    ours.download(product, [])
    received = ours.download(product, ["B04"], windows=[IN_0, IN_4])
    assert ranges(client) == [(0, 16_384), where[0], where[4]]
    assert received == 16_384 + where[0][1] + where[4][1]
    assert partial(client).tiles == {0, 4}
    assert ours.download(product, ["B04"], windows=[IN_4]) == 0
    assert ranges(client) == []
    assert ours.download(product, ["B04"], windows=[IN_1, IN_0]) == where[1][1]
    assert ranges(client) == [where[1]]
    assert partial(client).tiles == {0, 1, 4}
    received = downloader(client, road, "whole").download(product, ["B04"], windows=[IN_0])
    assert received == where[2][1] + where[3][1] + where[5][1]

    assert ranges(client) == [(where[2][0], where[2][1] + where[3][1]), where[5]], "neighbours share one"
    assert image(client).read_bytes() == original(client).read_bytes()
    assert image(client).stat().st_size == size
    assert ours.download(product, ["B04"], windows=None) == 0
    assert ranges(client) == []


def test_a_host_without_ranges_is_asked_for_one_once_in_a_run(connect: Any, tiled: Path) -> None:
    client = connect(tiled, ranges=False)
    ours = downloader(client)
    for number in (0, 1):
        ours.download(client.product(number), ["B04"], windows=[IN_0])
        assert image(client, number).read_bytes() == original(client, number).read_bytes()
    assert ranges(client) == [(0, 16_384), (0, 0), (0, 0)]
    ours.ranges.forget()  # as another run does
    image(client).unlink()
    ours.download(client.product(), ["B04"], windows=[IN_0])
    assert ranges(client) == [(0, 16_384), (0, 0)]


def test_what_comes_whole(connect: Any, tiled: Path) -> None:
    """Of an older product, if more than a quarter is wanted; if it is not known what counts; and if most is wanted."""
    client = connect(tiled, ranges=True)
    cases = [(2, "ranges", [IN_0], [(0, 16_384)]), (0, "auto", None, []), (1, "auto", [EVERYWHERE], [(0, 16_384)])]
    for number, mode, windows, before in cases:
        downloader(client, mode=mode).download(client.product(number), ["B04"], windows=windows)
        assert ranges(client) == [*before, (0, 0)]
        assert image(client, number).read_bytes() == original(client, number).read_bytes()
        image(client, number).unlink()
    downloader(client, mode="ranges").download(client.product(1), ["B04"], windows=[EVERYWHERE])
    assert len(ranges(client)) == 2
    assert image(client, 1).read_bytes() == original(client, 1).read_bytes()


def test_tiles_of_older_images_are_found_and_added_to(connect: Any, tmp_path: Path, road: str) -> None:
    """Every tile that is there decodes as it does in the whole image, and none of the others is decoded."""
    write_unlisted(tmp_path / "archive")
    client = connect(tmp_path / "archive", ranges=True)
    ours, size = downloader(client, road, "auto"), original(client).stat().st_size
    first, second = Window(900, 300, 1100, 350), Window(500, 500, 600, 700)
    received = ours.download(client.product(), ["B04"], windows=[first])
    there = partial(client)
    assert {29, 30} <= there.tiles
    assert 2 <= len(ranges(client)) <= 5
    assert received < size / 4
    ours.download(client.product(), ["B04"], windows=[second, first])
    assert 1 <= len(ranges(client)) <= 8
    more = partial(client)
    assert more.lacks([first, second]) == set()
    assert more.tiles > there.tiles
    with gdal.Open(str(original(client))) as dataset, gdal.Open(str(tiles_path(image(client)))) as some:
        for tile in more.layout.tiles:
            window = more.layout.window_of(tile)
            at = (window.x0, window.y0, window.width, window.height)
            if tile in more.tiles:
                assert np.array_equal(some.ReadAsArray(*at), dataset.ReadAsArray(*at))
                pixels = openjpeg.read_window(tiles_path(image(client)), window)
                assert np.array_equal(pixels, dataset.ReadAsArray(*at))
            else:
                with pytest.raises(RuntimeError):
                    openjpeg.read_window(tiles_path(image(client)), window)
    assert ours.download(client.product(), ["B04"], windows=[second]) == 0
    downloader(client, road, "whole").download(client.product(), ["B04"])
    where = tiles_of(original(client).read_bytes())
    asked = ranges(client)
    came = {at for start, length in asked for at in range(start, start + length)}
    assert came == {at for tile in where if tile not in more.tiles for at in range(where[tile][0], sum(where[tile]))}
    assert sum(length for _, length in asked) == len(came), "nothing comes twice"
    assert image(client).read_bytes() == original(client).read_bytes()


@pytest.mark.parametrize(
    "fault",
    [
        Fault.close("B04", after=1000, times=3),
        Fault.error("B04", 503, times=2),
        Fault.error("B04", 429, "DAT-ZIP-100", "Max session number exceeded", times=2),
        Fault.answer("B04", 401, '{"detail": "Expired signature!"}', times=1),
        Fault(path="B04", ranged=True, skip=1, close_after=70_000, times=2),
    ],
    ids=lambda fault: f"{fault.status or ''}{fault.close_after or ''}",
)
def test_ranges_are_tried_again_and_continued(connect: Any, tiled: Path, fault: Fault) -> None:
    client = connect(tiled, ranges=True)
    client.sandbox.faults.add(fault)
    received = downloader(client).download(client.product(), ["B04"], windows=[IN_0, IN_1])
    assert partial(client).tiles == {0, 1}
    files = [path for path in image(client).parents[4].rglob("*") if path.is_file() and ".tiles" not in path.name]
    others = sum(path.stat().st_size for path in files)
    sizes = tiles_of(original(client).read_bytes())
    assert received == others + 16_384 + sizes[0][1] + sizes[1][1], "nothing came twice"


def test_a_range_that_is_refused_or_is_another_leads_to_the_whole_image(connect: Any, tiled: Path) -> None:
    client = connect(tiled, ranges=True)
    wrong = {"content-range": "bytes 5-9/100", "content-type": "application/octet-stream"}
    faults = [
        Fault(path="B04", ranged=True, status=416, skip=1, times=1),
        Fault.answer("B04", 206, "12345", headers=wrong, times=1),
    ]
    for fault in faults:
        client.sandbox.faults.add(fault)
        downloader(client).download(client.product(), ["B04"], windows=[IN_0])
        assert image(client).read_bytes() == original(client).read_bytes()
        image(client).unlink()


def test_a_refusal_of_the_product_is_not_one_of_ranges(connect: Any, tiled: Path) -> None:
    client = connect(tiled, ranges=True)
    client.sandbox.faults.add(Fault.error("B04", 403, "DAT-ZIP-608", "Forbidden"))
    with pytest.raises(ProductError, match="DAT-ZIP-608") as caught:
        downloader(client).download(client.product(), ["B04"], windows=[IN_0])
    assert caught.value.step == Step.DOWNLOAD
    assert len(ranges(client)) == 1


def test_a_wrong_byte_is_found_once_all_is_there(connect: Any, tiled: Path) -> None:
    """Until then nothing could tell."""
    client = connect(tiled, ranges=True)
    client.sandbox.faults.add(Fault(path="B04", ranged=True, skip=1, corrupt_at=5000, times=1))
    ours = downloader(client)
    ours.download(client.product(), ["B04"], windows=[IN_0])
    assert not image(client).exists()
    ours.download(client.product(), ["B04"])
    assert ranges(client)[-1] == (0, 0)
    assert image(client).read_bytes() == original(client).read_bytes()
    assert not tiles_path(image(client)).exists()


def test_a_stop_within_a_range_leaves_the_tiles_that_came(connect: Any, tiled: Path) -> None:
    """The next run asks for the others alone."""
    client = connect(tiled, ranges=True)
    where = tiles_of(original(client).read_bytes())
    client.sandbox.faults.add(Fault(path="B04", ranged=True, skip=2, delay=5.0))
    index = image(client).with_name(f"{image(client).name}.tiles.json")
    ours = downloader(client)
    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(ours.download, client.product(), ["B04"], windows=[IN_0, IN_4])
        try:
            until(lambda: index.exists() and partial(client).tiles == {0})
            stopping.request(stopping.Reason.SIGNAL)
            with pytest.raises(stopping.StoppedError):
                going.result(DEADLINE)
        finally:
            stopping.withdraw(stopping.Reason.SIGNAL)
    assert partial(client).tiles == {0}
    there = sorted(path.name for path in image(client).parent.iterdir() if "_B04_" in path.name)
    assert there == [tiles_path(image(client)).name, index.name]
    ranges(client)
    client.sandbox.faults.clear()
    ours.download(client.product(), ["B04"], windows=[IN_0, IN_4])
    assert ranges(client) == [where[4]]
    assert partial(client).tiles == {0, 4}


def test_two_at_once_add_to_the_same_image(connect: Any, tiled: Path) -> None:
    client = connect(tiled, ranges=True)

    def go(window: Window) -> int:
        return downloader(client).download(client.product(), ["B04"], windows=[window])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(go, [IN_0, IN_1, IN_4]))
    assert partial(client).tiles == {0, 1, 4}
    assert ranges(client).count((0, 16_384)) == 1


# ------------------------------------------------------------------------------------------------------------ planning


def layout(*sizes: int) -> Layout:
    """Tiles of one row with so many bytes each, in thousands, after a header of a thousand."""
    parts, at = [], 1000
    for tile, size in enumerate(sizes):
        parts.append(TilePart(tile, at, size * 1000))
        at += size * 1000
    return Layout(at + 2, 1000, 640 * len(sizes), 640, 640, 640, tuple(parts))


def test_neighbours_share_a_range_and_small_gaps_come_along() -> None:
    where = layout(300, 300, 300, 60, 300, 70, 300)
    assert spans_of(where, {0, 1}) == [Span(1000, 601_000, where.parts[:2])]
    assert [(span.start, span.stop) for span in spans_of(where, {0, 2})] == [(1000, 301_000), (601_000, 901_000)]
    (along,) = spans_of(where, {2, 4})
    assert [part.tile for part in along.parts] == [2, 3, 4]
    assert len(spans_of(where, {4, 6})) == 2
    assert spans_of(where, set()) == []


def test_there_are_never_many_ranges() -> None:
    """Of those that are left, the nearest are put together."""
    where = layout(*[100] * 30, 200, *[100] * 30)
    wanted = {tile for tile in range(61) if tile % 2}
    spans = spans_of(where, wanted)
    assert len(spans) == 12
    assert wanted <= {part.tile for span in spans for part in span.parts}
    assert sum(span.size for span in spans) <= 6_000_000
