"""The real imagery: five dates over Exeter in three coordinate systems, from an unwarped check to composites."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import shapely
from support.independent import RawScene, composite
from support.scenes import parameters_for, pixels, run
from support.statistics import count_of, median_of

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Lattice
from s2sr_core.pixels.masks import SclMask
from s2sr_core.pixels.rules import harmonised
from s2sr_core.products.names import ProductName
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.products import write_product

TR = 0.000179663056824
BANDS = ("B02", "B03", "B04", "B08")
MASK = (0, 1, 2, 3, 7, 8, 9, 10, 11)


@pytest.fixture(scope="module")
def chips(shared_data: Path) -> dict[str, tuple[Grid, dict[str, np.ndarray]]]:
    """By file name: grid, and DN or SCL by band (rows × columns)."""
    found = {}
    for path in sorted((shared_data / "exeter_chips").glob("*.tif")):
        raster = gdal.Open(str(path))
        names = [raster.GetRasterBand(number).GetDescription() for number in range(1, raster.RasterCount + 1)]
        grid = Grid(
            raster.GetSpatialRef().ExportToWkt(), raster.GetGeoTransform(), (raster.RasterYSize, raster.RasterXSize)
        )
        found[path.stem] = (grid, dict(zip(names, raster.ReadAsArray(), strict=True)))
    assert len(found) == 5
    return found


def test_the_unwarped_check_of_three_august_dates_is_reproduced(chips) -> None:
    """Sums and counts that were got by plain numpy before this project began."""
    august = [bands for name, (_, bands) in chips.items() if "2024-08" in name]
    sums = {"B02": 86_137_954.0, "B03": 107_819_663.0, "B04": 102_125_851.5, "B08": 342_269_652.0}
    for band, expected in sums.items():
        stack = np.stack([harmonised(c[band], SclMask(MASK).masked(c["SCL"]), -1000) for c in august])
        median = median_of(stack)
        assert median[median != -9999].sum(dtype=float) == expected
    stack = np.stack([harmonised(c["B02"], SclMask(MASK).masked(c["SCL"]), -1000) for c in august])
    assert np.bincount(count_of(stack).ravel()).tolist() == [2952, 54309, 43169, 18160]


@pytest.fixture(scope="module")
def archive(chips, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chips as products of baseline 05.10 and 05.11: JPEG 2000, manifest, metadata."""
    folder = tmp_path_factory.mktemp("exeter")
    for name, (grid, bands) in chips.items():
        sensed = datetime.strptime(name[4:23], "%Y-%m-%d_%H-%M-%S").replace(tzinfo=UTC)
        baseline = "05.10" if sensed.month < 8 else "05.11"
        product = ProductName("S2A", sensed, baseline, 37, "30UVB", sensed + timedelta(hours=5))
        dn = {band: bands[band].astype(np.uint16) for band in BANDS[:3]}
        write_product(folder, product, grid, dn, bands["SCL"].astype(np.uint8))
    return folder


def test_five_real_dates_in_three_coordinate_systems_composite_as_numpy_and_proj_say(
    chips, archive: Path, tmp_path: Path
) -> None:
    cell = Gridcell("exeter", shapely.box(-3.55, 50.695, -3.49, 50.74))
    parameters = parameters_for(tmp_path, archive, [cell], bands=list(BANDS[:3]), count=True)
    outcomes = run(parameters)
    window = Lattice(TR, TR).owned(cell.bounds)
    for band in BANDS[:3]:
        raw = [RawScene(c[band], c["SCL"], grid.crs, grid.geotransform, -1000) for grid, c in chips.values()]
        expected, _ = composite(cell.polygon, raw, (window.x0, window.y0, window.x1, window.y1), (TR, TR))
        found = pixels(outcomes["exeter", band].path)
        valid = expected != -9999
        assert outcomes["exeter", band].scenes == 5
        assert valid.mean() > 0.5
        assert np.array_equal(found != -9999, valid)
        assert np.abs(found - expected)[valid].max() <= 1
        assert (found == expected)[valid].mean() > 0.999
