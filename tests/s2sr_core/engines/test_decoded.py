"""Decoding windows of JPEG 2000 images, and the decoded bands made of them."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import numpy as np
import pytest
from support.scenes import noisy_dn

from s2sr_core.engines.decoded import DecodedBand, DecodedReader, decode_all, failed_parts
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Window
from s2sr_core.jpeg2000 import openjpeg, windows
from s2sr_core.scenes.occupancy import Occupancy
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.jp2 import write_jp2

GRID = Grid.utm(-149.6, 68.6, (900, 1400))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "B04 ü.jp2"
    write_jp2(path, noisy_dn(np.random.default_rng(4), GRID.shape), GRID, bits=15)
    return path


needs_openjpeg = pytest.mark.skipif(not openjpeg.is_available(), reason="GDAL is not linked to an OpenJPEG 2.x")


@needs_openjpeg
@pytest.mark.parametrize(
    "window",
    [
        Window(0, 0, 1400, 900),
        Window(0, 0, 1, 1),
        Window(1399, 899, 1400, 900),
        Window(630, 635, 655, 650),
        Window(100, 100, 133, 641),
        Window(1280, 640, 1400, 900),
    ],
)
def test_a_window_is_what_gdal_reads(image: Path, window: Window) -> None:
    expected = gdal.Open(str(image)).ReadAsArray(window.x0, window.y0, window.width, window.height)
    found = openjpeg.read_window(image, window)
    assert found.dtype == np.uint16
    assert np.array_equal(found, expected)


@needs_openjpeg
def test_damaged_images_are_one_error_that_names_the_file(image: Path, tmp_path: Path) -> None:
    for name, content in {
        "short.jp2": image.read_bytes()[:200_000],
        "header.jp2": image.read_bytes()[:90],
        "empty.jp2": b"",
        "text.jp2": b"no image at all " * 100,
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RuntimeError, match=name):
            openjpeg.read_window(tmp_path / name, Window(700, 700, 800, 800))
    with pytest.raises(RuntimeError, match=r"missing\.jp2"):
        openjpeg.read_window(tmp_path / "missing.jp2", Window(0, 0, 8, 8))
    with pytest.raises(RuntimeError, match="decode"):
        openjpeg.read_window(image, Window(2000, 2000, 2010, 2010))


def band_of(image: Path, folder: Path, counts: np.ndarray, name: str = "a", offset: int = -1000) -> DecodedBand:
    Occupancy.of(counts, Window(0, 0, counts.shape[1], counts.shape[0]), (640, 640)).write(folder / "o.npz")
    return DecodedBand(folder / "decoded" / f"{name}.u16", image, offset, folder / "o.npz")


def some_counts() -> np.ndarray:
    rng = np.random.default_rng(2)
    return np.kron(rng.random((30, 47)) < 0.3, np.ones((30, 30), bool))[: GRID.shape[0], : GRID.shape[1]]


@pytest.mark.parametrize("library", ["OpenJPEG", "GDAL", "ours"])
def test_a_decoded_band_holds_harmonised_values_where_they_count(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    if library == "GDAL":
        monkeypatch.setattr(openjpeg, "is_available", lambda: False)
    monkeypatch.setattr(windows, "LARGE", 0 if library == "ours" else 10**9)
    counts = some_counts()
    band = band_of(image, tmp_path, counts)
    decode_all([band])
    dn = gdal.Open(str(image)).ReadAsArray().astype(int)
    expected = np.where(counts & (dn > 0), np.maximum(dn - 1000, 0), 65535)
    reader = DecodedReader(band.path, Occupancy.read_parts(band.occupancy))
    for window in (
        Window(0, 0, 1400, 900),
        Window(633, 601, 700, 720),
        Window(-5, -7, 12, 40),
        Window(1390, 880, 1420, 910),
    ):
        padded = np.full((900 + 40, 1400 + 40), 65535)
        padded[20:-20, 20:-20] = expected
        part = padded[window.y0 + 20 : window.y1 + 20, window.x0 + 20 : window.x1 + 20]
        found = reader.read(window)
        assert np.array_equal(np.full(window.shape, 65535) if found is None else found, part)


def test_a_band_is_decoded_once(image: Path, tmp_path: Path) -> None:
    band = band_of(image, tmp_path, some_counts())
    decode_all([band, band])
    before = band.path.stat().st_mtime_ns
    decode_all([band])
    assert band.path.stat().st_mtime_ns == before


def test_nothing_is_decoded_where_nothing_counts_and_what_cannot_be_is_recorded(image: Path, tmp_path: Path) -> None:
    """The image has a good header and no pixels that could be read."""
    broken = tmp_path / "broken.jp2"
    content = image.read_bytes()
    first_tile = content.index(b"\xff\x90")  # the marker SOT
    broken.write_bytes(content[: first_tile + 12] + bytes(len(content) - first_tile - 12))
    nothing = band_of(broken, tmp_path, np.zeros(GRID.shape, bool))
    decode_all([nothing])
    assert nothing.path.stat().st_size == 0
    assert failed_parts(nothing) == {}
    something = band_of(broken, tmp_path, some_counts(), "b")
    decode_all([something])
    failures = failed_parts(something)
    assert set(failures) == set(Occupancy.read_parts(something.occupancy))
    assert all(reason.startswith("broken.jp2 cannot be decoded (") for reason in failures.values())
    assert [path.name for path in nothing.path.parent.glob(".*.part")] == []


def test_while_another_process_decodes_one_band_this_one_decodes_the_others(image: Path, tmp_path: Path) -> None:
    bands = [band_of(image, tmp_path, some_counts(), name) for name in "abc"]
    bands[0].path.parent.mkdir()
    with bands[0].path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        thread = threading.Thread(target=decode_all, args=(bands,))
        thread.start()
        while not (bands[1].path.exists() and bands[2].path.exists()):
            assert thread.is_alive()
        assert not bands[0].path.exists()
    thread.join()
    assert bands[0].path.exists()


def test_a_decoded_band_that_is_short_is_an_error(tmp_path: Path) -> None:
    """One row fewer than the part has, so that what is there could pass for all of it."""
    path = tmp_path / "band.u16"
    part = Window(0, 0, 5, 2)
    np.arange(5, dtype=np.uint16).tofile(path)
    with pytest.raises(OSError, match="is too short"):
        DecodedReader(path, [part]).read(part)
