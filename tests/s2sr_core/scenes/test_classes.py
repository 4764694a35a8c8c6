"""SCL in JPEG 2000: windows of it, whichever library decodes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal
from support.scenes import break_tiles, patchy_scl

from s2sr_core.geo.lattice import Window
from s2sr_core.jpeg2000 import openjpeg
from s2sr_core.scenes.classes import read_classes
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.jp2 import write_jp2

GRID = Grid.utm(-149.6, 68.6, (300, 410))
CLASSES = patchy_scl(np.random.default_rng(3), GRID.shape, patch=7)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Three by four tiles, those at the edges narrower."""
    path = tmp_path / "SCL ü.jp2"
    write_jp2(path, CLASSES, GRID, bits=8, tile=128)
    return path


@pytest.mark.parametrize("library", ["OpenJPEG", "GDAL"])
@pytest.mark.parametrize("factor", [1, 2])
def test_a_window_has_the_classes_that_were_written(
    image: Path, monkeypatch: pytest.MonkeyPatch, library: str, factor: int
) -> None:
    if library == "GDAL":
        monkeypatch.setattr(openjpeg, "is_available", lambda: False)
    fine = np.kron(CLASSES, np.ones((factor, factor), np.uint8))
    rows, columns = fine.shape
    with gdal.Open(str(image)) as scl:
        for window in (Window(0, 0, columns, rows), Window(100, 120, 333, 261), Window(columns - 1, 0, columns, 1)):
            found = read_classes(scl, window, factor)
            assert found.dtype == np.uint8
            assert np.array_equal(found, fine[window.y0 : window.y1, window.x0 : window.x1])


def test_only_a_window_on_a_damaged_tile_cannot_be_read(image: Path) -> None:
    break_tiles(image, 1)  # columns 128 to 255 of the first 128 rows
    with gdal.Open(str(image)) as scl:
        for window in (Window(0, 0, 128, 128), Window(0, 128, 410, 300)):
            expected = CLASSES[window.y0 : window.y1, window.x0 : window.x1]
            assert np.array_equal(read_classes(scl, window, 1), expected)
        with pytest.raises(RuntimeError):
            read_classes(scl, Window(100, 0, 200, 128), 1)
