from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from support.scenes import parameters_for, pixels, prepare, product_name, run, write_scene

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import ProductError
from s2sr_core.geo import geometry
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Lattice
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.scenes.occupancy import kernel_reach, nearby_pixels
from s2sr_core.scenes.plausible import check_place
from s2sr_core.scenes.prepare import scene_scale
from s2sr_core.scenes.scene import Preparation
from s2sr_sandbox.grid import Grid

GRID = Grid.utm(-149.6, 68.63, 100, zone=5)
OTHER_ZONE = Grid.utm(-149.6, 68.63, 100, zone=6)
CELL = Gridcell("c", shapely.box(-149.61, 68.625, -149.59, 68.635))


def image(archive: Path, band: str) -> Path:
    (path,) = archive.rglob(f"*_{band}_20m.jp2")
    return path


def write_image(path: Path, pixels: np.ndarray, grid: Grid = GRID, kind: int | None = None, bands: int = 1) -> None:
    kind = kind or {"uint8": gdal.GDT_Byte, "uint16": gdal.GDT_UInt16}[pixels.dtype.name]
    path.unlink()
    raster = gdal.GetDriverByName("GTiff").Create(str(path), pixels.shape[1], pixels.shape[0], bands, kind)
    raster.SetProjection(grid.crs)
    raster.SetGeoTransform(grid.geotransform)
    raster.GetRasterBand(1).WriteArray(pixels)
    raster.Close()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    write_scene(tmp_path / "archive", product_name(), GRID, np.random.default_rng(0), ("B04", "B11"))
    return tmp_path / "archive"


def prepared(tmp_path: Path, archive: Path, **changes: object) -> Preparation:
    """Phase 1 of the one product, without its manifest, whose sizes would tell of a changed image at once."""
    for manifest in archive.rglob("manifest.safe"):
        manifest.unlink()
    (preparation,) = prepare(parameters_for(tmp_path, archive, [CELL], **({"bands": ["B04", "B11"]} | changes)))
    return preparation


def test_a_scene_knows_its_grid_its_cells_and_its_valid_share(tmp_path: Path, archive: Path) -> None:
    scene = prepared(tmp_path, archive).scene
    assert scene is not None
    assert scene.grid.shape == GRID.shape
    assert scene.grid.geotransform == GRID.geotransform
    assert scene.cells == ("c",)
    scl = pixels(image(archive, "SCL"))
    grid = scene.grid
    near = nearby_pixels((CELL,), scene.outline, grid, kernel_reach(scene.scale))
    window = near.window
    clear = np.isin(scl, (4, 5, 6))[window.y0 : window.y1, window.x0 : window.x1]
    assert scene.valid_share == clear[near.pixels].mean()


def test_the_vrts_lie_where_the_specification_says(tmp_path: Path, archive: Path) -> None:
    prepared(tmp_path, archive)
    folder = tmp_path / "run/tmp/rank_1/wgs84_vrt"
    name = str(product_name())
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{name}_{band}_{kind}.vrt" for band in ("B04", "B11") for kind in ("masked", "wgs84")
    ]


def test_a_jp2_that_is_a_vrt_is_not_opened(tmp_path: Path, archive: Path) -> None:
    """GDAL tells a format by its content; this one would read any file of the user's, or run code."""
    secret = tmp_path / "secret.tif"
    image(archive, "B04").rename(secret)
    path = secret.parent / "archive" / "x"
    path = (
        next((archive / product_name().folder).glob("GRANULE/*/IMG_DATA/R20m")) / "T05WPS_20190701T214529_B04_20m.jp2"
    )
    gdal.Translate(str(path), str(secret), format="VRT").Close()
    preparation = prepared(tmp_path, archive)
    (error,) = preparation.errors
    assert (error.band, error.step) == ("B04", "open")
    assert "not a JPEG 2000 or GeoTIFF" in error.reason
    assert preparation.scene is not None
    assert [band.file.band for band in preparation.scene.bands] == ["B11"]


