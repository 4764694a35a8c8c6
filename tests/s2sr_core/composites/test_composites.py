"""Both phases against an independent computation, and the laws that composites obey."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from support.independent import RawScene, composite
from support.scenes import noisy_dn, parameters_for, patchy_scl, pixels, prepare, product_name, run, write_scene

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import composite_cell
from s2sr_core.engines import reference
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Lattice
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.run_context import RunContext
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.landscape import Landscape
from s2sr_sandbox.products import make_product, write_product
from s2sr_sandbox.sky import Sky
from s2sr_sandbox.swath import Swath

TR = 0.000179663056824
#: Longitude, latitude, UTM zone, tile: Toolik; tiles 01 and 60 on both sides of ±180; the far north; the south.
PLACES = {
    "toolik": (-149.6, 68.63, 5, "05WPS"),
    "zone 1": (-179.98, 68.9, 1, "01WCS"),
    "zone 60": (179.985, 67.2, 60, "60WXV"),
    "zone 1 over 180": (180.0, 69.3, 1, "01WCT"),
    "83° N": (-35.2, 83.1, 24, "24XWT"),
    "55° S": (-68.3, -54.8, 19, "19FEV"),
}


def polygon_in(lon: float, lat: float) -> shapely.Polygon:
    """Not a box, its vertices off the lattice, partly beyond a scene of 220² at the place, never across ±180."""
    half = 0.02 / np.cos(np.radians(lat))
    west = lon - half if lon - half >= -180 else lon + 0.1 * half
    east = west + 2 * half if west + 2 * half < 180 else 179.9999
    return shapely.Polygon(
        [(west, lat - 0.012345), (east, lat - 0.0177), (0.3 * west + 0.7 * east, lat + 0.0251), (west, lat + 0.0111)]
    )


@pytest.mark.parametrize("tap", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_composites_agree_with_numpy_and_proj(tmp_path: Path, place: str, tap: bool) -> None:
    lon, lat, zone, tile = PLACES[place]
    rng = np.random.default_rng(zone)
    archive, raw = tmp_path / "archive", []
    for number, baseline in enumerate(("02.14", "05.09", "03.01", "04.00")):
        grid = Grid.utm((lon + 0.004 * number + 180) % 360 - 180, lat, (220, 240), zone=zone)
        raw.append(write_scene(archive, product_name(number, tile=tile, baseline=baseline), grid, rng)["B04"])
    polygon = polygon_in(lon, lat)
    parameters = parameters_for(tmp_path, archive, [Gridcell("c", polygon)], tap=tap, count=True)
    outcome = run(parameters)["c", "B04"]

    xmin, _, _, ymax = polygon.bounds
    anchor = (0.0, 0.0) if tap else (xmin, ymax)
    lattice = Lattice(TR, TR, *anchor)
    window = lattice.owned(polygon.bounds)
    expected, count = composite(polygon, raw, (window.x0, window.y0, window.x1, window.y1), (TR, TR), anchor)
    found = pixels(outcome.path)
    assert outcome.scenes == 4
    assert found.dtype == np.float32
    valid = expected != -9999
    assert 0.2 < valid.mean() < 0.9
    assert np.array_equal(found != -9999, valid)
    assert np.abs(found[valid] - expected[valid]).max() <= 1
    assert (found[valid] == expected[valid]).mean() > 0.999  # a half rounds either way by the last bit of a weight
    assert np.array_equal(pixels(Workspace(parameters.work_dir).count("c", "B04")), count)
    assert (outcome.owned, outcome.valid) == ((count != 65535).sum(), valid.sum())


def test_where_warping_is_the_identity_composites_are_exact(tmp_path: Path) -> None:
    """Scenes in EPSG:4326 on the lattice: the median of the harmonised DN by numpy, equal to the last bit."""
    tr = 1 / 4096  # sums of it are exact
    lattice, rng, layers = Lattice(tr, tr), np.random.default_rng(3), []
    for number, baseline in enumerate(("02.14", "05.09", "04.00", "03.01", "05.11")):
        grid = Grid("EPSG:4326", (-600_000 * tr, tr, 0.0, 280_000 * tr, 0.0, -tr), (90, 120))
        scene = write_scene(tmp_path / "archive", product_name(number, tile="06WWA", baseline=baseline), grid, rng)[
            "B04"
        ]
        values = np.maximum(scene.dn.astype(float) + scene.offset, 0)
        layers.append(np.where((scene.dn > 0) & np.isin(scene.scl, (4, 5, 6)), values, np.nan))
    cell = Gridcell("c", shapely.box(-600_000 * tr, (280_000 - 90) * tr, (-600_000 + 120) * tr, 280_000 * tr))
    found = pixels(run(parameters_for(tmp_path, tmp_path / "archive", [cell], tr=(tr, tr)))["c", "B04"].path)
    stack = np.stack(layers)
    covered = ~np.isnan(stack).all(axis=0)
    expected = np.full(covered.shape, -9999.0)
    expected[covered] = np.nanmedian(stack[:, covered], axis=0)
    assert lattice.owned(cell.bounds).shape == found.shape
    assert np.array_equal(found, expected)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes of noise at Toolik, two bands."""
    archive, rng = tmp_path_factory.mktemp("noise"), np.random.default_rng(8)
    for number, baseline in enumerate(("02.14", "05.09", "04.00")):
        grid = Grid.utm(-149.6 + 0.01 * number, 68.63, 200, zone=5)
        write_scene(archive, product_name(number, baseline=baseline), grid, rng, ("B04", "B11"))
    return archive


