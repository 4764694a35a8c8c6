"""The options of a run all together, from both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from osgeo import gdal, gdal_array
from support.scenes import noisy_dn, parameters_for, patchy_scl, pixels, product_name, run

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.products import write_product

CELL = Gridcell("c", shapely.box(-149.615, 68.624, -149.595, 68.634))
BANDS = ("B04", "B08")
OPTIONS: dict[str, Any] = {
    "statistic": ["median", "percentile:25", "mean", "medoid", "geomedian"],
    "layers": ["count", "mad", "iqr", "doy", "first", "last"],
    "min_count": 2,
    "group_by": "datatake",
    "scl_opening": {8: 25, 10: 25},
    "scl_min_size": 3000,
    "scl_dilation": {9: 30, 3: 25},
    "mask_clear": [0, 2, 3],
    "crs": "EPSG:3413",
    "tr": (20, 20),
    "resolution": 10,
    "every": "year",
    "months": "7-8",
    "start": "2019-01-01",
    "end": "2022-01-01",
}


def write_archive(archive: Path, masks: Path) -> None:
    """Three passes in each of 2019 and 2021, each in two tiles of two zones that overlap; a mask for each product."""
    rng = np.random.default_rng(14)
    masks.mkdir()
    for number in range(12):
        grid = Grid.utm(-149.604 + 0.004 * (number % 2), 68.629, (90, 80), zone=5 + number % 2)
        name = product_name(number // 2 % 3, tile=("05WPS", "06WUB")[number % 2])
        if number >= 6:
            sensed, made = (moment + timedelta(days=730) for moment in (name.sensing_time, name.discriminator))
            name = replace(name, sensing_time=sensed, discriminator=made, baseline="05.00")
        fine = {band: noisy_dn(rng, grid.refined(2).shape, -1000 if number >= 6 else 0) for band in BANDS}
        scl = patchy_scl(rng, grid.shape, patch=(2, 7)[number % 2])
        write_product(archive, name, grid, {"B04": noisy_dn(rng, grid.shape)}, scl, arrays_10m=fine)
        given = gdal_array.OpenArray((patchy_scl(rng, grid.shape, patch=9) % 4).astype(np.uint8))
        given.SetSpatialRef(grid.spatial_reference)
        given.SetGeoTransform(grid.geotransform)
        gdal.GetDriverByName("GTiff").CreateCopy(str(masks / f"{name}_mask.tif"), given).Close()


@pytest.mark.slow
def test_both_engines_give_the_same_files_with_all_options_at_once(tmp_path: Path) -> None:
    write_archive(tmp_path / "archive", tmp_path / "masks")
    found = {}
    for engine in ("fast", "reference"):
        changes = {
            "engine": engine,
            "work_dir": tmp_path / engine,
            "mask_dir": tmp_path / "masks",
            "bands": list(BANDS),
        }
        run(parameters_for(tmp_path, tmp_path / "archive", [CELL], **changes, **OPTIONS))
        composites = Workspace(tmp_path / engine).composites
        found[engine] = {path.relative_to(composites): path for path in sorted(composites.rglob("*.tif"))}
    names = ("median", "p25", "mean", "count", "mad", "iqr", "doy", "first", "last", "medoid", "geomedian")
    assert {str(path) for path in found["fast"]} == {
        f"c/{year}/cell_c_{year}_{band}_{name}_clip.tif" for year in (2019, 2021) for band in BANDS for name in names
    }
    assert found["reference"].keys() == found["fast"].keys()
    for name, path in found["reference"].items():
        assert path.read_bytes() == found["fast"][name].read_bytes(), name
    for year in (2019, 2021):
        counts = pixels(found["fast"][Path(f"c/{year}/cell_c_{year}_B08_count_clip.tif")])
        median = pixels(found["fast"][Path(f"c/{year}/cell_c_{year}_B08_median_clip.tif")])
        assert {0, 1, 2} < set(np.unique(counts)) <= {0, 1, 2, 3, 65535}  # passes, not tiles
        assert np.array_equal(median != -9999, np.isin(counts, (2, 3)))
