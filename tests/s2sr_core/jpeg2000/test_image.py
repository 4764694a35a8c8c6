"""The decoder of JPEG 2000 against what was encoded, and against GDAL, which encodes and decodes with OpenJPEG."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Window
from s2sr_core.jpeg2000 import image as image_module
from s2sr_core.jpeg2000 import openjpeg
from s2sr_core.jpeg2000.coding import Coding, UncommonError
from s2sr_core.jpeg2000.image import opened
from s2sr_core.jpeg2000.tile_layout import tile_layout

needs_driver = pytest.mark.skipif(gdal.GetDriverByName("JP2OpenJPEG") is None, reason="GDAL cannot write JPEG 2000")
pytestmark = needs_driver


def encoded(path: Path, pixels: np.ndarray, **options: object) -> Path:
    """Encode rows × columns, or bands × rows × columns."""
    bands = pixels.reshape(-1, *pixels.shape[-2:])
    kind = {"uint8": gdal.GDT_Byte, "uint16": gdal.GDT_UInt16, "int16": gdal.GDT_Int16}[str(pixels.dtype)]
    memory = gdal.GetDriverByName("MEM").Create("", bands.shape[2], bands.shape[1], len(bands), kind)
    memory.WriteArray(bands)
    given = {"REVERSIBLE": "YES", "QUALITY": 100, "YCC": "NO", **options}
    gdal.GetDriverByName("JP2OpenJPEG").CreateCopy(
        str(path), memory, options=[f"{key}={value}" for key, value in given.items()]
    ).Close()
    return path


def scenery(shape: tuple[int, int], seed: int = 0, top: int = 32767) -> np.ndarray:
    """A slope with noise, a flat part and an edge between them: all that code blocks can hold."""
    rng = np.random.default_rng(seed)
    row, column = np.indices(shape)
    pixels = 0.3 * top + 0.2 * top * np.sin(row / 9) + 0.1 * top * column / shape[1] + rng.normal(0, 0.02 * top, shape)
    pixels[: shape[0] // 3, shape[1] // 2 :] = 0
    pixels[shape[0] // 2, shape[1] // 2] = top
    return pixels.clip(0, top).astype(np.uint8 if top < 256 else np.uint16)


def windows_in(shape: tuple[int, int], seed: int, count: int = 12) -> list[Window]:
    """The whole, single pixels at the corners, and some in between."""
    rows, columns = shape
    rng = np.random.default_rng(seed)
    found = [
        Window(0, 0, columns, rows),
        Window(0, 0, 1, 1),
        Window(columns - 1, rows - 1, columns, rows),
        Window(columns // 2, 0, columns // 2 + 1, rows),
    ]
    for _ in range(count):
        (x0, x1), (y0, y1) = sorted(rng.integers(0, columns, 2)), sorted(rng.integers(0, rows, 2))
        found.append(Window(int(x0), int(y0), int(x1) + 1, int(y1) + 1))
    return found


CODINGS = {
    "like Sentinel-2's": (
        (650, 700),
        {"BLOCKXSIZE": 640, "BLOCKYSIZE": 640, "RESOLUTIONS": 5, "PRECINCTS": ",".join(["{256,256}"] * 5)},
    ),
    "tiles": ((200, 330), {"BLOCKXSIZE": 128, "BLOCKYSIZE": 128, "RESOLUTIONS": 5}),
    "no transform": ((70, 90), {"RESOLUTIONS": 1}),
    "one level": ((70, 90), {"RESOLUTIONS": 2}),
    "more levels than pixels": ((17, 5), {"RESOLUTIONS": 7, "PRECINCTS": "{512,512}"}),
    "small code blocks": ((65, 67), {"CODEBLOCK_WIDTH": 4, "CODEBLOCK_HEIGHT": 8, "RESOLUTIONS": 3}),
    "flat code blocks": ((65, 67), {"CODEBLOCK_WIDTH": 64, "CODEBLOCK_HEIGHT": 4, "RESOLUTIONS": 3}),
    "odd tiles": ((101, 83), {"BLOCKXSIZE": 37, "BLOCKYSIZE": 41, "RESOLUTIONS": 4}),
    "one row": ((1, 45), {"RESOLUTIONS": 4}),
    "one column": ((45, 1), {"RESOLUTIONS": 4}),
    "one pixel": ((1, 1), {"RESOLUTIONS": 1}),
    "small precincts": ((150, 170), {"PRECINCTS": "{64,64},{32,64},{64,32}", "RESOLUTIONS": 3}),
    "precincts smaller than code blocks": ((150, 170), {"PRECINCTS": "{32,32},{16,16}", "RESOLUTIONS": 4}),
    "RLCP": (
        (150, 170),
        {"PRECINCTS": "{64,64},{64,64}", "PROGRESSION": "RLCP", "RESOLUTIONS": 3, "QUALITY": "5,20,100"},
    ),
    "RPCL": (
        (150, 170),
        {"PRECINCTS": "{64,64},{64,64}", "PROGRESSION": "RPCL", "RESOLUTIONS": 3, "QUALITY": "5,20,100"},
    ),
    "layers": ((150, 170), {"QUALITY": "1,3,10,30,100", "RESOLUTIONS": 3}),
    "SOP and EPH": ((90, 90), {"SOP": "YES", "EPH": "YES", "RESOLUTIONS": 3}),
    "TLM and PLT": ((90, 90), {"TLM": "YES", "PLT": "YES", "BLOCKXSIZE": 32, "BLOCKYSIZE": 32, "RESOLUTIONS": 3}),
    "tile-parts": ((90, 90), {"TILEPARTS": "RESOLUTIONS", "RESOLUTIONS": 3, "BLOCKXSIZE": 48, "BLOCKYSIZE": 48}),
}


@pytest.mark.parametrize("name", CODINGS)
def test_every_window_holds_the_pixels_that_were_encoded(tmp_path: Path, name: str) -> None:
    shape, options = CODINGS[name]
    pixels = scenery(shape)
    with opened(encoded(tmp_path / "image.jp2", pixels, **options)) as image:
        for window in windows_in(shape, len(name)):
            assert np.array_equal(image.read_window(window), pixels[window.y0 : window.y1, window.x0 : window.x1])


@pytest.mark.parametrize("name", ["like Sentinel-2's", "odd tiles", "small code blocks", "no transform"])
def test_pixels_that_count_are_right_whatever_else_is_left_out(tmp_path: Path, name: str) -> None:
    shape, options = CODINGS[name]
    pixels = scenery(shape)
    path = encoded(tmp_path / "image.jp2", pixels, **options)
    rng = np.random.default_rng(5)
    for share in (0.0005, 0.01, 0.3):
        for window in windows_in(shape, int(1 / share)):
            with opened(path) as image:
                counts = rng.random(window.shape) < share
                found = image.read_window(window, counts)
                assert np.array_equal(found[counts], pixels[window.y0 : window.y1, window.x0 : window.x1][counts])


def test_code_blocks_of_which_no_pixel_counts_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    decode = image_module.decode_blocks

    def watched(data: Any, blocks: Any, coded: Any, chunks: Any, wanted: Any, coefficients: Any) -> None:
        decoded.append(int((blocks[wanted, 2] * blocks[wanted, 3]).sum()))
        decode(data, blocks, coded, chunks, wanted, coefficients)

    monkeypatch.setattr(image_module, "decode_blocks", watched)
    path = encoded(tmp_path / "image.jp2", scenery((640, 640)), BLOCKXSIZE=640, BLOCKYSIZE=640, RESOLUTIONS=2)
    counts = np.zeros((640, 640), bool)
    counts[300:310, 300:310] = True  # coefficients 150 to 154: within the third block of 64, in either direction
    with opened(path) as image:
        image.read_window(Window(0, 0, 640, 640), counts)
        image.read_window(Window(0, 0, 640, 640), counts)
        image.read_window(Window(0, 0, 640, 640))
    assert decoded == [4 * 64 * 64, 0, 640 * 640 - 4 * 64 * 64]


@pytest.mark.parametrize(("bits", "kind"), [(1, "uint8"), (8, "uint8"), (9, "uint16"), (15, "uint16"), (16, "uint16")])
def test_images_of_1_to_16_bits(tmp_path: Path, bits: int, kind: str) -> None:
    noise = np.random.default_rng(bits).integers(0, 2**bits, (70, 90)).astype(kind)
    for number, pixels in enumerate((noise, np.zeros_like(noise), np.full_like(noise, 2**bits - 1))):
        path = encoded(tmp_path / f"{number}.jp2", pixels, NBITS=bits, RESOLUTIONS=4)
        with opened(path) as image:
            assert image.coding.precision == bits
            assert np.array_equal(image.read_window(Window(0, 0, 90, 70)), pixels)


@pytest.mark.parametrize("quality", ["2", "10", "40", "3,7"])
def test_an_image_without_its_last_bit_planes_is_what_gdal_makes_of_it(tmp_path: Path, quality: str) -> None:
    pixels = scenery((140, 150))
    path = encoded(tmp_path / "image.jp2", pixels, QUALITY=quality, RESOLUTIONS=4)
    expected = gdal.Open(str(path)).ReadAsArray()
    assert not np.array_equal(expected, pixels)
    with opened(path) as image:
        assert np.array_equal(image.read_window(Window(0, 0, 150, 140)), expected)


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (scenery((40, 40)), {"REVERSIBLE": "NO"}),
        (scenery((40, 40)), {"PROGRESSION": "PCRL"}),
        (scenery((40, 40)), {"CODEBLOCK_WIDTH": 128, "CODEBLOCK_HEIGHT": 32}),
        (scenery((40, 40)), {"CODEBLOCK_STYLE": "BYPASS"}),
        (scenery((40, 40)).astype(np.int16), {}),
        (np.stack([scenery((40, 40))] * 3), {}),
    ],
    ids=["not reversible", "progression", "large code blocks", "code block style", "signed", "three bands"],
)
def test_what_is_coded_otherwise_is_refused(tmp_path: Path, pixels: np.ndarray, options: dict[str, object]) -> None:
    path = encoded(tmp_path / "image.jp2", pixels, **options)
    with pytest.raises(UncommonError), opened(path):
        pass


def test_an_image_with_a_palette_is_refused(tmp_path: Path) -> None:
    memory = gdal.GetDriverByName("MEM").Create("", 40, 30, 1, gdal.GDT_Byte)
    colours = gdal.ColorTable()
    for number in range(256):
        colours.SetColorEntry(number, (number, 0, 255 - number, 255))
    memory.GetRasterBand(1).SetColorTable(colours)
    path = tmp_path / "image.jp2"
    gdal.GetDriverByName("JP2OpenJPEG").CreateCopy(str(path), memory, options=["REVERSIBLE=YES"]).Close()
    with pytest.raises(UncommonError, match="palette"), opened(path):
        pass


@pytest.mark.parametrize(
    "change",
    [{"precincts": ((1, 1),) * 3}, {"block": (2, 2)}, {"layers": 65_535, "precincts": ((8, 8),) * 3}, {}],
    ids=["precincts", "code blocks", "layers", "pixels"],
)
def test_a_header_that_asks_for_too_much_is_refused(change: dict[str, Any]) -> None:
    """Some bytes of a header would make millions of pieces of one tile."""
    usual = Coding(15, 2, (6, 6), ((15, 15),) * 3, (16,) * 7, 0, 1, has_eph=False)
    side = 2048 if change else 4097
    assert tile_layout(usual, Window(0, 0, 2048, 2048)).size == 2048 * 2048
    with pytest.raises(UncommonError, match="it has a tile of"):
        tile_layout(replace(usual, **change), Window(0, 0, side, side))


def test_a_damaged_image_is_refused_or_gives_what_openjpeg_gives(tmp_path: Path) -> None:
    """Wrong bytes within code blocks show nowhere: then all decoders of the standard do the same with them."""
    if not openjpeg.is_available():
        pytest.skip("GDAL is not linked to an OpenJPEG 2.x")
    rng = np.random.default_rng(3)
    whole = Window(0, 0, 90, 80)
    path = encoded(tmp_path / "image.jp2", scenery(whole.shape), BLOCKXSIZE=64, BLOCKYSIZE=64, RESOLUTIONS=3)
    content = path.read_bytes()
    start = content.index(b"\xff\x90")
    same = refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for at in rng.integers(start, len(content), rng.integers(1, 4)):
            damaged[at] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(damaged)
        try:
            with opened(path) as image:
                found = image.read_window(whole)
        except RuntimeError:
            refused += 1
            continue
        assert np.array_equal(found, openjpeg.read_window(path, whole))
        same += 1
    assert same > 200
    assert refused


def test_a_file_that_ends_too_soon_is_refused(tmp_path: Path) -> None:
    path = encoded(tmp_path / "image.jp2", scenery((80, 90)), RESOLUTIONS=3)
    content = path.read_bytes()
    for size in (0, 11, 40, len(content) // 3, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(RuntimeError), opened(path) as image:
            image.read_window(Window(0, 0, 90, 80))
