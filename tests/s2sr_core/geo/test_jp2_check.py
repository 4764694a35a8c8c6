"""Decoders of JPEG 2000 that give wrong windows are not used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from osgeo import gdal
from support.trees import write_tree

from s2sr_core import doctor
from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import make_gridcells
from s2sr_core.errors import InstallationError
from s2sr_core.geo import jp2_check
from s2sr_core.geo.lattice import Window
from s2sr_core.jpeg2000 import openjpeg

TILE = 64
#: How the image was made: as s2sr_sandbox.jp2 makes bands, but for sizes, resolutions and boxes that say where it is.
OPTIONS = (
    *("CODEC=JP2", "QUALITY=100", "REVERSIBLE=YES", "NBITS=15", "RESOLUTIONS=3", "GMLJP2=NO", "GeoJP2=NO"),
    *(f"BLOCKXSIZE={TILE}", f"BLOCKYSIZE={TILE}", "CODEBLOCK_WIDTH=16", "CODEBLOCK_HEIGHT=16"),
)
ROOT = Path(__file__).resolve().parents[3]


def write_image(path: Path, pixels: np.ndarray) -> None:
    rows, columns = pixels.shape
    raster = gdal.GetDriverByName("MEM").Create("", columns, rows, 1, gdal.GDT_UInt16)
    raster.GetRasterBand(1).WriteArray(pixels)
    gdal.GetDriverByName("JP2OpenJPEG").CreateCopy(str(path), raster, 0, list(OPTIONS)).Close()


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Drivers that a test takes out of GDAL come back, and nothing that was found is remembered."""
    driver = gdal.GetDriverByName("JP2OpenJPEG")
    caches = (jp2_check.check_drivers, jp2_check.image_drivers, openjpeg.problem)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()
    driver.Register()


def test_the_image_is_small_and_can_be_made_again(tmp_path: Path) -> None:
    """To replace it, copy what this test makes."""
    again = tmp_path / "again.jp2"
    write_image(again, jp2_check.pixels_of_image())
    assert jp2_check.IMAGE.stat().st_size < 10_000
    for path in (jp2_check.IMAGE, again):
        with gdal.Open(str(path)) as dataset:
            band = dataset.GetRasterBand(1)
            assert (dataset.RasterYSize, dataset.RasterXSize) == jp2_check.SHAPE
            assert (band.DataType, band.GetMetadataItem("NBITS", "IMAGE_STRUCTURE")) == (gdal.GDT_UInt16, "15")
            assert band.GetBlockSize() == [TILE, TILE]
            assert np.array_equal(dataset.ReadAsArray(), jp2_check.pixels_of_image())
    assert 2**14 < jp2_check.pixels_of_image().max() < 2**15
    if b"2.5.4" in jp2_check.IMAGE.read_bytes() and openjpeg.version() == "2.5.4":
        assert again.read_bytes() == jp2_check.IMAGE.read_bytes()


@pytest.mark.usefixtures("fresh")
def test_good_drivers_are_used() -> None:
    assert jp2_check.check_drivers()["JP2OpenJPEG"] == ""
    assert {"JP2OpenJPEG", "GTiff"} <= set(jp2_check.image_drivers())


def one_pixel_off(folder: Path) -> Path:
    """An image of which one tile is shifted by a pixel: what a driver that mistakes windows would give."""
    pixels = jp2_check.pixels_of_image()
    pixels[TILE : 2 * TILE, TILE : 2 * TILE] = pixels[TILE : 2 * TILE, TILE + 1 : 2 * TILE + 1]
    path = folder / "shifted.jp2"
    write_image(path, pixels)
    return path


@pytest.mark.usefixtures("fresh")
def test_a_driver_that_fails_is_taken_out_and_the_run_ends_if_no_other_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GDAL's real driver, on an image that is not what it should be."""
    monkeypatch.setattr(jp2_check, "IMAGE", one_pixel_off(tmp_path))
    problem = "gives wrong pixels for a window of 160 x 128 pixels at column 0 and row 0"
    assert jp2_check.check_drivers() == {"JP2OpenJPEG": problem}
    assert gdal.GetDriverByName("JP2OpenJPEG") is None
    with pytest.raises(
        InstallationError, match=r"no JPEG 2000 driver of GDAL .* reads right \(JP2OpenJPEG gives wrong"
    ):
        jp2_check.image_drivers()
    findings = {finding.name: finding for finding in doctor.examine(tmp_path, {})}
    assert problem in findings["JPEG 2000"].detail
    assert findings["JPEG 2000"].remedy


