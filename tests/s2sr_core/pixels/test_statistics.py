"""One more statistic, from this module alone: both engines compute it, and its name stands wherever a name does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from support.scenes import parameters_for, pixels, product_name, run, write_scene

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.parameters import EngineName
from s2sr_core.pixels import statistics
from s2sr_core.pixels.observations import Observations
from s2sr_core.pixels.statistics import COUNT, MEDIAN, Statistic, register, statistic_of
from s2sr_core.run_context import RunContext
from s2sr_sandbox.grid import Grid

TR = 1 / 4096  # sums of it are exact
BOX = (-600_000 * TR, 280_000 * TR - 90 * TR, -600_000 * TR + 120 * TR, 280_000 * TR)


def largest(observations: Observations) -> np.ndarray:
    return np.where(observations.valid, observations.values, 0).max(axis=0)


MAXIMUM = Statistic("maximum", np.uint16, largest, nodata=65535, empty=65535)


class WithMaximum(RunContext):
    """A run that asks for the maximum, and with it for median and count."""

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        return (MAXIMUM, MEDIAN, COUNT)


class MaximumAlone(RunContext):
    @property
    def statistics(self) -> tuple[Statistic, ...]:
        return (MAXIMUM,)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_STATISTICS", dict(statistics._STATISTICS))
    register(MAXIMUM)


@pytest.fixture
def layers(tmp_path: Path) -> np.ndarray:
    """Five scenes on the lattice's own pixels, where warping is the identity: harmonised DN, NaN where masked."""
    rng, layers = np.random.default_rng(3), []
    for number, baseline in enumerate(("02.14", "05.09", "04.00", "03.01", "05.11")):
        grid = Grid("EPSG:4326", (BOX[0], TR, 0.0, BOX[3], 0.0, -TR), (90, 120))
        scene = write_scene(tmp_path / "archive", product_name(number, tile="06WWA", baseline=baseline), grid, rng)[
            "B04"
        ]
        values = np.maximum(scene.dn.astype(float) + scene.offset, 0)
        layers.append(np.where((scene.dn > 0) & np.isin(scene.scl, (4, 5, 6)), values, np.nan))
    return np.stack(layers)


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("sloping", [False, True])
def test_a_maximum_is_numpys(tmp_path: Path, layers: np.ndarray, engine: EngineName, sloping: bool) -> None:
    xmin, ymin, xmax, ymax = BOX
    polygon = shapely.Polygon([(xmin, ymin), (xmax, ymin), (xmin, ymax)]) if sloping else shapely.box(*BOX)
    cells = [Gridcell("c", polygon)]
    parameters = parameters_for(tmp_path, tmp_path / "archive", cells, tr=(TR, TR), engine=engine)
    context = WithMaximum(parameters, rank=1)
    outcome = run(parameters, context)["c", "B04"]
    folder = context.workspace.cell_folder("c")
    assert sorted(path.name for path in folder.iterdir()) == [
        "cell_c_B04_count_clip.tif",
        "cell_c_B04_maximum_clip.json",
        "cell_c_B04_maximum_clip.tif",
        "cell_c_B04_median_clip.tif",
    ]
    assert outcome.path == folder / "cell_c_B04_maximum_clip.tif"

    x, y = np.meshgrid(xmin + (np.arange(120) + 0.5) * TR, ymax - (np.arange(90) + 0.5) * TR)
    inside = shapely.contains_xy(polygon, x, y)  # no centre lies on the slope: 120 columns to 90 rows
    valid = ~np.isnan(layers).all(axis=0) & inside
    expected = np.full(valid.shape, 65535)
    expected[valid] = np.nanmax(layers[:, valid], axis=0)
    found = pixels(outcome.path)
    assert found.dtype == np.uint16
    assert np.array_equal(found, expected)
    assert (outcome.owned, outcome.valid) == (inside.sum(), valid.sum())
    median = np.full(valid.shape, -9999.0)
    median[valid] = np.nanmedian(layers[:, valid], axis=0)
    assert np.array_equal(pixels(context.workspace.composite("c", "B04")), median)
    count = np.where(inside, (~np.isnan(layers)).sum(axis=0), 65535)
    assert np.array_equal(pixels(context.workspace.count("c", "B04")), count)


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_its_name_stands_in_descriptions_vrts_and_records(
    tmp_path: Path, layers: np.ndarray, engine: EngineName
) -> None:
    cells = [Gridcell("c", shapely.box(*BOX))]
    parameters = parameters_for(tmp_path, tmp_path / "archive", cells, tr=(TR, TR), engine=engine)
    context = MaximumAlone(parameters, rank=1)
    path = run(parameters, context)["c", "B04"].path
    raster = gdal.Open(str(path))
    band = raster.GetRasterBand(1)
    assert (band.GetDescription(), band.GetNoDataValue()) == ("B04 maximum", 65535)
    record = json.loads(context.workspace.record("c", "B04", "maximum").read_text())
    assert record["inputs"]["statistic"] == "maximum"
    vrts = {path.name: path.read_text() for path in context.workspace.vrts(1).glob("c_B04_*.vrt")}
    assert any('statistic="maximum"' in text for text in vrts.values()), vrts
    assert run(parameters, context)["c", "B04"].status == "kept"
    assert run(parameters)["c", "B04"].status == "written"  # the median is another composite, in files of its own
    assert path is not None
    assert path.exists()
    assert run(parameters, context)["c", "B04"].status == "kept"


def test_both_engines_give_the_same_maximum(tmp_path: Path) -> None:
    """On another grid, in two zones, with a cell that reaches beyond all of them."""
    rng = np.random.default_rng(5)
    for number in range(3):
        grid = Grid.utm(-149.6 + 0.004 * number, 68.63, 150, zone=5 + number % 2)
        write_scene(tmp_path / "archive", product_name(number), grid, rng)
    cells = [Gridcell("c", shapely.box(-149.66, 68.60, -149.58, 68.635))]
    found = {}
    for name in ("fast", "reference"):
        parameters = parameters_for(tmp_path, tmp_path / "archive", cells, engine=name, work_dir=tmp_path / name)
        found[name] = pixels(run(parameters, WithMaximum(parameters, 1))["c", "B04"].path)
    assert 0.05 < (found["reference"] != 65535).mean() < 0.95
    assert np.array_equal(found["fast"], found["reference"])


@pytest.mark.parametrize("name", ["", "Max", "a-b", "../x", "9th", "a b"])
def test_a_name_that_files_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a statistic"):
        register(Statistic(name, np.uint16, largest))


def test_two_statistics_cannot_share_a_name() -> None:
    assert statistic_of("maximum") is register(MAXIMUM)
    with pytest.raises(ValueError, match="already is a statistic 'median'"):
        register(Statistic("median", np.uint16, largest))
