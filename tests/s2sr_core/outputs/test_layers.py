from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from support.rasters import SIZE, write_raster

from s2sr_core.errors import InputError
from s2sr_core.geo.lattice import Window
from s2sr_core.outputs.layers import composite_files, open_layers
from s2sr_core.outputs.time_axis import time_axis
from s2sr_core.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Cell ``b_1`` lies to the east of cell ``a`` and one row further south."""
    folder = Workspace(tmp_path)
    write_raster(folder.composite("a", "B04"), 40, 8, [[1, 2], [3, -9999]], -9999)
    write_raster(folder.composite("b_1", "B04"), 42, 9, [[5, 6], [7, 8]], -9999)
    write_raster(folder.composite("a", "B04", "count"), 40, 8, [[3, 2], [1, 0]], 65535)
    return folder


def test_cells_lie_side_by_side_and_nodata_is_nan(workspace: Workspace) -> None:
    opened = open_layers(workspace)
    assert (opened.periods, sorted(opened.layers)) == (("",), ["B04", "B04_count"])
    nan = np.nan
    expected = [[1, 2, nan, nan], [3, nan, 5, 6], [nan, nan, 7, 8]]
    layer = opened.layers["B04"]
    assert layer.shape == (1, 3, 4)
    assert np.array_equal(layer.read(0, Window(0, 0, 4, 3)), expected, equal_nan=True)
    assert np.array_equal(layer.read(0, Window(1, 1, 3, 3)), [[nan, 5], [nan, 7]], equal_nan=True)
    count = opened.layers["B04_count"].read(0, Window(0, 0, 4, 3))
    assert np.array_equal(count, [[3, 2, nan, nan], [1, 0, nan, nan], [nan] * 4], equal_nan=True), "0 is a value"
    assert opened.frame.x().tolist() == [10.125, 10.375, 10.625, 10.875]
    assert opened.frame.y().tolist() == [87.875, 87.625, 87.375]
    assert opened.frame.is_geographic


def test_names_are_taken_apart_by_their_folders(workspace: Workspace) -> None:
    """An id may hold ``_``; what is not a composite is left out."""
    shutil.copyfile(workspace.composite("a", "B04"), workspace.composites / "a" / "cell_a_B04_copy.tif")
    yearly = workspace.composites / "b_1" / "2019-06" / "cell_b_1_2019-06_B11_max_2_clip.tif"
    write_raster(yearly, 42, 9, [[1]], -9999)
    found = {
        (name.cell_id, name.period, name.band, name.statistic, name.variable) for _, name in composite_files(workspace)
    }
    assert found == {
        ("a", "", "B04", "median", "B04"),
        ("b_1", "", "B04", "median", "B04"),
        ("a", "", "B04", "count", "B04_count"),
        ("b_1", "2019-06", "B11", "max_2", "B11_max_2"),
    }


def test_periods_are_layers_over_one_another(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for period, value in (("2019", 1), ("2021", 3)):
        write_raster(
            workspace.composites / "a" / period / f"cell_a_{period}_B04_median_clip.tif", 0, 0, [[value]], -9999
        )
    write_raster(workspace.composites / "b" / "2021" / "cell_b_2021_B04_median_clip.tif", 1, 0, [[4]], -9999)
    opened = open_layers(workspace)
    layer, whole = opened.layers["B04"], Window(0, 0, 2, 1)
    assert (opened.periods, layer.shape) == (("2019", "2021"), (2, 1, 2))
    assert np.array_equal(layer.read(0, whole), [[1, np.nan]], equal_nan=True)
    assert layer.read(1, whole).tolist() == [[3, 4]]


def test_cells_and_bands_can_be_chosen(workspace: Workspace) -> None:
    opened = open_layers(workspace, ["b_1"])
    assert (list(opened.layers), opened.frame.shape, opened.frame.left) == (["B04"], (2, 2), 10.5)
    with pytest.raises(InputError, match=r"cells = 'c': have no composite in the folder; choose among a b_1\."):
        open_layers(workspace, ["a", "c"])
    with pytest.raises(InputError, match="bands"):
        open_layers(workspace, bands=["B12"])


@pytest.mark.parametrize(("column", "size"), [(42.4, SIZE), (42, 0.2)])
def test_what_does_not_lie_on_one_lattice_is_refused(workspace: Workspace, column: float, size: float) -> None:
    write_raster(workspace.composite("c", "B04"), column, 9, [[1, 2]], -9999, size)
    with pytest.raises(InputError, match=r"do not share one lattice, among them cell_c_B04_median_clip\.tif"):
        open_layers(workspace)
    assert open_layers(workspace, ["c"]).layers["B04"].read(0, Window(0, 0, 2, 1)).tolist() == [[1, 2]]


def test_a_folder_without_composites_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no composites/"):
        open_layers(Workspace(tmp_path))
    (tmp_path / "composites").mkdir()
    with pytest.raises(InputError, match="holds no composite; give the folder of a run"):
        open_layers(Workspace(tmp_path))


@pytest.mark.parametrize(
    ("label", "begin"),
    [
        ("2019", "2019-01-01"),
        ("2019-07", "2019-07-01"),
        ("2019-07-11", "2019-07-11"),
        ("2020-1-DJF", "2019-12-01"),
        ("2020-2-MAM", "2020-03-01"),
        ("2020-4-SON", "2020-09-01"),
    ],
)
def test_a_period_begins_by_the_calendar(tmp_path: Path, label: str, begin: str) -> None:
    (found,) = time_axis(Workspace(tmp_path), [label])
    assert found == datetime.fromisoformat(begin)


def test_without_periods_the_time_is_the_windows_or_the_first_scenes(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert time_axis(workspace, [""]) == [None]
    workspace.cell_folder("a").mkdir(parents=True)
    names = [f"S2A_MSIL2A_201907{day}T215823_N0500_R072_T06WUB_20230626T020930" for day in ("26", "06")]
    scenes = ", ".join(f'{{"product": "{name}"}}' for name in names)
    workspace.record("a", "B04").write_text(f'{{"inputs": {{"scenes": [{scenes}]}}}}')
    assert [str(time) for time in time_axis(workspace, [""])] == ["2019-07-06 21:58:23"]
    workspace.indices.mkdir()
    workspace.run_record.write_text('{"parameters": {"start": "2019-06-01T00:00:00Z"}}')
    assert [str(time) for time in time_axis(workspace, [""])] == ["2019-06-01 00:00:00"]
