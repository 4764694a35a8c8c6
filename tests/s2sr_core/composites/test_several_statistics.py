"""Several statistics and layers of one run: files, pixels, records, re-runs, and the same pixels from both engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from support.scenes import FIRST, parameters_for, pixels, product_name, run, write_scene
from support.statistics import statistic

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.mosaic import mosaic_cells
from s2sr_core.composites.verify import verify
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.outputs.indices import update_composite_index
from s2sr_core.pixels.observations import jointly_valid
from s2sr_core.run_context import RunContext
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid

TR = 1 / 4096  # sums of it are exact
BANDS = ("B04", "B11")
BOX = (-600_000 * TR, 280_000 * TR - 30 * TR, -600_000 * TR + 40 * TR, 280_000 * TR)
GRID = Grid("EPSG:4326", (BOX[0], TR, 0.0, BOX[3], 0.0, -TR), (30, 40))
EVERYTHING: dict[str, Any] = {
    "statistic": ["median", "percentile:25", "mean", "medoid", "geomedian"],
    "layers": ["count", "mad", "iqr", "doy", "first", "last"],
}
CELLS = [Gridcell("c", shapely.box(*BOX))]


def values_of(scene: Any) -> np.ndarray:
    """Harmonised DN as a stack has them: the lattice's own pixels, so that warping changes nothing."""
    values = np.maximum(scene.dn.astype(int) + scene.offset, 0)
    return np.where((scene.dn > 0) & np.isin(scene.scl, (4, 5, 6)), values, 65535).astype(np.uint16)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """Five scenes, written in another order than that of their dates; the stack of each band, by date."""
    folder, rng = tmp_path_factory.mktemp("archive"), np.random.default_rng(3)
    stacks: dict[str, list[np.ndarray]] = {band: [] for band in BANDS}
    for number, mission in enumerate(("S2B", "S2A", "S2C", "S2A", "S2B")):
        name = product_name(number, tile="06WWA", baseline=("02.14", "05.09")[number % 2], mission=mission)
        scenes = write_scene(folder, name, GRID, rng, BANDS)
        for band in BANDS:
            stacks[band].append(values_of(scenes[band]))
    return folder, {band: np.stack(layers) for band, layers in stacks.items()}


def parameters_of(tmp_path: Path, source: Path, **changes: Any) -> Any:
    return parameters_for(tmp_path, source, CELLS, tr=(TR, TR), bands=list(BANDS), **changes)


def rasters_in(work_dir: Path) -> dict[str, np.ndarray]:
    return {path.name: pixels(path) for path in sorted(Workspace(work_dir).composites.rglob("*.tif"))}


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_every_statistic_and_layer_is_that_of_the_values(
    tmp_path: Path, archive: tuple[Path, dict[str, np.ndarray]], engine: str
) -> None:
    source, stacks = archive
    outcomes = run(parameters_of(tmp_path, source, engine=engine, **EVERYTHING))
    found = rasters_in(tmp_path / "run")
    days = [(FIRST.date().toordinal() - 719163) + 5 * number for number in range(5)]
    joint = jointly_valid([stacks[band] for band in BANDS])
    names = ("median", "p25", "mean", "count", "mad", "iqr", "doy", "first", "last", "medoid", "geomedian")
    assert set(found) == {f"cell_c_{band}_{name}_clip.tif" for band in BANDS for name in names}
    for place, band in enumerate(BANDS):
        for name in names[:9]:
            assert np.array_equal(found[f"cell_c_{band}_{name}_clip.tif"], statistic(name, stacks[band], days)), name
        for name in names[9:]:
            assert np.array_equal(found[f"cell_c_{band}_{name}_clip.tif"], statistic(name, joint)[place]), name
        outcome = outcomes["c", band]
        assert (outcome.status, outcome.valid) == ("written", (stacks[band] != 65535).any(axis=0).sum())
    path = outcomes["c", "B04"].path
    assert path is not None
    assert path.name == "cell_c_B04_median_clip.tif"
    raster = gdal.Open(str(path.with_name("cell_c_B04_first_clip.tif")))
    layer = raster.GetRasterBand(1)
    assert layer.GetDescription() == "B04 date of the first valid value, days since 1970-01-01"
    assert (layer.GetUnitType(), layer.GetNoDataValue()) == ("days since 1970-01-01", 65535)


