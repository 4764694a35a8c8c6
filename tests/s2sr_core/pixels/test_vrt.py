from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.scenes import noisy_dn, patchy_scl

from s2sr_core.geo import geometry
from s2sr_core.geo.gdal_runtime import PIXEL_FUNCTION_MODULE, gdal
from s2sr_core.geo.lattice import Lattice, Window
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.pixels import vrt
from s2sr_core.pixels.masks import SclMask
from s2sr_core.pixels.rules import harmonised

SHAPE = (150, 190)
GEOTRANSFORM = (600_000.0, 20.0, 0.0, 7_620_000.0, 0.0, -20.0)
GRID = RasterGrid(geometry.spatial_reference("EPSG:32605").ExportToWkt(), GEOTRANSFORM, SHAPE)
MASK = SclMask((0, 1, 2, 3, 7, 8, 9, 10, 11), {9: (3.0, 3.0), 3: (1.5, 2.5)})


@pytest.fixture
def images(tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    arrays = noisy_dn(rng, SHAPE, -1000), patchy_scl(rng, SHAPE)
    for name, array, kind in (("dn", arrays[0], gdal.GDT_UInt16), ("scl", arrays[1], gdal.GDT_Byte)):
        raster = gdal.GetDriverByName("GTiff").Create(str(tmp_path / f"{name}.tif"), SHAPE[1], SHAPE[0], 1, kind)
        raster.SetProjection("EPSG:32605")
        raster.SetGeoTransform(GEOTRANSFORM)
        raster.GetRasterBand(1).WriteArray(array)
        raster.Close()
    return arrays


def masked(tmp_path: Path, **changes: object) -> Path:
    arguments = {
        "band": tmp_path / "dn.tif",
        "scl": tmp_path / "scl.tif",
        "grid": GRID,
        "offset": -1000,
        "mask": MASK,
    }
    return vrt.masked(tmp_path / "masked.vrt", **(arguments | changes))


def read_in_windows(path: Path, height: int, width: int) -> np.ndarray:
    dataset = gdal.Open(str(path))
    whole = Window(0, 0, dataset.RasterXSize, dataset.RasterYSize)
    rows = [
        [dataset.ReadAsArray(tile.x0, tile.y0, tile.width, tile.height) for tile in strip.tiles(height, width)]
        for strip in whole.tiles(height)
    ]
    return np.block(rows)


def test_the_masked_vrt_is_the_rule_applied_to_the_images(tmp_path: Path, images) -> None:
    dn, scl = images
    expected = harmonised(dn, MASK.masked(scl), -1000)
    dataset = gdal.Open(str(masked(tmp_path)))
    assert np.array_equal(dataset.ReadAsArray(), expected)
    assert dataset.GetRasterBand(1).GetNoDataValue() == 65535
    assert dataset.GetGeoTransform() == GEOTRANSFORM


def test_dilation_reaches_across_the_windows_that_are_read(tmp_path: Path, images) -> None:
    path = masked(tmp_path)
    assert np.array_equal(read_in_windows(path, 31, 17), gdal.Open(str(path)).ReadAsArray())


@pytest.mark.parametrize("resampling", ["bilinear", "nearest", "cubic"])
@pytest.mark.parametrize("tr", [0.000179663056824, 0.0011])
def test_warped_pixels_do_not_depend_on_the_window_that_is_read(
    tmp_path: Path, images, resampling: str, tr: float
) -> None:
    """At native resolution and at one so coarse that kernels widen."""
    lattice = Lattice(tr, tr)
    outline = geometry.of_raster("EPSG:32605", GEOTRANSFORM, SHAPE)
    window = lattice.covering(outline.bounds)
    path = vrt.warped(
        tmp_path / "warped.vrt",
        source=masked(tmp_path),
        grid=GRID,
        lattice=lattice,
        window=window,
        resampling=resampling,
        scale=(0.45, 0.16) if tr > 0.001 else (2.7, 1.0),
    )
    whole = gdal.Open(str(path)).ReadAsArray()
    assert 0.2 < (whole != 65535).mean() < 0.8
    for height, width in ((7, 1000), (1000, 11), (23, 19)):
        assert np.array_equal(read_in_windows(path, height, width), whole)
    assert gdal.Open(str(path)).GetGeoTransform() == lattice.geotransform(window)


def test_at_native_resolution_the_warp_is_gdalwarp_with_error_threshold_0(tmp_path: Path, images) -> None:
    lattice = Lattice(0.000179663056824, 0.000179663056824)
    window = lattice.covering(geometry.of_raster("EPSG:32605", GEOTRANSFORM, SHAPE).bounds)
    source = masked(tmp_path)
    path = vrt.warped(
        tmp_path / "w.vrt",
        source=source,
        grid=GRID,
        lattice=lattice,
        window=window,
        resampling="bilinear",
        scale=(2.7, 1.0),
    )
    xmin, dx, _, ymax, _, dy = lattice.geotransform(window)
    plain = gdal.Warp(
        "",
        str(source),
        format="MEM",
        dstSRS="EPSG:4326",
        outputBounds=(xmin, ymax + window.height * dy, xmin + window.width * dx, ymax),
        xRes=lattice.dx,
        yRes=lattice.dy,
        resampleAlg="bilinear",
        errorThreshold=0,
    ).ReadAsArray()
    assert np.array_equal(gdal.Open(str(path)).ReadAsArray(), plain)


def test_warped_vrts_of_a_grid_are_each_of_their_own_source(tmp_path: Path, images) -> None:
    """Also if a name holds what XML writes in another way."""
    lattice = Lattice(0.000179663056824, 0.000179663056824)
    window = lattice.covering(geometry.of_raster("EPSG:32605", GEOTRANSFORM, SHAPE).bounds)
    found = []
    for number, name in enumerate(("a.tif", "b & <c>.tif")):
        raster = gdal.GetDriverByName("GTiff").Create(str(tmp_path / name), SHAPE[1], SHAPE[0], 1, gdal.GDT_UInt16)
        raster.SetProjection("EPSG:32605")
        raster.SetGeoTransform(GEOTRANSFORM)
        raster.GetRasterBand(1).Fill(100 + number)
        raster.Close()
        path = vrt.warped(
            tmp_path / f"{number}.vrt",
            source=tmp_path / name,
            grid=GRID,
            lattice=lattice,
            window=window,
            resampling="nearest",
            scale=(2.7, 1.0),
        )
        found.append(set(np.unique(gdal.Open(str(path)).ReadAsArray()).tolist()))
    assert found == [{100, 65535}, {101, 65535}]


def test_a_stack_crops_and_fills_with_nodata(tmp_path: Path) -> None:
    lattice = Lattice(0.5, 0.5)
    paths = []
    for number, window in enumerate((Window(0, 0, 4, 4), Window(2, 1, 7, 3))):
        path = tmp_path / f"{number}.tif"
        raster = gdal.GetDriverByName("GTiff").Create(str(path), window.width, window.height, 1, gdal.GDT_UInt16)
        raster.GetRasterBand(1).WriteArray(np.arange(window.width * window.height).reshape(window.shape) + 100 * number)
        raster.Close()
        paths.append((path, window))
    asked = Window(1, 1, 6, 5)
    found = gdal.Open(str(vrt.stack(tmp_path / "s.vrt", sources=paths, lattice=lattice, window=asked))).ReadAsArray()
    expected = np.full((2, 4, 5), 65535)
    expected[0, :3, :3] = np.arange(16).reshape(4, 4)[1:, 1:]
    expected[1, :2, 1:] = 100 + np.arange(10).reshape(2, 5)[:, :4]
    assert np.array_equal(found, expected)


def test_python_code_in_somebody_elses_vrt_does_not_run(tmp_path: Path) -> None:
    """Also where the user exported YES: in a fresh process, a VRT with code of its own and one naming os.system."""
    marker = tmp_path / "ran"
    band = '<VRTRasterBand dataType="Byte" band="1" subClass="VRTDerivedRasterBand">{}</VRTRasterBand>'
    inline = (
        "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
        f"<PixelFunctionCode><![CDATA[open({str(marker)!r}, 'w')\ndef f(*a, **k): pass]]></PixelFunctionCode>"
    )
    foreign = "<PixelFunctionType>os.system</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
    for number, body in enumerate((inline, foreign)):
        path = tmp_path / f"{number}.vrt"
        path.write_text(f'<VRTDataset rasterXSize="2" rasterYSize="2">{band.format(body)}</VRTDataset>')
        code = (
            "import sys; from s2sr_core.geo.gdal_runtime import gdal\n"
            "try: gdal.Open(sys.argv[1]).ReadAsArray()\n"
            "except RuntimeError as error: print('refused', error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            env={**os.environ, "GDAL_VRT_ENABLE_PYTHON": "YES"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith("refused"), done
        assert not marker.exists()


def test_only_the_module_of_the_pixel_functions_is_trusted() -> None:
    assert gdal.GetConfigOption("GDAL_VRT_ENABLE_PYTHON") == "TRUSTED_MODULES"
    assert gdal.GetConfigOption("GDAL_VRT_PYTHON_TRUSTED_MODULES") == PIXEL_FUNCTION_MODULE