@pytest.mark.parametrize(
    ("band", "make", "reason"),
    [
        ("B04", lambda path: path.write_bytes(b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"rubbish" * 99), "not a JPEG 2000"),
        ("B04", lambda path: path.write_bytes(path.read_bytes()[:-2]), "is incomplete"),
        ("B04", lambda path: path.write_bytes(path.read_bytes()[:-900] + bytes(900)), "is incomplete"),
        ("B04", lambda path: write_image(path, np.ones((50, 100), np.uint16)), "not that of SCL"),
        (
            "B04",
            lambda path: write_image(path, np.ones((100, 100), np.uint16), Grid.utm(-149.6, 68.63, 100, zone=6)),
            "SCL",
        ),
        ("B04", lambda path: write_image(path, np.ones((100, 100), np.uint16), kind=gdal.GDT_Float32), "unsigned"),
        ("B04", lambda path: write_image(path, np.ones((100, 100), np.uint16), bands=3), "one band"),
        ("B04", lambda path: path.unlink(), "no 20 m image"),
    ],
    ids=["rubbish", "short", "zeros", "other size", "other zone", "float", "three bands", "missing"],
)
def test_a_bad_band_is_an_error_with_its_reason_and_the_others_go_on(
    tmp_path: Path, archive: Path, band: str, make, reason: str
) -> None:
    make(image(archive, band))
    preparation = prepared(tmp_path, archive)
    assert [(error.product, error.band) for error in preparation.errors] == [(str(product_name()), band)]
    assert reason in preparation.errors[0].reason
    assert preparation.scene is not None
    assert [ready.file.band for ready in preparation.scene.bands] == ["B11"]


def test_a_band_of_8_bits_is_refused(tmp_path: Path, archive: Path) -> None:
    write_image(image(archive, "B04"), np.ones((100, 100), np.uint8))
    (error,) = prepared(tmp_path, archive).errors
    assert (error.band, error.step) == ("B04", "open")
    assert "not one band of unsigned integers of 16 bits" in error.reason


@pytest.mark.parametrize("dn", [32767, 32768, 65534, 65535])
@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_dn_beyond_15_bits_are_refused_except_saturated_ones(
    tmp_path: Path, archive: Path, dn: int, engine: str
) -> None:
    """The same for both engines, wherever the pixel is: phase 1 looks, before an engine does."""
    dns = np.full((100, 100), 500, np.uint16)
    dns[99, 0] = dn
    write_image(image(archive, "B04"), dns)
    preparation = prepared(tmp_path, archive, engine=engine)
    if dn in (32767, 65535):
        assert not preparation.errors
    else:
        (error,) = preparation.errors
        assert error.reason == f"it holds DN of {dn} and more; they have 15 bits, up to 32767"
        assert error.band == "B04"


def moved(grid: Grid, east: float = 0.0, pixel: float = 20.0, shear: float = 0.0, height: float | None = None) -> Grid:
    left, _, _, top, _, _ = grid.geotransform
    return replace(grid, geotransform=(left + east, pixel, shear, top, 0.0, -pixel if height is None else height))


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        (moved(GRID, pixel=10.0), "not 20 m wide and high, north up"),
        (moved(GRID, shear=1.0), "not 20 m wide and high, north up"),
        (moved(GRID, height=20.0), "not 20 m wide and high, north up"),
        (moved(GRID, east=-200_000), "lie outside tile T05WPS"),
        (moved(OTHER_ZONE, east=500_000), "lie outside tile T05WPS"),
    ],
    ids=["10 m", "sheared", "south up", "another tile", "another zone, far off"],
)
def test_images_that_do_not_lie_on_the_tile_are_refused(tmp_path: Path, archive: Path, grid: Grid, reason: str) -> None:
    for band, kind in (("B04", np.uint16), ("B11", np.uint16), ("SCL", np.uint8)):
        write_image(image(archive, band), np.full((100, 100), 4, kind), grid)
    preparation = prepared(tmp_path, archive)
    assert preparation.scene is None
    (error,) = preparation.errors
    assert reason in error.reason