def test_both_engines_give_the_same_in_two_zones_with_tiles_that_overlap(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for number in range(4):
        grid = Grid.utm(-149.6 + 0.002 * (number % 2), 68.63, 90, zone=5 + number % 2)
        name = product_name(number // 2, tile=("05WPS", "06WUB")[number % 2])
        write_scene(tmp_path / "archive", name, grid, rng, BANDS)
    cells = [Gridcell("c", shapely.box(-149.64, 68.61, -149.58, 68.635))]
    found = {}
    for engine in ("fast", "reference"):
        changes = {"engine": engine, "work_dir": tmp_path / engine, "group_by": "datatake", "min_count": 2}
        run(parameters_for(tmp_path, tmp_path / "archive", cells, bands=list(BANDS), **changes, **EVERYTHING))
        found[engine] = rasters_in(tmp_path / engine)
    assert len(found["fast"]) == 22
    for name, raster in found["reference"].items():
        assert np.array_equal(raster, found["fast"][name]), name
    counts = found["fast"]["cell_c_B04_count_clip.tif"]
    assert counts[counts != 65535].max() == 2
    assert ((found["fast"]["cell_c_B04_median_clip.tif"] != -9999) == (counts == 2)).all()


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_tiles_of_one_pass_count_once_and_the_first_by_name_is_used(tmp_path: Path, engine: str) -> None:
    rng, stacks = np.random.default_rng(9), []
    for tile in ("06WWA", "05WQS"):
        name = product_name(0, tile=tile)
        stacks.append(values_of(write_scene(tmp_path / "archive", name, GRID, rng, BANDS)["B04"]))
    other = product_name(1, tile="06WWA")
    third = values_of(write_scene(tmp_path / "archive", other, GRID, rng, BANDS)["B04"])
    last, first = stacks
    for group_by, expected in (
        ("granule", np.stack([first, last, third])),
        ("datatake", np.stack([np.where(first != 65535, first, last), third])),
    ):
        changes = {"engine": engine, "group_by": group_by, "work_dir": tmp_path / group_by}
        run(parameters_of(tmp_path, tmp_path / "archive", layers=["count"], **changes))
        found = rasters_in(tmp_path / group_by)
        assert np.array_equal(found["cell_c_B04_count_clip.tif"], statistic("count", expected))
        assert np.array_equal(found["cell_c_B04_median_clip.tif"], statistic("median", expected))
        assert statistic("count", expected).max() == len(expected)


def test_median_and_count_need_no_other_path_for_a_least_count(
    tmp_path: Path, archive: tuple[Path, dict[str, np.ndarray]]
) -> None:
    source, stacks = archive
    outcomes = run(parameters_of(tmp_path, source, count=True, min_count=4))
    found, counts = rasters_in(tmp_path / "run"), statistic("count", stacks["B04"])
    expected = np.where(counts >= 4, statistic("median", stacks["B04"]), -9999)
    assert np.array_equal(found["cell_c_B04_median_clip.tif"], expected)
    assert np.array_equal(found["cell_c_B04_count_clip.tif"], counts)
    assert outcomes["c", "B04"].valid == (counts >= 4).sum() > 0


def test_reruns_compute_again_what_other_parameters_make_and_leave_no_file_without_a_record(
    tmp_path: Path, archive: tuple[Path, dict[str, np.ndarray]]
) -> None:
    source, _ = archive

    def again(**changes: Any) -> list[str]:
        parameters = parameters_of(tmp_path, source, **changes)
        outcomes = run(parameters)
        update_composite_index(RunContext(parameters), list(outcomes.values()))
        assert not verify(Workspace(parameters.work_dir)).findings
        return [outcome.status for outcome in outcomes.values()]

    workspace = Workspace(tmp_path / "run")
    both, written, kept = {"statistic": ["median", "percentile:25"]}, ["written"] * 2, ["kept"] * 2
    assert again(**both) == written
    assert again(**both) == kept
    assert again() == kept  # the median is there, and up to date
    assert again(min_count=2, **both) == written
    assert again(min_count=2, group_by="datatake", **both) == written
    record = json.loads(workspace.record("c", "B04").read_text())
    assert (record["inputs"]["min_count"], record["inputs"]["group_by"]) == (2, "datatake")
    assert set(record["files"]) == {"cell_c_B04_median_clip.tif", "cell_c_B04_p25_clip.tif"}
    # Another composite, which takes the file over; the median stays as it is.
    assert again(statistic=["percentile:25"]) == written
    assert set(json.loads(workspace.record("c", "B04").read_text())["files"]) == {"cell_c_B04_median_clip.tif"}
    assert set(json.loads(workspace.record("c", "B04", "p25").read_text())["files"]) == {"cell_c_B04_p25_clip.tif"}
    assert again(**both) == written
    assert not workspace.record("c", "B04", "p25").exists()


def test_joint_statistics_depend_on_the_bands_of_the_run(
    tmp_path: Path, archive: tuple[Path, dict[str, np.ndarray]]
) -> None:
    parameters = parameters_of(tmp_path, archive[0], statistic=["medoid"])
    assert [outcome.status for outcome in run(parameters).values()] == ["written"] * 2
    workspace = Workspace(parameters.work_dir)
    inputs = json.loads(workspace.record("c", "B04", "medoid").read_text())["inputs"]
    assert list(inputs["joint"]) == ["B11"]
    assert len(inputs["joint"]["B11"]) == 5
    workspace.composite("c", "B11", "medoid").unlink()
    before = workspace.composite("c", "B04", "medoid").stat().st_mtime_ns
    assert [outcome.status for outcome in run(parameters).values()] == ["kept", "written"]
    assert workspace.composite("c", "B04", "medoid").stat().st_mtime_ns == before
    update_composite_index(RunContext(parameters), list(run(parameters).values()))
    made = [path.name for path in mosaic_cells(workspace, parameters)]
    assert made == ["mosaic_B04_medoid.vrt", "mosaic_B11_medoid.vrt"]
    assert workspace.composite_index.read_text().count("_medoid_clip.tif") == 2
