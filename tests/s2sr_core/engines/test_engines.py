"""Every engine gives the pixels of the reference engine, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from support.scenes import noisy_dn, parameters_for, patchy_scl, pixels, prepare, product_name, run, write_scene

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import composite_cell
from s2sr_core.engines import fast
from s2sr_core.jpeg2000 import windows
from s2sr_core.run_context import RunContext
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.products import write_product

#: Longitude, latitude, zones, tile: inland, across ±180, the far north, the south, where two zones meet.
PLACES = {
    "toolik": (-149.6, 68.63, (5,), "05WPS"),
    "tile 01": (-179.98, 68.9, (1,), "01WCS"),
    "tile 60": (179.985, 67.2, (60,), "60WXV"),
    "two zones over 180": (180.0, 69.3, (1, 60), "01WCT"),
    "83 N": (-35.2, 83.1, (24,), "24XWT"),
    "55 S": (-68.3, -54.8, (19,), "19FEV"),
    "two zones": (-150.0, 69.0, (5, 6), "05WPS"),
}


def boxes_around(lon: float, lat: float) -> list[Gridcell]:
    """Four cells around a place, two on each side of its meridian, none across ±180."""
    half = 0.03 / np.cos(np.radians(lat))
    west = shapely.box(lon - half, lat - 0.02, lon, lat + 0.02)
    east = shapely.box(lon, lat - 0.02, lon + half, lat + 0.02)
    if lon >= 180:
        east = shapely.box(-180.0, lat - 0.02, -180.0 + half, lat + 0.02)
    parts = {"w": west.intersection(shapely.box(-180, -90, 180, 90)), "e": east}
    parts["e"] = parts["e"].intersection(shapely.box(-180, -90, 180, 90))
    return [Gridcell(name, part) for name, part in parts.items()]


def noise(folder: Path, place: str, count: int = 5, size: tuple[int, int] = (330, 360)) -> Path:
    lon, lat, zones, tile = PLACES[place]
    rng = np.random.default_rng(len(place))
    for number in range(count):
        grid = Grid.utm((lon + 0.003 * number + 180) % 360 - 180, lat, size, zone=zones[number % len(zones)])
        name = product_name(number, tile=tile, baseline=("02.14", "05.09", "04.00")[number % 3])
        write_scene(folder, name, grid, rng)
    return folder


def rasters_of(
    tmp_path: Path, archive: Path, cells: list[Gridcell], engine: str, **changes: Any
) -> dict[str, np.ndarray]:
    """Every raster that a run with ``engine`` writes, by the name of its file."""
    folder = tmp_path / engine
    folder.mkdir(parents=True)
    parameters = parameters_for(tmp_path, archive, cells, engine=engine, work_dir=folder, count=True, **changes)
    outcomes = run(parameters)
    assert not [outcome for outcome in outcomes.values() if outcome.status == "failed"], outcomes
    return {path.name: pixels(path) for path in sorted(Workspace(folder).composites.rglob("*.tif"))}


def assert_same(tmp_path: Path, archive: Path, cells: list[Gridcell], **changes: Any) -> None:
    expected = rasters_of(tmp_path, archive, cells, "reference", **changes)
    found = rasters_of(tmp_path, archive, cells, "fast", **changes)
    assert expected.keys() == found.keys()
    for name, raster in expected.items():
        assert np.array_equal(raster, found[name]), f"{name}: {(raster != found[name]).sum()} of {raster.size} differ"
    assert any((raster != -9999).any() for name, raster in expected.items() if "median" in name)


@pytest.mark.parametrize("resampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("tap", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_everywhere(tmp_path: Path, place: str, tap: bool, resampling: str) -> None:
    archive = noise(tmp_path / "archive", place)
    assert_same(tmp_path, archive, boxes_around(*PLACES[place][:2]), tap=tap, resampling=resampling)


def write_holes(folder: Path, count: int, size: tuple[int, int], patch: int) -> list[Gridcell]:
    """Scenes of several JPEG 2000 tiles, in which much is masked in large patches and one is masked wholly."""
    rng = np.random.default_rng(patch)
    grid = Grid.utm(-149.6, 68.63, size, zone=5)
    for number in range(count):
        scl = patchy_scl(rng, size, patch, masked=0.75)
        if number == 1:
            scl[:] = 9
        arrays = {band: noisy_dn(rng, size) for band in ("B04", "B11")}
        write_product(folder, product_name(number), grid, arrays, scl)
    return [
        Gridcell(f"c{number}", shapely.box(-149.75 + 0.1 * number, 68.6, -149.65 + 0.1 * number, 68.66))
        for number in range(2)
    ]


@pytest.mark.parametrize("decoder", ["OpenJPEG", "ours"])
@pytest.mark.parametrize("patch", [7, 150])
def test_scenes_with_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patch: int, decoder: str) -> None:
    monkeypatch.setattr(windows, "LARGE", 0 if decoder == "ours" else 10**9)
    cells = write_holes(tmp_path / "archive", 4, (800, 1000), patch)
    assert_same(tmp_path, tmp_path / "archive", cells, bands=["B04", "B11"])


def test_dilation(tmp_path: Path) -> None:
    cells = write_holes(tmp_path / "archive", 3, (400, 700), 90)
    assert_same(tmp_path, tmp_path / "archive", cells, scl_dilation={9: 130, 3: 45, 8: 700})


def test_other_classes_masked(tmp_path: Path) -> None:
    archive = noise(tmp_path / "archive", "toolik")
    assert_same(tmp_path, archive, boxes_around(*PLACES["toolik"][:2]), scl_mask=[4, 9])


def test_sloping_cells_that_reach_beyond_the_scenes(tmp_path: Path) -> None:
    archive = noise(tmp_path / "archive", "toolik", count=3)
    polygon = shapely.Polygon([(-149.9, 68.5), (-149.4, 68.6), (-149.55, 68.71), (-149.8, 68.69)])
    assert_same(tmp_path, archive, [Gridcell("c", polygon)])


@pytest.mark.parametrize("changes", [{"resampling": "cubic"}, {"tr": (0.0011, 0.0011)}])
def test_what_it_cannot_do_the_reference_does(tmp_path: Path, changes: dict[str, Any]) -> None:
    archive = noise(tmp_path / "archive", "toolik", count=3)
    assert_same(tmp_path, archive, boxes_around(*PLACES["toolik"][:2]), **changes)


def test_nearest_on_a_coarse_lattice(tmp_path: Path) -> None:
    archive = noise(tmp_path / "archive", "toolik", count=3)
    cells = boxes_around(*PLACES["toolik"][:2])
    assert_same(tmp_path, archive, cells, resampling="nearest", tr=(0.0011, 0.0007))


def test_a_fine_lattice(tmp_path: Path) -> None:
    archive = noise(tmp_path / "archive", "toolik", count=3, size=(90, 90))
    cells = [Gridcell("c", shapely.box(-149.61, 68.625, -149.59, 68.635))]
    assert_same(tmp_path, archive, cells, tr=(0.00003, 0.00002))


def test_a_lattice_on_the_scenes_own_pixels(tmp_path: Path) -> None:
    """Every centre falls on a centre: weights of exactly 0 and 1, and the scene's edge within reach."""
    tr, rng = 1 / 4096, np.random.default_rng(3)
    for number in range(3):
        grid = Grid("EPSG:4326", (-600_000 * tr, tr, 0.0, 280_000 * tr, 0.0, -tr), (90, 120))
        write_scene(tmp_path / "archive", product_name(number, tile="06WWA"), grid, rng)
    cell = Gridcell("c", shapely.box(-600_010 * tr, 279_900 * tr, -599_870 * tr, 280_010 * tr))
    assert_same(tmp_path, tmp_path / "archive", [cell], tr=(tr, tr))
    half = Gridcell("h", shapely.box(-600_000 * tr, 279_920 * tr, -599_890 * tr, 280_000 * tr))
    for folder in ("reference", "fast"):
        (tmp_path / folder).rename(tmp_path / f"{folder} first")
    assert_same(tmp_path, tmp_path / "archive", [half], tr=(tr, tr), tap=False, resampling="bilinear")