@pytest.mark.parametrize(("east", "is_used"), [(0.0, True), (60.0, True), (5_000.0, False), (-80.0, False)])
def test_a_whole_granule_lies_exactly_on_its_tile(east: float, is_used: bool) -> None:
    grid = Grid.granule(-149.6, 68.63, zone=5)
    shifted = RasterGrid(grid.crs, (grid.geotransform[0] + east, *grid.geotransform[1:]), grid.shape)
    outline = geometry.of_raster(shifted.crs, shifted.geotransform, shifted.shape)
    if is_used:
        assert check_place(product_name(), shifted, outline) == ()
    else:
        with pytest.raises(ProductError, match="the image is of another place"):
            check_place(product_name(), shifted, outline)


def test_images_in_another_crs_are_used_with_a_note(tmp_path: Path) -> None:
    write_scene(tmp_path / "archive", product_name(), OTHER_ZONE, np.random.default_rng(0), ("B04", "B11"))
    scene = prepared(tmp_path, tmp_path / "archive").scene
    assert scene is not None
    assert scene.notes == ("its images are not in the CRS of tile T05WPS, EPSG:32605",)


def test_a_raster_larger_than_a_granule_is_refused_by_its_header(tmp_path: Path, archive: Path) -> None:
    path = image(archive, "SCL")
    path.unlink()
    raster = gdal.GetDriverByName("GTiff").Create(str(path), 40_000, 40_000, 1, options=["SPARSE_OK=TRUE"])
    raster.SetProjection(GRID.crs)
    raster.SetGeoTransform(GRID.geotransform)
    raster.Close()
    preparation = prepared(tmp_path, archive)
    assert preparation.scene is None
    (error,) = preparation.errors
    assert error.reason == "it has 40000 x 40000 pixels; a granule has 5490 x 5490 at 20 m"


@pytest.mark.parametrize("how", ["missing", "rubbish", "uint16"])
def test_without_scl_a_product_cannot_be_used(tmp_path: Path, archive: Path, how: str) -> None:
    path = image(archive, "SCL")
    if how == "missing":
        path.unlink()
    elif how == "rubbish":
        path.write_bytes(b"no image")
    else:
        write_image(path, np.full(GRID.shape, 4, np.uint16))
    preparation = prepared(tmp_path, archive)
    assert preparation.scene is None
    assert [error.band for error in preparation.errors] == ["SCL"]


def test_a_truncated_jp2_fails_by_its_size(tmp_path: Path, archive: Path) -> None:
    path = image(archive, "B04")
    path.write_bytes(path.read_bytes()[:-100])
    (preparation,) = prepare(parameters_for(tmp_path, archive, [CELL], bands=["B04", "B11"]))
    assert "truncated" in preparation.errors[0].reason


def test_a_scene_across_the_antimeridian_is_warped_on_each_side(tmp_path: Path) -> None:
    grid = Grid.utm(180.0, 69.3, 100, zone=1)
    write_scene(tmp_path / "archive", product_name(tile="01WCT"), grid, np.random.default_rng(0))
    cells = [
        Gridcell("e", shapely.box(179.99, 69.29, 180, 69.31)),
        Gridcell("w", shapely.box(-180, 69.29, -179.99, 69.31)),
    ]
    parameters = parameters_for(tmp_path, tmp_path / "archive", cells, bbox=(179.9, 69.2, -179.9, 69.4))
    (preparation,) = prepare(parameters)
    assert preparation.scene is not None
    assert sorted(preparation.scene.cells) == ["e", "w"]
    pieces = preparation.scene.bands[0].pieces
    assert len(pieces) == 2
    assert all(piece.window.width < 1000 for piece in pieces)


def test_the_scale_of_a_scene_is_lattice_pixels_a_scene_pixel() -> None:
    """At 60° N a degree of longitude is about half one of latitude: the WGS84 lengths are 55800 and 111412 m."""
    lattice = Lattice(0.001, 0.001)
    grid = Grid.utm(-147.0, 60.0, 100, zone=6)
    x, y = scene_scale(
        RasterGrid(geometry.spatial_reference(grid.crs).ExportToWkt(), grid.geotransform, grid.shape), lattice
    )
    assert x == pytest.approx(20 / 55.80, rel=2e-3)
    assert y == pytest.approx(20 / 111.41, rel=2e-3)


