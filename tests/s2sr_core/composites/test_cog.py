"""What the files hold besides pixels, and what is next to them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import shapely
from support.scenes import parameters_for, pixels, product_name, run, write_scene

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.cog import ScratchRaster, remove_raster
from s2sr_core.composites.mosaic import mosaic_cells, mosaic_path
from s2sr_core.composites.tags import Tags
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Lattice, Window
from s2sr_core.outputs.indices import update_composite_index
from s2sr_core.parameters import RunParameters
from s2sr_core.pixels.statistics import COUNT, MEDIAN, Statistic
from s2sr_core.run_context import RunContext
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid

SLOPE = shapely.Polygon([(-149.615, 68.622), (-149.585, 68.622), (-149.605, 68.638)])
GRID = Grid.utm(-149.6, 68.63, 120, zone=5)


@pytest.fixture
def parameters(tmp_path: Path) -> RunParameters:
    rng = np.random.default_rng(4)
    for number in range(3):
        write_scene(tmp_path / "archive", product_name(number), GRID, rng)
    return parameters_for(tmp_path, tmp_path / "archive", [Gridcell("c", SLOPE)], count=True)


def statistics_in(path: Path) -> dict[str, float]:
    """From the file itself: no other file may help."""
    assert not Path(f"{path}.aux.xml").exists()
    with gdal.Open(str(path)) as raster:
        found = raster.GetRasterBand(1).GetMetadata().items()
        return {key: float(value) for key, value in found if key.startswith("STATISTICS_")}


def statistics_of(values: np.ndarray, nodata: float) -> dict[str, float]:
    valid = values[values != nodata].astype(float)
    return {
        "STATISTICS_MINIMUM": valid.min(),
        "STATISTICS_MAXIMUM": valid.max(),
        "STATISTICS_MEAN": valid.mean(),
        "STATISTICS_STDDEV": valid.std(),
        "STATISTICS_VALID_PERCENT": 100 * valid.size / values.size,
    }


def assert_same_statistics(found: dict[str, float], expected: dict[str, float]) -> None:
    """GDAL writes the share of valid pixels with four digits, the others with fourteen."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-3 if "PERCENT" in key else 1e-9), key


def test_composites_and_counts_hold_their_statistics(parameters: RunParameters) -> None:
    run(parameters)
    workspace = Workspace(parameters.work_dir)
    for path, nodata in ((workspace.composite("c", "B04"), -9999), (workspace.count("c", "B04"), 65535)):
        values = pixels(path)
        assert 0.1 < (values != nodata).mean() < 0.9
        assert_same_statistics(statistics_in(path), statistics_of(values, nodata))
    assert (pixels(workspace.count("c", "B04")) == 0).any()  # inside the cell 0 is a value


def test_files_are_the_same_bytes_whichever_engine_computed_them(tmp_path: Path, parameters: RunParameters) -> None:
    found = []
    for engine in ("fast", "reference"):
        chosen = parameters.model_copy(update={"engine": engine, "work_dir": tmp_path / engine})
        run(chosen)
        found.append({path.name: path.read_bytes() for path in chosen.work_dir.rglob("cell_*.tif")})
    assert len(found[0]) == 2
    assert found[0] == found[1]


@pytest.mark.parametrize("statistic", [MEDIAN, COUNT])
@pytest.mark.parametrize("rows", [100, 600, 1700])
def test_statistics_are_those_of_every_pixel(tmp_path: Path, statistic: Statistic, rows: int) -> None:
    """Also in rasters of many blocks, written in any order; and of values so large and so alike that rounding shows."""
    window = Window(10, 20, 530, 20 + rows)
    rng = np.random.default_rng(rows)
    values = (65_000 + rng.integers(0, 500, window.shape)).astype(statistic.dtype)
    values[rng.random(window.shape) < 0.3] = statistic.outside
    raster = ScratchRaster(tmp_path / "scratch.tif", Lattice(0.001, 0.001), window, statistic, "B04")
    parts = list(window.tiles(77, 201))
    for index in rng.permutation(len(parts)):
        part = parts[index]
        x, y = part.offset_in(window)
        raster.write(part, values[y : y + part.height, x : x + part.width])
    raster.finish(tmp_path / "cog.tif", Tags())
    assert np.array_equal(pixels(tmp_path / "cog.tif"), values)
    assert_same_statistics(statistics_in(tmp_path / "cog.tif"), statistics_of(values, statistic.nodata))
    assert [path.name for path in tmp_path.iterdir()] == ["cog.tif"]


@pytest.mark.parametrize("at", [(0, 4), (1, 0), (2, 9)])
def test_statistics_miss_no_single_value(tmp_path: Path, at: tuple[int, int]) -> None:
    window = Window(0, 0, 10, 3)
    values = MEDIAN.filled(window.shape)
    values[at] = 1993.5
    raster = ScratchRaster(tmp_path / "scratch.tif", Lattice(0.001, 0.001), window, MEDIAN, "B04")
    raster.write(window, values)
    raster.finish(tmp_path / "cog.tif", Tags())
    found = statistics_in(tmp_path / "cog.tif")
    assert_same_statistics(found, statistics_of(values, -9999))


def test_without_any_value_there_are_no_statistics(tmp_path: Path) -> None:
    window = Window(0, 0, 30, 40)
    raster = ScratchRaster(tmp_path / "scratch.tif", Lattice(0.001, 0.001), window, MEDIAN, "B04")
    raster.write(window, MEDIAN.filled(window.shape))
    raster.finish(tmp_path / "cog.tif", Tags())
    assert statistics_in(tmp_path / "cog.tif") == {}


def noted(path: Path) -> Path:
    """What QGIS leaves next to a raster that somebody looked at."""
    note = Path(f"{path}.aux.xml")
    note.write_text('<PAMDataset><PAMRasterBand band="1"/></PAMDataset>')
    return note


def test_what_a_gis_wrote_about_a_composite_is_removed_with_it(tmp_path: Path, parameters: RunParameters) -> None:
    workspace = Workspace(parameters.work_dir)
    run(parameters)
    notes = [noted(workspace.composite("c", "B04")), noted(workspace.count("c", "B04"))]
    run(parameters)  # keeps both
    assert all(note.exists() for note in notes)
    run(parameters.model_copy(update={"resampling": "nearest"}))
    assert not any(note.exists() for note in notes)
    notes = [noted(workspace.composite("c", "B04")), noted(workspace.count("c", "B04"))]
    for product in (tmp_path / "archive").iterdir():
        shutil.rmtree(product)
    write_scene(tmp_path / "archive", product_name(), Grid.utm(-148.0, 68.63, 60, zone=5), np.random.default_rng(0))
    assert run(parameters)["c", "B04"].status == "no scene"
    assert list(workspace.cell_folder("c").iterdir()) == []


def test_what_a_gis_wrote_about_a_mosaic_is_removed_with_it(parameters: RunParameters) -> None:
    workspace = Workspace(parameters.work_dir)
    update_composite_index(RunContext(parameters), list(run(parameters).values()))
    mosaic_cells(workspace, parameters)
    note = noted(mosaic_path(workspace, "B04"))
    mosaic_cells(workspace, parameters)
    assert mosaic_path(workspace, "B04").exists()
    assert not note.exists()


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove_raster(tmp_path / "nothing.tif")