BOX = (-149.62, 68.62, -149.56, 68.64)


@pytest.mark.parametrize("tr", [TR, 0.0011])
def test_the_windows_that_are_read_do_not_matter(
    tmp_path: Path, noise: Path, monkeypatch: pytest.MonkeyPatch, tr: float
) -> None:
    cell = [Gridcell("c", shapely.box(*BOX))]
    found = []
    for number, shape in enumerate([(10_000, 10_000), (5, 10_000), (13, 17)]):
        monkeypatch.setattr(
            reference, "_read_shape", lambda scenes, width, shape=shape: (shape[0], min(shape[1], width))
        )
        parameters = parameters_for(tmp_path, noise, cell, tr=(tr, tr), work_dir=tmp_path / str(number))
        found.append(pixels(run(parameters)["c", "B04"].path))
    assert (found[0] != -9999).any()
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


@pytest.mark.parametrize("tr", [TR, 0.0011])
def test_a_mosaic_of_cells_is_the_one_big_cell(tmp_path: Path, noise: Path, tr: float) -> None:
    """Four cells of which one edge runs through pixel centres: no gap, no overlap, the same pixels."""
    lattice = Lattice(tr, tr)
    middle = (lattice.x_centre(round(-149.59 / tr)), lattice.y_centre(round(-68.63 / tr)))
    xs, ys = (BOX[0], middle[0], BOX[2]), (BOX[1], middle[1], BOX[3])
    cells = [
        Gridcell(f"c{i}{j}", shapely.box(xs[i], ys[j], xs[i + 1], ys[j + 1]))
        for i, j in itertools.product((0, 1), (0, 1))
    ]
    parts = run(parameters_for(tmp_path, noise, cells, tr=(tr, tr)))
    whole = Gridcell("whole", shapely.box(*BOX))
    big = run(parameters_for(tmp_path, noise, [whole], tr=(tr, tr), work_dir=tmp_path / "big"))["whole", "B04"]
    window = lattice.owned(BOX)
    mosaic, times = np.full(window.shape, -9999, np.float32), np.zeros(window.shape, int)
    for cell in cells:
        part = lattice.owned(cell.bounds)
        x, y = part.offset_in(window)
        mosaic[y : y + part.height, x : x + part.width] = pixels(parts[cell.cell_id, "B04"].path)
        times[y : y + part.height, x : x + part.width] += 1
    assert (times == 1).all()
    assert np.array_equal(mosaic, pixels(big.path))


def test_sloping_cells_that_share_an_edge_own_each_pixel_once(tmp_path: Path, noise: Path) -> None:
    a, b, c, d = (-149.62, 68.62), (-149.56, 68.621), (-149.563, 68.64), (-149.618, 68.639)
    cells = [Gridcell("south", shapely.Polygon([a, b, c])), Gridcell("north", shapely.Polygon([a, c, d]))]
    outcomes = run(parameters_for(tmp_path, noise, [*cells, Gridcell("both", shapely.Polygon([a, b, c, d]))]))
    owned = {cell_id: outcome.owned for (cell_id, _), outcome in outcomes.items()}
    assert owned["south"] + owned["north"] == owned["both"]


def test_the_order_of_scenes_does_not_matter(tmp_path: Path, noise: Path) -> None:
    parameters = parameters_for(tmp_path, noise, [Gridcell("c", shapely.box(*BOX))], overwrite=True)
    scenes = [preparation.scene for preparation in prepare(parameters)]
    cell, found = choose_gridcells(parameters)[0], []
    for order in itertools.permutations(scenes):
        (outcome,) = composite_cell(RunContext(parameters, 1), cell, ["B04"], order)
        assert outcome.path is not None
        found.append(outcome.path.read_bytes())
    assert len(set(found)) == 1