# ------------------------------------------------------------------------- images that do not say where they are


def strip(path: Path, *, crs: bool = False, corner: bool = False) -> None:
    """Write the image again without its CRS and its geotransform, or with one of them."""
    source = gdal.Open(str(path))
    raster = gdal.GetDriverByName("MEM").CreateCopy("", source)
    options = [] if crs or corner else ["GeoJP2=NO", "GMLJP2=NO"]
    bare = gdal.GetDriverByName("MEM").Create(
        "", raster.RasterXSize, raster.RasterYSize, 1, raster.GetRasterBand(1).DataType
    )
    bare.GetRasterBand(1).WriteArray(raster.ReadAsArray())
    if crs:
        bare.SetSpatialRef(raster.GetSpatialRef())
    if corner:
        bare.SetGeoTransform(raster.GetGeoTransform())
    driver = "GTiff" if corner or crs else "JP2OpenJPEG"
    if driver == "JP2OpenJPEG":
        options += ["QUALITY=100", "REVERSIBLE=YES"]
    source.Close()
    path.unlink()
    gdal.GetDriverByName(driver).CreateCopy(str(path), bare, 0, options).Close()


def composites(tmp_path: Path, archive: Path, engine: str) -> dict[tuple[str, str], np.ndarray]:
    parameters = parameters_for(tmp_path, archive, [CELL], bands=["B04", "B11"], engine=engine)
    return {key: pixels(outcome.path) for key, outcome in run(parameters).items()}


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("stripped", [("B04", "B11", "SCL"), ("B04",)])
def test_a_jp2_without_a_coordinate_system_lies_where_the_granules_metadata_says(
    tmp_path: Path, archive: Path, engine: str, stripped: tuple[str, ...]
) -> None:
    """The pixels are those of the same images with their coordinate system."""
    for manifest in archive.rglob("manifest.safe"):
        manifest.unlink()
    (tmp_path / "whole").mkdir()
    expected = composites(tmp_path / "whole", archive, engine)
    assert all((raster != -9999).any() for raster in expected.values())
    for band in stripped:
        strip(image(archive, band))
        assert gdal.Open(str(image(archive, band))).GetSpatialRef() is None
    found = composites(tmp_path, archive, engine)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[key], expected[key]) for key in expected)
    scene = prepared(tmp_path, archive).scene
    assert scene is not None
    assert scene.notes == ("images have no coordinate system of their own; MTD_TL.xml says EPSG:32605 and the corner",)


@pytest.mark.parametrize(
    ("edit", "kept", "reason"),
    [
        (None, {}, "and there is no MTD_TL.xml that says where it is"),
        (("EPSG:32605", "local"), {}, "MTD_TL.xml does not give the UTM zone, corner, pixel size and shape"),
        (("<NROWS>100<", "<NROWS>99<"), {}, "and what it says of its place or size is not what MTD_TL.xml says"),
        (("<ULX>", "<ULX>1"), {"corner": True}, "and what it says of its place or size is not what MTD_TL.xml says"),
        (("EPSG:32605", "EPSG:32606"), {"crs": True}, "no geotransform, and what it says of its place or size"),
    ],
)
def test_an_image_that_neither_says_where_it_is_nor_agrees_is_not_used(
    tmp_path: Path, archive: Path, edit: tuple[str, str] | None, kept: dict[str, bool], reason: str
) -> None:
    strip(image(archive, "SCL"), **kept)
    (metadata,) = archive.rglob("MTD_TL.xml")
    if edit is None:
        metadata.unlink()
    else:
        assert edit[0] in metadata.read_text()
        metadata.write_text(metadata.read_text().replace(*edit))
    preparation = prepared(tmp_path, archive)
    assert preparation.scene is None
    assert [error.band for error in preparation.errors if error.step == "open"] in (["SCL"], [])
    assert reason in preparation.errors[0].reason