def test_wherever_windows_are_cut_the_pixels_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = noise(tmp_path / "archive", "two zones")
    cells = boxes_around(*PLACES["two zones"][:2])
    expected = rasters_of(tmp_path / "whole", archive, cells, "fast")
    monkeypatch.setattr(fast, "_ROWS", 37)
    monkeypatch.setattr(fast, "_MEMORY", 1)
    found = rasters_of(tmp_path / "cut", archive, cells, "fast")
    for name, raster in expected.items():
        assert np.array_equal(raster, found[name])


def test_scenes_decoded_ahead_need_their_images_no_more(tmp_path: Path) -> None:
    cells = write_holes(tmp_path / "archive", 3, (800, 1000), 150)
    bands = ["B04", "B11"]
    expected = rasters_of(tmp_path, tmp_path / "archive", cells, "reference", bands=bands)
    parameters = parameters_for(
        tmp_path, tmp_path / "archive", cells, bands=bands, count=True, work_dir=tmp_path / "ahead"
    )
    context = RunContext(parameters, rank=1)
    workspace = context.workspace
    scenes = [preparation.scene for preparation in prepare(parameters) if preparation.scene]
    for scene in scenes:
        fast.decode_ahead(context, scene)
    assert len(list(workspace.decoded.glob("*.u16"))) == 6
    for image in (tmp_path / "archive").rglob("*_B*_20m.jp2"):
        image.unlink()
    for cell in cells:
        composite_cell(context, cell, bands, scenes)
    found = {path.name: pixels(path) for path in workspace.composites.rglob("*.tif")}
    assert found.keys() == expected.keys()
    for name, raster in expected.items():
        assert np.array_equal(found[name], raster)


@pytest.mark.parametrize("changes", [{"resampling": "cubic"}, {"tr": (0.0011, 0.0011)}])
def test_nothing_is_decoded_ahead_that_the_reference_computes(tmp_path: Path, changes: dict[str, Any]) -> None:
    cells = write_holes(tmp_path / "archive", 1, (200, 300), 50)
    parameters = parameters_for(tmp_path, tmp_path / "archive", cells, **changes)
    (preparation,) = prepare(parameters)
    assert preparation.scene is not None
    fast.decode_ahead(RunContext(parameters), preparation.scene)
    assert not list(Workspace(parameters.work_dir).decoded.glob("*.u16"))