def test_a_scene_has_the_same_pixels_whatever_cells_were_asked(tmp_path: Path, noise: Path) -> None:
    near = Gridcell("near", shapely.box(-149.60, 68.625, -149.59, 68.63))
    far = Gridcell("far", shapely.box(-149.66, 68.61, -149.655, 68.615))
    alone = run(parameters_for(tmp_path, noise, [near]))["near", "B04"]
    with_far = run(parameters_for(tmp_path, noise, [near, far], work_dir=tmp_path / "both"))["near", "B04"]
    assert alone.path is not None
    assert with_far.path is not None
    assert alone.path.read_bytes() == with_far.path.read_bytes()


def test_gdal_vrt_enable_python_yes_changes_nothing(
    tmp_path: Path, noise: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = [Gridcell("c", shapely.box(*BOX))]
    quiet = run(parameters_for(tmp_path, noise, cell))["c", "B04"]
    monkeypatch.setenv("GDAL_VRT_ENABLE_PYTHON", "YES")
    loud = run(parameters_for(tmp_path, noise, cell, work_dir=tmp_path / "loud"))["c", "B04"]
    assert np.array_equal(pixels(quiet.path), pixels(loud.path))


def test_one_truth_rendered_under_four_baselines_gives_one_composite(tmp_path: Path) -> None:
    """The same landscape and sky as 02.14, 03.01, 04.00 and 05.09, each alone and all together."""
    grid, landscape, sky = Grid.utm(-149.6, 68.63, 160, zone=5), Landscape(4), Sky(3, 0.3)
    cell, found = [Gridcell("c", shapely.box(-149.615, 68.622, -149.585, 68.638))], []
    for number, baseline in enumerate(("02.14", "03.01", "04.00", "05.09")):
        name = replace(product_name(number), baseline=baseline)
        for folder in (tmp_path / baseline, tmp_path / "all"):
            make_product(folder, name, grid, landscape, sky, bands=("B04", "B11"))
        parameters = parameters_for(
            tmp_path, tmp_path / baseline, cell, bands=["B04", "B11"], work_dir=tmp_path / f"run{number}"
        )
        outcomes = run(parameters)
        found.append(np.stack([pixels(outcomes["c", band].path) for band in ("B04", "B11")]))
    together = run(parameters_for(tmp_path, tmp_path / "all", cell, bands=["B04", "B11"]))
    found.append(np.stack([pixels(together["c", band].path) for band in ("B04", "B11")]))
    assert (found[0] == 0).sum() + (found[0] == 1).sum() > 0  # dark water is there, and valid
    assert 0.3 < (found[0] != -9999).mean() < 1
    # Truths below 1 DN cannot be written without an offset (DN 0 is nodata): 1 stands for them there.
    clipped = [np.where(array == 0, 1, array) for array in found]
    for other in clipped[1:]:
        assert np.abs(other - clipped[0])[clipped[0] != -9999].max() <= 1
        assert np.array_equal(other == -9999, clipped[0] == -9999)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[2], found[3])


def test_nodata_comes_before_resampling_so_masks_neither_grow_nor_bleed(tmp_path: Path) -> None:
    """A cloud of DN 30000 on ground of DN 500: every valid pixel is exactly 500."""
    grid = Grid.utm(-149.6, 68.63, 120, zone=5)
    scl = np.full(grid.shape, 4, np.uint8)
    scl[40:60, 30:90] = 9
    dn = np.where(scl == 9, 30_000, 500).astype(np.uint16)
    dn[80:90, 20:100] = 0
    write_product(tmp_path / "archive", product_name(), grid, {"B04": dn}, scl)
    for resampling in ("bilinear", "nearest", "cubic"):
        cell = [Gridcell("c", shapely.box(-149.615, 68.622, -149.585, 68.638))]
        parameters = parameters_for(
            tmp_path, tmp_path / "archive", cell, resampling=resampling, work_dir=tmp_path / resampling
        )
        found = pixels(run(parameters)["c", "B04"].path)
        assert set(np.unique(found)) == {-9999.0, 500.0}


def test_swath_edges_that_differ_by_band_stay_each_bands_own(tmp_path: Path) -> None:
    """One warp a band: where B04 has nodata and B11 has not, B11 keeps its pixels."""
    grid = Grid.utm(-149.6, 68.63, 160, zone=5)
    make_product(
        tmp_path / "archive", product_name(), grid, Landscape(1), bands=("B04", "B11"), swath=Swath(across=(0.5, 1.0))
    )
    cell = [Gridcell("c", shapely.box(-149.62, 68.622, -149.58, 68.638))]
    outcomes = run(parameters_for(tmp_path, tmp_path / "archive", cell, bands=["B04", "B11"], scl_mask=[1, 2, 3]))
    valid = {band: pixels(outcomes["c", band].path) != -9999 for band in ("B04", "B11")}
    assert (valid["B11"] & ~valid["B04"]).sum() > 100


