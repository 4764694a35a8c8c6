"""Composites in projected CRS: both engines alike, and what numpy and PROJ make of the files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from osgeo import gdal
from support import independent
from support.scenes import parameters_for, pixels, product_name, run, write_scene

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid

#: CRS, place, zones and tile: a pole's seamless grid at ±180, the far north, UTM of a neighbour, another datum's.
PLACES = {
    "EPSG:3413": (180.0, 69.3, (1, 60), "01WCT"),
    "EPSG:3571": (-35.2, 83.1, (24,), "24XWT"),
    "EPSG:32605": (-150.0, 69.0, (5, 6), "05WPS"),
    "EPSG:3338": (-149.6, 68.63, (5,), "05WPS"),
}


def cells_around(longitude: float, latitude: float) -> list[Gridcell]:
    """Two neighbours, the second of which begins at −180 if the first ends at 180."""
    half = 0.015 / np.cos(np.radians(latitude))
    start = -180.0 if longitude == 180.0 else longitude
    west = shapely.box(longitude - half, latitude - 0.012, longitude, latitude + 0.012)
    east = shapely.box(start, latitude - 0.012, start + half, latitude + 0.012)
    return [Gridcell("w", west), Gridcell("e", east)]


@pytest.mark.parametrize(
    ("crs", "tap"),
    [("EPSG:3413", True), ("EPSG:3571", False), ("EPSG:32605", True), ("EPSG:3338", False), ("EPSG:3413", False)],
)
def test_both_engines_give_what_numpy_and_proj_give(tmp_path: Path, crs: str, tap: bool) -> None:
    longitude, latitude, zones, tile = PLACES[crs]
    rng, scenes = np.random.default_rng(len(crs)), []
    for number in range(3):
        grid = Grid.utm(
            (longitude + 0.002 * number + 180) % 360 - 180, latitude, (210, 230), zone=zones[number % 2 - 1]
        )
        name = product_name(number, tile=tile, baseline=("02.14", "05.09", "04.00")[number])
        scenes.append(write_scene(tmp_path / "archive", name, grid, rng)["B04"])
    cells = cells_around(longitude, latitude)
    changes = {"crs": crs, "tap": tap, "tr": (19.0, 23.0), "count": True}
    for engine in ("fast", "reference"):
        run(parameters_for(tmp_path, tmp_path / "archive", cells, engine=engine, work_dir=tmp_path / engine, **changes))
    for cell in cells:
        fast, reference = (
            Workspace(tmp_path / engine).composite(cell.cell_id, "B04") for engine in ("fast", "reference")
        )
        found = pixels(fast)
        assert np.array_equal(found, pixels(reference))
        with gdal.Open(str(fast)) as raster:
            x0, dx, _, y0, _, dy = raster.GetGeoTransform()
            assert raster.GetSpatialRef().GetAuthorityCode(None) == crs.removeprefix("EPSG:")
        assert (dx, dy) == (19.0, -23.0)
        if tap:
            assert x0 % 19.0 == y0 % 23.0 == 0.0
        rows, columns = found.shape
        x, y = np.meshgrid(x0 + (np.arange(columns) + 0.5) * dx, y0 + (np.arange(rows) + 0.5) * dy)
        inverse = independent.transformation(crs).GetInverse()
        lonlat = np.array(inverse.TransformPoints(np.column_stack([x.ravel(), y.ravel()])))
        at = lonlat[:, 0].reshape(x.shape), lonlat[:, 1].reshape(x.shape)
        stack = np.stack([independent.warped(scene, *at) for scene in scenes])
        expected = np.where(np.isnan(stack).all(axis=0), -9999.0, 0.0)
        valid = expected == 0.0
        expected[valid] = np.nanmedian(stack[:, valid], axis=0)
        inside = shapely.contains_xy(cell.polygon, *at)
        expected[~inside] = -9999.0
        assert inside.sum() > 3000
        assert (found != expected).mean() < 1e-3  # rounding half up meets the two roads' last bits now and then


def test_nearest_on_the_pixels_of_a_scene_gives_its_own_pixels(tmp_path: Path) -> None:
    """UTM on UTM of the same zone, 20 m: no transformation, no resampling. Bilinear has weights of 1 and 0."""
    grid = Grid.utm(-149.6, 68.63, (120, 140), zone=5)
    scene = write_scene(tmp_path / "archive", product_name(), grid, np.random.default_rng(1))["B04"]
    expected = np.maximum(scene.dn.astype(float) + scene.offset, 0)
    expected[(scene.dn == 0) | ~np.isin(scene.scl, independent.CLEAR)] = -9999
    cell = Gridcell("c", shapely.box(-149.7, 68.6, -149.5, 68.66))
    for resampling in ("nearest", "bilinear"):
        for engine in ("fast", "reference"):
            folder = tmp_path / resampling / engine
            changes = {"crs": "EPSG:32605", "resampling": resampling, "engine": engine, "work_dir": folder}
            run(parameters_for(tmp_path, tmp_path / "archive", [cell], **changes))
            with gdal.Open(str(Workspace(folder).composite("c", "B04"))) as raster:
                x0, dx, _, y0, _, dy = raster.GetGeoTransform()
                found = raster.ReadAsArray()
            left, top = (grid.geotransform[0] - x0) / dx, (grid.geotransform[3] - y0) / dy
            assert (dx, dy, left % 1, top % 1) == (20.0, -20.0, 0.0, 0.0)
            inner = found[int(top) : int(top) + 120, int(left) : int(left) + 140]
            assert np.array_equal(inner, expected)