class Driver:
    """Another driver of GDAL's, which is asked first and gives the pixels of the column before for one window."""

    ShortName = "JP2Grok"

    def __init__(self) -> None:
        self.is_registered = True

    def Deregister(self) -> None:  # noqa: N802
        self.is_registered = False


class Windows:
    """An image as that driver gives it."""

    def __init__(self, image: gdal.Dataset) -> None:
        self._image = image

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._image.Close()

    def ReadAsArray(self, x: int, y: int, width: int, height: int) -> np.ndarray:  # noqa: N802
        shifted = (x, y) == (50, 50)
        return self._image.ReadAsArray(x - shifted, y, width, height)


class Gdal:
    """GDAL with one driver more; all else is GDAL's own."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> Any:
        return getattr(gdal, name)

    def GetDriverCount(self) -> int:  # noqa: N802
        return gdal.GetDriverCount() + 1

    def GetDriver(self, number: int) -> Any:  # noqa: N802
        return gdal.GetDriver(number - 1) if number else self._driver

    def GetDriverByName(self, name: str) -> Any:  # noqa: N802
        return self._driver if name == self._driver.ShortName else gdal.GetDriverByName(name)

    def OpenEx(self, path: str, flags: int, allowed_drivers: list[str]) -> Any:  # noqa: N802
        if allowed_drivers == [self._driver.ShortName]:
            return Windows(gdal.OpenEx(path, flags, allowed_drivers=["JP2OpenJPEG"]))
        return gdal.OpenEx(path, flags, allowed_drivers=allowed_drivers)


@pytest.mark.usefixtures("fresh")
def test_the_next_driver_is_used_instead_of_one_that_gives_wrong_windows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    driver = Driver()
    monkeypatch.setattr(jp2_check, "gdal", Gdal(driver))
    assert "JP2OpenJPEG" in jp2_check.image_drivers()
    assert "JP2Grok" not in jp2_check.image_drivers()
    assert not driver.is_registered
    assert gdal.GetDriverByName("JP2OpenJPEG") is not None
    problem = "gives wrong pixels for a window of 31 x 27 pixels at column 50 and row 50"
    assert f"GDAL's driver JP2Grok is not used: of a small image that comes with s2sr it {problem}" in caplog.text
    finding = {finding.name: finding for finding in doctor.examine(tmp_path, {})}["JPEG 2000"]
    assert f"JP2Grok is not used, it {problem}" in finding.detail
    assert "JP2OpenJPEG reads right" in finding.detail
    assert not finding.remedy


@pytest.mark.usefixtures("fresh")
def test_openjpeg_itself_is_not_called_if_it_gives_wrong_windows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if openjpeg.version() is None:
        pytest.skip("GDAL is not linked to an OpenJPEG 2.x")
    assert openjpeg.is_available()
    openjpeg.problem.cache_clear()
    right = openjpeg.read_window

    def shifted(path: Path, window: Window) -> np.ndarray:
        return np.roll(right(path, window), 1, axis=0)

    monkeypatch.setattr(openjpeg, "read_window", shifted)
    assert not openjpeg.is_available()
    assert "wrong pixels" in openjpeg.problem()
    finding = {finding.name: finding for finding in doctor.examine(tmp_path, {})}["JPEG 2000"]
    assert "OpenJPEG itself gives wrong pixels" in finding.detail


def test_a_run_ends_with_one_sentence_before_any_work(tmp_path: Path) -> None:
    """The command; and how GDAL is really asked, by VRTs too, once the driver is out."""
    write_gridcells(make_gridcells((-150, 68.5, -149, 68.75), 0.25), tmp_path / "cells.csv")
    write_tree(tmp_path / "archive")
    words = [
        *("--bbox", "-149.9", "68.55", "-149.1", "68.7", "--grid-csv", str(tmp_path / "cells.csv")),
        *("--start", "2019-06-01", "--end", "2019-09-01", "--source", str(tmp_path / "archive")),
        *("--work-dir", str(tmp_path / "run")),
    ]
    code = """
import sys
from pathlib import Path
from s2sr_core.geo import jp2_check
image = jp2_check.IMAGE
jp2_check.IMAGE = Path(sys.argv.pop(1))
import s2sr_pipeline
code = s2sr_pipeline.main()
from osgeo import gdal
try:
    gdal.Open(str(image))
except RuntimeError as error:
    print(error)
raise SystemExit(code)
"""
    command = [sys.executable, "-c", code, str(one_pixel_off(tmp_path)), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2, done.stderr
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith("s2sr-pipeline: no JPEG 2000 driver of GDAL")
    assert "Traceback" not in done.stderr
    assert "not recognized as being in a supported file format" in done.stdout
    assert not (tmp_path / "run" / "composites").exists()
