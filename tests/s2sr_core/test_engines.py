"""Every engine gives the pixels of the reference engine, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from scenes import parameters_for, pixels, product_name, run, write_scene

from s2sr_core.gridcells import Gridcell
from s2sr_core.sandbox.grid import Grid
from s2sr_core.workspace import Workspace

#: Longitude, latitude, zones, tile: inland, across ±180, the far north, the south, where two zones meet.
PLACES = {
    "toolik": (-149.6, 68.63, (5,), "05WPM"),
    "tile 01": (-179.98, 68.9, (1,), "01WCS"),
    "tile 60": (179.985, 67.2, (60,), "60WWT"),
    "two zones over 180": (180.0, 69.3, (1, 60), "01WCT"),
    "83 N": (-35.2, 83.1, (24,), "24XWT"),
    "55 S": (-68.3, -54.8, (19,), "19FEV"),
    "two zones": (-150.0, 69.0, (5, 6), "05WPM"),
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