def test_dilation_in_metres_reaches_as_far_as_it_says(tmp_path: Path) -> None:
    """A single cloud pixel widened by 100 m: a disc of 81 pixels of 20 m (5 pixels, counted by hand) is masked."""
    grid = Grid.utm(-149.6, 68.63, 60, zone=5)
    scl = np.full(grid.shape, 4, np.uint8)
    scl[30, 30] = 9
    write_product(tmp_path / "archive", product_name(), grid, {"B04": np.full(grid.shape, 700, np.uint16)}, scl)
    cell = [Gridcell("c", shapely.box(-149.604, 68.628, -149.596, 68.632))]
    parameters = parameters_for(tmp_path, tmp_path / "archive", cell, scl_dilation={9: 100.0})
    (preparation,) = prepare(parameters)
    assert preparation.scene is not None
    assert (pixels(preparation.scene.bands[0].masked) == 65535).sum() == 81


def test_a_cell_that_no_scene_covers_gets_no_file_and_says_so(tmp_path: Path, noise: Path) -> None:
    cells = [Gridcell("c", shapely.box(*BOX)), Gridcell("away", shapely.box(-149.2, 68.3, -149.1, 68.35))]
    parameters = parameters_for(tmp_path, noise, cells)
    outcome = run(parameters)["away", "B04"]
    assert (outcome.status, outcome.path) == ("no scene", None)
    assert "no scene" in outcome.reason
    assert not Workspace(parameters.work_dir).cell_folder("away").exists()


def test_a_composite_is_a_cloud_optimized_geotiff_without_scale_or_offset(tmp_path: Path, noise: Path) -> None:
    parameters = parameters_for(tmp_path, noise, [Gridcell("c", shapely.box(*BOX))], count=True)
    path = run(parameters)["c", "B04"].path
    assert path is not None
    assert path.name == "cell_c_B04_median_clip.tif"
    raster = gdal.Open(str(path))
    band = raster.GetRasterBand(1)
    lattice = Lattice(TR, TR)
    assert raster.GetMetadataItem("LAYOUT", "IMAGE_STRUCTURE") == "COG"
    assert raster.GetSpatialRef().GetAuthorityCode(None) == "4326"
    assert raster.GetGeoTransform() == lattice.geotransform(lattice.owned(BOX))
    assert (raster.RasterCount, band.DataType, band.GetNoDataValue()) == (1, gdal.GDT_Float32, -9999)
    assert (band.GetDescription(), band.GetScale(), band.GetOffset()) == ("B04", None, None)
    counted = gdal.Open(str(Workspace(parameters.work_dir).count("c", "B04")))
    counts = counted.GetRasterBand(1)
    assert (counts.DataType, counts.GetNoDataValue()) == (gdal.GDT_UInt16, 65535)
    leftovers = [item.name for item in path.parent.iterdir() if item.name.startswith(".")]
    assert leftovers == []


def test_memory_of_a_read_is_bounded_whatever_the_number_of_scenes() -> None:
    for scenes, width in itertools.product((1, 12, 120, 2000), (100, 1391, 20_000)):
        rows, columns = reference._read_shape(scenes, width)
        assert rows >= 1
        assert 1 <= columns <= width
        assert rows * columns * scenes * 24 <= 512 * 1024**2 or (rows == 1 or columns <= 256)


def test_raw_noise_is_hard_enough_to_tell_a_wrong_pixel(tmp_path: Path) -> None:
    """The independent computation is no tautology: shifting a scene by one pixel is seen in most pixels."""
    rng = np.random.default_rng(0)
    grid = Grid.utm(-149.6, 68.63, 100, zone=5)
    scene = RawScene(noisy_dn(rng, grid.shape), patchy_scl(rng, grid.shape), grid.crs, grid.geotransform, 0)
    moved = replace(scene, dn=np.roll(scene.dn, 1, axis=1), scl=np.roll(scene.scl, 1, axis=1))
    polygon = shapely.box(-149.61, 68.625, -149.59, 68.635)
    window = Lattice(TR, TR).owned(polygon.bounds)
    extent = (window.x0, window.y0, window.x1, window.y1)
    one, other = (composite(polygon, [s], extent, (TR, TR))[0] for s in (scene, moved))
    assert (one != other).mean() > 0.5
