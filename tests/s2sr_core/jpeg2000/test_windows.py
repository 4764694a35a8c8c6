"""Which decoder reads the windows of a product's image."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Window
from s2sr_core.jpeg2000 import image, openjpeg, windows

pytestmark = pytest.mark.skipif(not openjpeg.is_available(), reason="GDAL is not linked to an OpenJPEG 2.x")

PIXELS = np.random.default_rng(4).integers(1, 9000, (300, 310)).astype(np.uint16)
PART = Window(20, 30, 220, 250)
RIGHT = PIXELS[30:250, 20:220]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image of one tile, which counts as a large one."""
    monkeypatch.setattr(windows, "LARGE", PIXELS.size)
    memory = gdal.GetDriverByName("MEM").Create("", 310, 300, 1, gdal.GDT_UInt16)
    memory.WriteArray(PIXELS)
    options = ["REVERSIBLE=YES", "QUALITY=100"]
    gdal.GetDriverByName("JP2OpenJPEG").CreateCopy(str(tmp_path / "B04.jp2"), memory, options=options).Close()
    return tmp_path / "B04.jp2"


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> list[Window]:
    """The windows that our own decoder is asked for."""
    asked: list[Window] = []
    read = image.Image.read_window

    def watched(self: image.Image, window: Window, counts: np.ndarray | None = None) -> np.ndarray:
        asked.append(window)
        return read(self, window, counts)

    windows.problem()  # which asks for windows of another image
    monkeypatch.setattr(image.Image, "read_window", watched)
    return asked


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> list[Window]:
    """The windows that OpenJPEG is asked for."""
    asked: list[Window] = []
    read = openjpeg.read_window
    openjpeg.problem()

    def watched(path: Path, window: Window) -> np.ndarray:
        asked.append(window)
        return read(path, window)

    monkeypatch.setattr(openjpeg, "read_window", watched)
    return asked


def test_a_large_image_is_read_by_our_decoder_and_its_first_pixels_that_count_by_openjpeg_too(
    path: Path, ours: list[Window], theirs: list[Window]
) -> None:
    counts = np.zeros(PART.shape, bool)
    counts[100:, 150:] = True
    with windows.window_reader(path) as read:
        for _ in range(2):
            assert np.array_equal(read(PART, counts)[counts], RIGHT[counts])
    assert ours == [PART, PART]
    assert theirs == [Window(20 + 150, 30 + 100, 20 + 150 + 32, 30 + 100 + 32)]


def test_a_small_image_is_read_by_openjpeg(path: Path, ours: list[Window], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "LARGE", PIXELS.size + 1)
    with windows.window_reader(path) as read:
        assert np.array_equal(read(PART, np.ones(PART.shape, bool)), RIGHT)
    assert not ours


@pytest.mark.parametrize("wrong", ["pixels", "error"])
def test_where_our_decoder_is_wrong_openjpeg_reads_and_the_log_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    read_right = image.Image.read_window
    windows.problem()

    def read_wrong(self: image.Image, window: Window, counts: np.ndarray | None = None) -> np.ndarray:
        if wrong == "error":
            raise RuntimeError("it is damaged")
        return read_right(self, window, counts) + np.uint16(1)

    monkeypatch.setattr(image.Image, "read_window", read_wrong)
    counts = np.ones(PART.shape, bool)
    with caplog.at_level(logging.WARNING), windows.window_reader(path) as read:
        for _ in range(2):
            assert np.array_equal(read(PART, counts), RIGHT)
    said = [record.getMessage() for record in caplog.records]
    assert said == (["OpenJPEG decodes B04.jp2 alone: our own decoder gives other pixels"] if wrong == "pixels" else [])


def test_an_image_that_is_coded_otherwise_is_read_by_openjpeg_and_the_log_says_why(
    path: Path, ours: list[Window], caplog: pytest.LogCaptureFixture
) -> None:
    memory = gdal.GetDriverByName("MEM").Create("", 310, 300, 1, gdal.GDT_UInt16)
    memory.WriteArray(PIXELS)
    other = path.with_name("B11.jp2")
    gdal.GetDriverByName("JP2OpenJPEG").CreateCopy(str(other), memory, options=["REVERSIBLE=NO"]).Close()
    with gdal.Open(str(other)) as dataset:
        expected = dataset.ReadAsArray(20, 30, 200, 220)
    with caplog.at_level(logging.INFO), windows.window_reader(other) as read:
        assert np.array_equal(read(PART, np.ones(PART.shape, bool)), expected)
    assert not ours
    assert "OpenJPEG decodes B11.jp2 alone: it is coded in another way than Sentinel-2's images" in caplog.text


def test_without_openjpeg_the_pixels_are_compared_with_gdals(
    path: Path, ours: list[Window], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openjpeg, "is_available", lambda: False)
    with windows.window_reader(path) as read:
        assert np.array_equal(read(PART, np.ones(PART.shape, bool)), RIGHT)
    assert ours == [PART]


def test_a_decoder_that_reads_the_known_image_wrong_is_not_used(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    windows.problem.cache_clear()
    read_right = image.Image.read_window
    with monkeypatch.context() as broken:
        broken.setattr(image.Image, "read_window", lambda self, window: read_right(self, window) + np.uint16(1))
        assert "wrong pixels" in windows.problem()
        with windows.window_reader(path) as read:
            assert np.array_equal(read(PART, np.ones(PART.shape, bool)), RIGHT)
    assert "our own decoder gives wrong pixels" in caplog.text
    windows.problem.cache_clear()
    assert not windows.problem()
