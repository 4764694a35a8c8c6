"""What GeoTIFFs say of themselves, read back by GDAL and held against a product's own metadata and by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import defusedxml.ElementTree
import numpy as np
import pytest
import shapely
from osgeo_utils.samples.validate_cloud_optimized_geotiff import validate
from support.scenes import parameters_for, pixels, product_name, run, write_scene

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.tags import attribution
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.parameters import RunParameters
from s2sr_core.products.bands import BANDS, SPECTRA
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid

SLOPE = shapely.Polygon([(-149.615, 68.622), (-149.585, 68.622), (-149.605, 68.638)])


@pytest.fixture(scope="module")
def parameters(tmp_path_factory: pytest.TempPathFactory) -> RunParameters:
    folder, rng = tmp_path_factory.mktemp("tags"), np.random.default_rng(4)
    for number in (0, 1, 100):
        write_scene(folder / "archive", product_name(number), Grid.utm(-149.6, 68.63, 120, zone=5), rng)
    window = {"start": "2019-06-01", "end": "2021-01-01T12:00:00Z", "months": "7 11"}
    chosen = {"count": True, "scl_dilation": "9=40", "scl_mask": [0, 9]}
    parameters = parameters_for(folder, folder / "archive", [Gridcell("c", SLOPE)], **window, **chosen)
    run(parameters)
    return parameters


def test_a_composite_says_what_it_is(parameters: RunParameters) -> None:
    with gdal.Open(str(Workspace(parameters.work_dir).composite("c", "B04"))) as raster:
        band = raster.GetRasterBand(1)
        said = raster.GetMetadata()
        assert said.pop("TIFFTAG_SOFTWARE").startswith("s2sr ")
        assert said == {
            "AREA_OR_POINT": "Area",
            "TIFFTAG_COPYRIGHT": "Contains modified Copernicus Sentinel data [2019-2020]",
            "CELL_ID": "c",
            "STATISTIC": "median",
            "SCENES": "3",
            "PERIOD": "2019-06-01T00:00:00Z/2021-01-01T12:00:00Z",
            "MONTHS": "7 11",
            "MASK": "SCL 0 (no data), 9 (cloud, high probability); dilated: 9 by 40 m",
            "FIRST_ACQUISITION": "2019-07-01T21:45:29Z",
            "LAST_ACQUISITION": "2020-11-12T21:45:29Z",
        }
        assert band.GetMetadataItem("REFLECTANCE_SCALE") == "0.0001"
        assert band.GetMetadata("IMAGERY") == {"CENTRAL_WAVELENGTH_UM": "0.665", "FWHM_UM": "0.030"}
        assert band.GetUnitType() == "reflectance x 10000"
        assert (band.GetScale(), band.GetOffset(), band.GetDescription()) == (None, None, "B04")


def test_a_count_is_not_reflectance(parameters: RunParameters) -> None:
    with gdal.Open(str(Workspace(parameters.work_dir).count("c", "B04"))) as raster:
        band = raster.GetRasterBand(1)
        assert (band.GetUnitType(), band.GetMetadataItem("REFLECTANCE_SCALE")) == ("values", None)
        assert raster.GetMetadataItem("STATISTIC") == "count"


def test_files_are_valid_cogs_without_files_next_to_them(parameters: RunParameters) -> None:
    rasters = sorted(parameters.work_dir.rglob("cell_*.tif"))
    assert len(rasters) == 2
    for raster in rasters:
        warnings, errors, details = validate(str(raster), full_check=True)
        assert (warnings, errors) == ([], [])
        assert details["data_offsets"]  # looked at the file
    assert not list(parameters.work_dir.rglob("*.aux.xml"))


def test_equal_runs_write_equal_bytes(parameters: RunParameters, tmp_path: Path) -> None:
    again = parameters.model_copy(update={"work_dir": tmp_path / "again"})
    run(again)
    for path in (Workspace.composite, Workspace.count):
        one, other = (path(Workspace(each.work_dir), "c", "B04") for each in (parameters, again))
        assert one.read_bytes() == other.read_bytes()


def test_the_scale_of_gdal_is_there_on_request_and_changes_no_pixel(parameters: RunParameters, tmp_path: Path) -> None:
    scaled = parameters.model_copy(update={"work_dir": tmp_path / "scaled", "gdal_scale": True})
    run(scaled)
    plain_path, path = (Workspace(each.work_dir).composite("c", "B04") for each in (parameters, scaled))
    assert np.array_equal(pixels(path), pixels(plain_path))
    with gdal.Open(str(path)) as raster:
        band = raster.GetRasterBand(1)
        assert (band.GetScale(), band.GetOffset(), band.GetNoDataValue()) == (0.0001, 0.0, -9999.0)
    with gdal.Open(str(Workspace(scaled.work_dir).count("c", "B04"))) as raster:
        assert raster.GetRasterBand(1).GetScale() is None


def test_a_file_without_the_scale_that_is_asked_for_is_written_again(parameters: RunParameters) -> None:
    assert run(parameters)["c", "B04"].status == "kept"
    changed = parameters.model_copy(update={"gdal_scale": True})
    assert run(changed)["c", "B04"].status == "written"
    assert run(parameters)["c", "B04"].status == "written"


@pytest.mark.parametrize(
    ("years", "shown"),
    [
        ([2019], "2019"),
        ([2021, 2019], "2019, 2021"),
        ([2016, 2017, 2018, 2020, 2022, 2023], "2016-2018, 2020, 2022-2023"),
    ],
)
def test_attribution_names_the_years_of_sensing(years: list[int], shown: str) -> None:
    times = [datetime(year, 7, 1, tzinfo=UTC) for year in years for _ in range(2)]
    assert attribution(times) == f"Contains modified Copernicus Sentinel data [{shown}]"


def test_wavelengths_are_those_of_real_products(shared_data: Path) -> None:
    """Nominal ones, within 13 nm of what ESA's metadata say of each satellite, and inside the band that they state."""
    found = 0
    for path in (shared_data / "safe_metadata").glob("*.SAFE/MTD_MSIL2A.xml"):
        for entry in defusedxml.ElementTree.parse(path).iter("Spectral_Information"):
            name = entry.attrib["physicalBand"]
            name = name if len(name) == 3 else f"B0{name[1:]}"
            if name in SPECTRA:
                low, high, centre = (
                    float(entry.findtext(f"Wavelength/{key}", "")) for key in ("MIN", "MAX", "CENTRAL")
                )
                nominal = SPECTRA[name]
                assert abs(1000 * nominal.centre - centre) < 13, (path.parent.name, name)
                assert low < 1000 * nominal.centre < high
                assert 1000 * nominal.width < high - low
                found += 1
    assert found >= 30
    assert set(BANDS) <= set(SPECTRA)
