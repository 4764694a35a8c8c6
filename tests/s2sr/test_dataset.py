from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyproj
import pytest
import xarray as xr
from support.rasters import write_raster

import s2sr
from s2sr_core.errors import InputError
from s2sr_core.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two cells of two periods; cell ``b`` has no composite of the first one."""
    folder = Workspace(tmp_path / "run")
    rng = np.random.default_rng(0)
    for cell, period, column in (("a", "2019", 40), ("a", "2020", 40), ("b", "2020", 45)):
        for band in ("B04", "B11"):
            for statistic, nodata in (("median", -9999), ("count", 65535)):
                name = f"cell_{cell}_{period}_{band}_{statistic}_clip.tif"
                values = rng.integers(0, 9, (4, 5)).tolist()
                values[0][0] = nodata
                write_raster(folder.composites / cell / period / name, column, 8, values, nodata)
    return folder


def test_bands_and_statistics_are_variables_over_time_latitude_and_longitude(workspace: Workspace) -> None:
    dataset = s2sr.open(workspace.work_dir)
    assert list(dataset.data_vars) == ["B04", "B04_count", "B11", "B11_count"]
    assert dict(dataset.sizes) == {"time": 2, "latitude": 4, "longitude": 10}
    assert dataset["time"].dt.strftime("%Y-%m-%d").values.tolist() == ["2019-01-01", "2020-01-01"]
    assert dataset["period"].values.tolist() == ["2019", "2020"]
    assert dataset["B04"].dims == ("time", "latitude", "longitude")
    assert dataset["B04"].chunks is not None, "nothing is read before it is asked for"
    assert int(dataset["B04"].isel(time=0).count()) == 19, "one pixel of 4 × 5 has no value, and cell b none at all"


def test_what_is_read_is_what_gdal_reads(workspace: Workspace) -> None:
    """In any order of indexing: slices, steps, backwards, single numbers, arrays, labels."""
    whole = s2sr.open(workspace.work_dir).load()
    lazy = xr.open_dataset(workspace.work_dir, engine="s2sr")
    choices: list[dict[str, object]] = [
        {"latitude": slice(1, 3), "longitude": slice(None, None, 3)},
        {"latitude": slice(None, None, -1), "time": 1},
        {"longitude": -1},
        {"longitude": [7, 2, 2], "latitude": [0, 3, 1]},
        {"latitude": slice(0, 0)},
    ]
    for choice in choices:
        assert lazy.isel(choice).equals(whole.isel(choice)), choice
    near = lazy["B04"].sel(latitude=87.4, longitude=11.3, method="nearest").isel(time=1)
    with_gdal = workspace.composites / "b" / "2020" / "cell_b_2020_B04_median_clip.tif"
    from osgeo import gdal

    assert float(near) == gdal.Open(str(with_gdal)).ReadAsArray()[2, 0]


def test_dates_are_dates_and_days_are_not_reflectances(tmp_path: Path) -> None:
    folder = Workspace(tmp_path / "run").composites / "a"
    for statistic, values, nodata in (
        ("first", [[0, 18_000]], 65535),
        ("doy", [[152.5, 9]], -9999),
        ("odd", [[1, 2]], 0),
    ):
        write_raster(folder / f"cell_a_B04_{statistic}_clip.tif", 0, 0, values, nodata)
    dataset = s2sr.open(tmp_path / "run")
    dates = dataset["B04_first"].values.ravel().astype("datetime64[D]")
    assert dates.astype(str).tolist() == ["1970-01-01", "2019-04-14"]
    assert dataset["B04_doy"].attrs["units"] == "1"
    assert dataset["B04_doy"].values.ravel().tolist() == [152.5, 9]
    assert "units" not in dataset["B04_odd"].attrs


def test_the_attributes_are_those_of_cf_and_others_find_the_grid(workspace: Workspace) -> None:
    dataset = s2sr.open(workspace.work_dir)
    band, count = dataset["B04"], dataset["B04_count"]
    assert band.attrs["standard_name"] == "surface_bidirectional_reflectance"
    assert band.attrs["units"] == "1e-4"
    assert band.attrs["cell_methods"] == "time: median"
    assert count.attrs["standard_name"] == "number_of_observations"
    assert dataset["latitude"].attrs["units"] == "degrees_north"
    grid = dataset[band.attrs["grid_mapping"]]
    assert pyproj.CRS.from_cf(grid.attrs) == pyproj.CRS(4326)
    assert grid.attrs["GeoTransform"].split() == ["10.0", "0.25", "0.0", "88.0", "0.0", "-0.25"]
    assert "Contains modified Copernicus Sentinel data" in dataset.attrs["comment"]


def test_it_can_be_written_as_netcdf_or_zarr_would_be_and_computed_in_parallel(workspace: Workspace) -> None:
    dataset = s2sr.open(workspace.work_dir).chunk(longitude=3)
    with_threads = dataset["B04"].mean().compute(scheduler="threads")
    with_processes = dataset["B04"].mean().compute(scheduler="single-threaded")
    assert float(with_threads) == float(with_processes) == pytest.approx(np.nanmean(dataset["B04"].values))


def test_a_copy_of_the_composites_is_enough_and_cells_can_be_chosen(workspace: Workspace, tmp_path: Path) -> None:
    shutil.copytree(workspace.composites, tmp_path / "copy" / "composites")
    assert s2sr.open(tmp_path / "copy").equals(s2sr.open(workspace.work_dir))
    one = s2sr.open(str(tmp_path / "copy"), cells=["b"])
    assert dict(one.sizes) == {"time": 1, "latitude": 4, "longitude": 5}
    with pytest.raises(InputError, match=r"work_dir = '.*': does not exist"):
        s2sr.open(tmp_path / "nowhere")


def test_importing_s2sr_imports_nothing_that_takes_long() -> None:
    heavy = ["numpy", "pandas", "xarray", "osgeo", "prefect", "dask", "distributed"]
    code = f"import sys, s2sr; print(sorted(set({heavy!r}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_xarray_one_sentence_says_which_extra_to_add(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(s2sr.InstallationError, match=r"pip install 's2sr\[xarray\]'"):
        s2sr.open(workspace.work_dir)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bands": ["B04"]}, "bbox = '': is required; add --bbox, --grid-csv, --start, --end, --work-dir."),
        ({"bbox": (1, 2, 3)}, "bbox = '1 2 3': is not 4 values; write XMIN YMIN XMAX YMAX."),
        ({"colour": "red"}, "colour = 'red': is not a parameter"),
        ({"grid_csv": "none.csv"}, r"grid_csv = '.*none\.csv': does not exist"),
    ],
)
@pytest.mark.parametrize("function", [s2sr.plan, s2sr.composite])
def test_bad_input_is_the_sentence_of_the_command_line(
    function: object, fields: dict[str, object], message: str, tmp_path: Path
) -> None:
    given = {
        "bbox": (0, 60, 1, 61),
        "grid_csv": __file__,
        "start": "2019-01-01",
        "end": "2020-01-01",
        "work_dir": tmp_path,
    }
    asked = {**given, **fields} if "bands" not in fields else fields
    with pytest.raises(InputError, match=message):
        function(**asked)  # type: ignore[operator]
