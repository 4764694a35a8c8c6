"""Explanations of single pixels against numpy and PROJ, on noise, where every neighbour has another value."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from osgeo import gdal
from support.independent import CLEAR, RawScene, transformation, warped
from support.scenes import break_tiles, judge, noisy_dn, parameters_for, pixels, product_name, run, write_scene

import s2sr_pipeline
from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError
from s2sr_core.outputs import indices
from s2sr_core.outputs.explain import Explanation, explain
from s2sr_core.outputs.explain_table import as_text
from s2sr_core.outputs.pixel_history import SceneValue
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.run_context import RunContext
from s2sr_core.selection.candidates import Candidate
from s2sr_core.selection.query_manifest import write_query_manifest
from s2sr_core.sources.source import RemoteProduct
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.products import write_product

TR = 0.000179663056824
CELL = Gridcell("c", shapely.box(-149.606, 68.6275, -149.595, 68.6325))
GRID = Grid.utm(-149.6, 68.63, 60, zone=5)


def publish(parameters: RunParameters) -> RunParameters:
    """A run with its tables, as the flow writes them."""
    context, workspace = RunContext(parameters), Workspace(parameters.work_dir)
    run(parameters)
    tables_of(parameters)
    indices.write_run_record(context, {}, [])
    return RunParameters(**json.loads(workspace.run_record.read_text(encoding="utf-8"))["parameters"])


def tables_of(parameters: RunParameters) -> None:
    workspace = Workspace(parameters.work_dir)
    workspace.indices.mkdir(exist_ok=True)
    cells = choose_gridcells(parameters)
    write_gridcells(cells, workspace.selected_gridcells)
    indices.write_scene_index(workspace.scene_index, judge(parameters), parameters.bands)


def dilated(scene: RawScene, value: int, metres: float) -> RawScene:
    """Its class ``value`` on every 20 m pixel whose centre is within ``metres`` of one of that class."""
    rows, columns = np.nonzero(scene.scl == value)
    row, column = np.indices(scene.scl.shape)
    near = np.zeros(scene.scl.shape, bool)
    for r, c in zip(rows, columns, strict=True):
        near |= np.hypot(row - r, column - c) * 20 <= metres
    return replace(scene, scl=np.where(near, value, scene.scl))


def position(scene: RawScene, lon: float, lat: float) -> tuple[float, float]:
    """Column and row of a place on a scene."""
    x, y, _ = transformation(scene.crs).TransformPoint(lon, lat)
    x0, dx, _, y0, _, dy = scene.geotransform
    return (x - x0) / dx, (y - y0) / dy


def value_at(scene: RawScene, lon: float, lat: float, resampling: str) -> float | None:
    if resampling == "bilinear":
        value = float(warped(scene, np.array([[lon]]), np.array([[lat]]))[0, 0])
        return None if np.isnan(value) else value
    column, row = (int(np.floor(each)) for each in position(scene, lon, lat))
    if not (0 <= row < scene.dn.shape[0] and 0 <= column < scene.dn.shape[1]):
        return None
    counts = scene.dn[row, column] != 0 and scene.scl[row, column] in CLEAR
    return float(max(int(scene.dn[row, column]) + scene.offset, 0)) if counts else None


def points_of(path: Path, count: int, rng: np.random.Generator) -> list[tuple[int, int, float, float]]:
    """Pixels of a raster: column, row, and a place somewhere inside of each."""
    with gdal.Open(str(path)) as dataset:
        x0, dx, _, y0, _, dy = dataset.GetGeoTransform()
        places = rng.integers(0, (dataset.RasterXSize, dataset.RasterYSize), (count, 2))
    inside = rng.uniform(0.1, 0.9, (count, 2))
    return [
        (int(c), int(r), x0 + (c + u) * dx, y0 + (r + v) * dy) for (c, r), (u, v) in zip(places, inside, strict=True)
    ]


PLACES = {
    "toolik": (-149.6, 68.63, 5, "05WPS"),
    "180": (179.9985, 67.2, 60, "60WXV"),
    "-180": (-179.9985, 69.3, 1, "01WCT"),
}


@pytest.mark.parametrize(
    ("place", "changes"),
    [
        ("toolik", {}),
        ("toolik", {"tap": False}),
        ("toolik", {"resampling": "nearest"}),
        ("toolik", {"engine": "reference", "count": True}),
        ("toolik", {"scl_dilation": {9: 45.0}, "count": True}),
        ("180", {}),
        ("-180", {"tap": False}),
    ],
    ids=str,
)
def test_it_agrees_with_numpy_and_with_the_composite(tmp_path: Path, place: str, changes: dict[str, Any]) -> None:
    lon, lat, zone, tile = PLACES[place]
    rng = np.random.default_rng(7)
    raw: dict[str, RawScene] = {}
    for number, baseline in enumerate(("02.14", "05.09", "03.01")):
        name = product_name(number, tile=tile, baseline=baseline)
        grid = Grid.utm((lon + 0.002 * number + 180) % 360 - 180, lat, 60, zone=zone)
        raw[str(name)] = write_scene(tmp_path / "archive", name, grid, rng)["B04"]
    west, east = (lon - 0.006, min(lon + 0.006, 180)) if lon > 0 or place == "toolik" else (-180, lon + 0.006)
    cell = Gridcell("c", shapely.box(west, lat - 0.003, east, lat + 0.003))
    parameters = publish(parameters_for(tmp_path, tmp_path / "archive", [cell], **changes))
    path = Workspace(parameters.work_dir).composite("c", "B04")
    composite = pixels(path)
    if parameters.scl_dilation:
        raw = {name: dilated(scene, 9, 45.0) for name, scene in raw.items()}

    seen: set[str] = set()
    for column, row, x, y in points_of(path, 4, rng):
        explanation = explain(parameters, x, y)
        assert (explanation.cell_id, explanation.file_column, explanation.file_row) == ("c", column, row)
        (band,) = explanation.bands
        centre = explanation.centre
        assert abs(centre[0] - x) < 0.41 * TR
        assert abs(centre[1] - y) < 0.41 * TR
        expected = {name: value_at(scene, *centre, parameters.resampling) for name, scene in raw.items()}
        for scene in band.scenes:
            value = expected[scene.product]
            seen.add(scene.verdict)
            assert (scene.warped is None) == (value is None)
            assert (scene.verdict == "used") == (value is not None)
            if value is not None and scene.warped is not None:
                assert abs(scene.warped - value) <= 1  # a half rounds either way by the last bit of a weight
            check_source(scene, raw[scene.product], centre)
        assert list(band.values) == sorted(scene.warped for scene in band.scenes if scene.warped is not None)
        assert explanation.is_equal
        statistics = {statistic.name: statistic for statistic in band.statistics}
        assert statistics.keys() == ({"median", "count"} if parameters.count else {"median"})
        median = float(np.median(band.values)) if band.values else None
        assert statistics["median"].computed == median
        assert statistics["median"].composite == median
        assert composite[row, column] == (-9999 if median is None else median)
        if parameters.count:
            assert statistics["count"].composite == len(band.values)
    assert "used" in seen


def check_source(scene: SceneValue, raw: RawScene, centre: tuple[float, float]) -> None:
    """The four neighbours are those around the centre, with what the product holds."""
    column, row = position(raw, *centre)
    if scene.verdict == "outside":
        assert not (0 <= row < raw.dn.shape[0] and 0 <= column < raw.dn.shape[1])
        return
    assert (scene.column, scene.row) == pytest.approx((column, row), abs=1e-5)
    left, top = int(np.floor(column - 0.5)), int(np.floor(row - 0.5))
    assert [(each.column - left, each.row - top) for each in scene.source] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    for each in scene.source:
        if not (0 <= each.row < raw.dn.shape[0] and 0 <= each.column < raw.dn.shape[1]):
            assert (each.dn, each.scl, each.harmonised, each.reason) == (None, None, None, "beyond the images")
            continue
        dn, scl = int(raw.dn[each.row, each.column]), int(raw.scl[each.row, each.column])
        counts = dn != 0 and scl in CLEAR
        assert each.dn == dn
        assert each.harmonised == (max(dn + raw.offset, 0) if counts else None)
        assert (each.reason == "") == counts


# ------------------------------------------------------------------------------------------------------------ verdicts


@pytest.fixture
def flat(tmp_path: Path) -> Callable[..., str]:
    """Write a product of one value and one class into ``archive``, with other pixels here and there."""

    def write(
        number: int = 0, dn: int = 500, scl: int = 4, *, odd: dict[tuple[int, int], int] | None = None, **name: Any
    ) -> str:
        classes = np.full(GRID.shape, scl, np.uint8)
        for (row, column), value in (odd or {}).items():
            classes[row, column] = value
        title = replace(product_name(number), **name)
        write_product(tmp_path / "archive", title, GRID, {"B04": np.full(GRID.shape, dn, np.uint16)}, classes)
        return str(title)

    return write


def at_centre(parameters: RunParameters) -> tuple[Explanation, dict[str, SceneValue]]:
    """The pixel at the middle of :data:`GRID`, and its scenes by product."""
    explanation = explain(parameters, -149.6, 68.63)
    return explanation, {scene.product: scene for scene in explanation.bands[0].scenes}


def verdicts_of(parameters: RunParameters) -> dict[str, tuple[str, str]]:
    return {name: (scene.verdict, scene.reason) for name, scene in at_centre(parameters)[1].items()}


def test_each_verdict_of_an_archive_has_its_reason(tmp_path: Path, flat: Callable[..., str]) -> None:
    seeds = {(row, column): 9 for row in range(26, 34) for column in range(10, 28)}  # two pixels west of the middle
    names = {
        "used": flat(0, dn=1500, baseline="05.09"),
        "by class": flat(1, scl=8),
        "no class": flat(2, scl=12),
        "dilated": flat(3, odd=seeds),
        "nodata": flat(4, dn=0),
        "month": flat(20),
        "twin": flat(5),
        "old": flat(6),
    }
    preferred = flat(5, discriminator=product_name(6).discriminator)
    newer = flat(6, baseline="05.00", discriminator=product_name(9).discriminator)
    (tmp_path / "archive" / "nonsense.SAFE").mkdir()
    parameters = publish(parameters_for(tmp_path, tmp_path / "archive", [CELL], months="7-8", scl_dilation={9: 100.0}))
    found = verdicts_of(parameters)
    assert found == {
        names["used"]: ("used", ""),
        names["by class"]: ("masked", "class 8 (cloud, medium probability)"),
        names["no class"]: ("masked", "12 is not a class"),
        names["dilated"]: ("masked", "dilation of class 9 (cloud, high probability)"),
        names["nodata"]: ("nodata", "DN 0 (no data)"),
        names["month"]: ("not selected", "month 10 not asked for"),
        names["twin"]: ("repeated", f"{preferred} is preferred and covers it"),
        preferred: ("used", ""),
        names["old"]: ("repeated", f"{newer} is preferred and covers it"),
        newer: ("used", ""),
    }
    explanation, scenes = at_centre(parameters)
    assert (scenes[names["used"]].offset, scenes[names["used"]].harmonised) == (-1000, 500)
    assert explanation.bands[0].values == (0, 500, 500)  # 500 − 1000 of the newer one is 0
    assert explanation.bands[0].statistics[0].composite == 500


def test_products_of_other_places_are_not_listed(tmp_path: Path, flat: Callable[..., str]) -> None:
    """Described or not: one that its name rules out is as far away as the others of its tile."""
    here, ruled_out = flat(0), flat(20)
    far = Grid.utm(-147.0, 68.63, 60, zone=6)
    for number in (0, 20):
        write_scene(tmp_path / "archive", product_name(number, tile="06WVS"), far, np.random.default_rng(0))
    parameters = publish(parameters_for(tmp_path, tmp_path / "archive", [CELL], months="7-8"))
    assert verdicts_of(parameters).keys() == {here, ruled_out}


def test_a_scene_of_the_cell_that_ends_before_the_pixel_is_outside(tmp_path: Path, flat: Callable[..., str]) -> None:
    name = flat(0)
    wide = Gridcell("c", shapely.box(-149.65, 68.6275, -149.595, 68.6325))
    parameters = publish(parameters_for(tmp_path, tmp_path / "archive", [wide]))
    explanation = explain(parameters, -149.64, 68.63)
    (scene,) = explanation.bands[0].scenes
    assert (scene.product, scene.verdict, scene.source, scene.warped) == (name, "outside", (), None)
    assert explanation.bands[0].statistics[0].composite is None
    assert explanation.is_equal


def test_downloaded_imagery_with_a_scene_that_is_not_needed(tmp_path: Path, flat: Callable[..., str]) -> None:
    """Of which SCL alone was downloaded, and a twin that was not downloaded at all."""
    used, cloudy = flat(0), flat(1, scl=9)
    twin = replace(product_name(0), discriminator=product_name(-1).discriminator)
    (tmp_path / "run").mkdir()
    shutil.move(tmp_path / "archive", tmp_path / "run" / "imagery_raw")
    for path in (tmp_path / "run" / "imagery_raw" / f"{cloudy}.SAFE").rglob("*_B04_20m.jp2"):
        path.unlink()
    changes = {"source": None, "stage": "composite"}
    parameters = publish(parameters_for(tmp_path, tmp_path, [CELL]).model_copy(update=changes))
    remote = RemoteProduct("id", twin, 1, 0.0, True, shapely.box(-150, 68, -149, 69))
    listed = Candidate(str(twin), remote, "twin", f"{used} is preferred and covers it", name=twin)
    write_query_manifest(Workspace(parameters.work_dir).query_manifest, [listed])
    assert verdicts_of(parameters) == {
        used: ("used", ""),
        str(twin): ("repeated", f"{used} is preferred and covers it"),
        cloudy: ("not needed", "SCL leaves none of its pixels unmasked in the selected gridcells"),
    }
    source = at_centre(parameters)[1][cloudy].source
    assert [(each.dn, each.scl) for each in source] == [(None, 9)] * 4
    moved = tmp_path / "moved"
    (tmp_path / "run").rename(moved)
    assert len(verdicts_of(parameters.model_copy(update={"work_dir": moved}))) == 3, "also where it was moved to"


# ------------------------------------------------------------------------------------------------- which pixel it is


@pytest.mark.parametrize("tap", [True, False])
def test_on_a_shared_edge_it_is_the_cell_that_owns_the_pixel(
    tmp_path: Path, flat: Callable[..., str], tap: bool
) -> None:
    flat()
    edge = -149.6
    cells = [
        Gridcell("west", shapely.box(-149.603, 68.629, edge, 68.631)),
        Gridcell("east", shapely.box(edge, 68.629, -149.597, 68.631)),
    ]
    parameters = publish(parameters_for(tmp_path, tmp_path / "archive", cells, tap=tap))
    column = np.floor(edge / TR)
    owner = ("west" if (column + 0.5) * TR < edge else "east") if tap else "east"
    assert explain(parameters, edge, 68.63).cell_id == owner
    assert explain(parameters, edge - TR, 68.63).cell_id == "west"
    assert explain(parameters, edge + TR, 68.63).cell_id == "east"


def test_180_and_minus_180_are_the_same_place(tmp_path: Path) -> None:
    grid = Grid.utm(-179.9985, 69.3, 60, zone=1)
    write_scene(tmp_path / "archive", product_name(tile="01WCT"), grid, np.random.default_rng(0))
    cell = Gridcell("c", shapely.box(-180, 69.298, -179.997, 69.302))
    parameters = publish(parameters_for(tmp_path, tmp_path / "archive", [cell], tap=False))
    (one, other) = (explain(parameters, x, 69.3) for x in (180.0, -180.0))
    assert (one.file_column, one.bands) == (other.file_column, other.bands) == (0, one.bands)


@pytest.mark.parametrize("tap", [True, False])
def test_in_a_projected_crs_a_point_is_still_a_longitude_and_latitude(tmp_path: Path, tap: bool) -> None:
    write_scene(tmp_path / "archive", product_name(), GRID, np.random.default_rng(8))
    parameters = publish(parameters_for(tmp_path, tmp_path / "archive", [CELL], crs="EPSG:3413", tap=tap))
    explanation = explain(parameters, -149.6, 68.63)
    assert explanation.is_equal
    longitude, latitude = explanation.centre
    assert np.hypot((longitude + 149.6) * np.cos(np.radians(68.63)), latitude - 68.63) * 111_320 < 15  # half a diagonal
    (band,) = explanation.bands
    (statistic,) = band.statistics
    value = pixels(statistic.path)[explanation.file_row, explanation.file_column]
    assert value == (-9999 if statistic.composite is None else statistic.composite)


@pytest.mark.parametrize(
    ("point", "changes", "sentence"),
    [
        ((10.0, 10.0), {}, "explain = '10 10': is outside every selected gridcell; give a point in a cell of "),
        ((200.0, 10.0), {}, "explain = '200 10': is not on the globe; "),
        ((float("nan"), 10.0), {}, "explain = 'nan 10': is not on the globe; "),
        ((-149.6, 68.63), {"bands": ["B11"]}, "bands = 'B11': has no composite in gridcell c; choose from B04."),
    ],
)
def test_what_cannot_be_explained_is_one_sentence(
    tmp_path: Path, flat: Callable[..., str], point: tuple[float, float], changes: dict[str, Any], sentence: str
) -> None:
    flat()
    parameters = publish(parameters_for(tmp_path, tmp_path / "archive", [CELL])).model_copy(update=changes)
    with pytest.raises(InputError) as error:
        explain(parameters, *point)
    assert str(error.value).startswith(sentence)


@pytest.mark.parametrize("table", ["scene_index", "selected_gridcells"])
def test_a_folder_without_its_tables_is_named(tmp_path: Path, flat: Callable[..., str], table: str) -> None:
    flat()
    parameters = publish(parameters_for(tmp_path, tmp_path / "archive", [CELL]))
    path: Path = getattr(Workspace(parameters.work_dir), table)
    path.unlink()
    with pytest.raises(InputError, match=f"has no {path.name}"):
        explain(parameters, -149.6, 68.63)


def test_nothing_in_the_work_folder_is_touched(tmp_path: Path, flat: Callable[..., str]) -> None:
    flat()
    parameters = publish(parameters_for(tmp_path, tmp_path / "archive", [CELL]))
    shutil.rmtree(Workspace(parameters.work_dir).tmp)
    before = {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]}
    explain(parameters, -149.6, 68.63)
    assert {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]} == before


# ------------------------------------------------------------------------------------------------- what is different


def reasons_of(parameters: RunParameters) -> Sequence[str]:
    explanation, _ = at_centre(parameters)
    (statistic,) = explanation.bands[0].statistics
    assert not explanation.is_equal
    assert not statistic.equal
    return statistic.reasons


def test_a_composite_that_was_changed_is_said(tmp_path: Path, flat: Callable[..., str]) -> None:
    flat()
    parameters = publish(parameters_for(tmp_path, tmp_path / "archive", [CELL]))
    path = Workspace(parameters.work_dir).composite("c", "B04")
    with (
        gdal.config_option("GDAL_PAM_ENABLED", "NO"),
        gdal.OpenEx(str(path), gdal.OF_UPDATE, open_options=["IGNORE_COG_LAYOUT_BREAK=YES"]) as dataset,
    ):
        dataset.GetRasterBand(1).WriteArray(dataset.ReadAsArray() + 1)
    assert reasons_of(parameters) == ("the file is not the one that its record describes (changed); see --verify",)
    text = as_text(at_centre(parameters)[0])
    assert f"median      500, but the composite's pixel in {path.name} is 501" in text
    Workspace(parameters.work_dir).record("c", "B04").unlink()
    assert reasons_of(parameters) == ("the composite has no record that can be read",)


@pytest.mark.parametrize("check_files", ["once", "never"])
def test_an_image_that_changed_after_its_composite_is_said(
    tmp_path: Path, flat: Callable[..., str], check_files: str
) -> None:
    """With the manifest that it had; compared with that, it is not used, and if it is not, its pixels are others."""
    flat(0, dn=100)
    changed = flat(1, dn=300)
    parameters = publish(parameters_for(tmp_path, tmp_path / "archive", [CELL], check_files=check_files))
    folder = tmp_path / "archive" / f"{changed}.SAFE"
    manifest = (folder / "manifest.safe").read_bytes()
    (image,) = folder.rglob("*_B04_20m.jp2")
    size = image.stat().st_size
    flat(1, dn=900)
    resized = manifest.replace(f'"{size}"'.encode(), f'"{image.stat().st_size}"'.encode())
    (folder / "manifest.safe").write_bytes(resized)  # whose size would tell before
    (reason,) = reasons_of(parameters)
    if check_files == "once":
        assert reason.startswith(f"{changed} was used, and now: failed ({image.name} has not the MD5")
    else:
        assert reason == f"{image.name} of {changed} is not what its manifest says: it was changed"


def test_a_product_that_the_composite_was_made_without_is_said(tmp_path: Path, flat: Callable[..., str]) -> None:
    """Its image could not be decoded, and can be now: the composite is still that of the others."""
    flat(0, dn=100)
    broken = flat(1, dn=300)
    archive = tmp_path / "archive"
    (image,) = (archive / f"{broken}.SAFE").rglob("*_B04_20m.jp2")
    content = image.read_bytes()
    break_tiles(image, 0)
    parameters = publish(parameters_for(tmp_path, archive, [CELL], check_files="never"))
    for whole in (False, True):
        if whole:
            image.write_bytes(content)
        assert at_centre(parameters)[0].is_equal
        verdict, reason, *_ = verdicts_of(parameters)[broken]
        assert verdict == "failed"
        assert reason.startswith(f"{image.name} cannot be decoded")


def test_a_product_that_is_gone_or_new_is_said(tmp_path: Path, flat: Callable[..., str]) -> None:
    flat(0, dn=100)
    gone = flat(1, dn=300)
    parameters = publish(parameters_for(tmp_path, tmp_path / "archive", [CELL]))
    (tmp_path / "archive" / f"{gone}.SAFE").rename(tmp_path / "elsewhere")
    (reason,) = reasons_of(parameters)
    assert reason.startswith(f"{gone} was used, and now: failed (cannot be read: ")
    assert verdicts_of(parameters)[gone][0] == "failed"
    new = flat(2, dn=900)
    tables_of(parameters)
    assert set(reasons_of(parameters)) == {
        f"{gone} was used, and is not in the tables of the last run",
        f"{new} was not used, and is there now",
    }


def test_other_parameters_are_said(tmp_path: Path, flat: Callable[..., str]) -> None:
    """The composites are of an earlier run; the last one masked vegetation and did not get to write them."""
    flat(0)
    parameters = publish(parameters_for(tmp_path, tmp_path / "archive", [CELL]))
    other = parameters.model_copy(update={"scl_mask": [*range(5), *range(7, 12)]})
    (reason,) = reasons_of(other)
    assert reason == (
        "the composite was made with another mask: it was rule scl, classes 0 1 2 3 7 8 9 10 11, "
        "and is rule scl, classes 0 1 2 3 4 7 8 9 10 11"
    )
    (reason,) = reasons_of(parameters.model_copy(update={"tr": (0.0002, 0.0002)}))
    assert reason.startswith("the composite was made with another lattice: it was tap True, dx 0.000179663056824, ")


def test_it_is_plain_json(tmp_path: Path, flat: Callable[..., str]) -> None:
    name = flat(0, dn=700)
    parameters = publish(parameters_for(tmp_path, tmp_path / "archive", [CELL], count=True))
    explanation, _ = at_centre(parameters)
    told = json.loads(json.dumps(explanation.as_json(), allow_nan=False))
    (band,) = told["bands"]
    (scene,) = band["scenes"]
    assert (told["cell_id"], band["band"], band["values"], scene["product"]) == ("c", "B04", [700], name)
    assert [each["dn"] for each in scene["source"]] == [700] * 4
    assert [(each["name"], each["computed"], each["composite"], each["equal"]) for each in band["statistics"]] == [
        ("median", 700.0, 700.0, True),
        ("count", 1.0, 1.0, True),
    ]
    assert band["statistics"][0]["path"] == str(Workspace(parameters.work_dir).composite("c", "B04"))
    lines = as_text(explanation).splitlines()
    assert f"[{name}]" in lines[4]
    assert lines[4].split()[:12] == ["2019-07-01T21:45:29Z", "02.14", "0", *["700"] * 4, *["4"] * 4, "700"]
    assert lines[5:] == [
        "values      700",
        "median      700, equal to the composite's pixel in cell_c_B04_median_clip.tif",
        "count       1, equal to the composite's pixel in cell_c_B04_count_clip.tif",
    ]


def test_each_period_with_a_composite_is_explained_by_its_own_products(
    tmp_path: Path, flat: Callable[..., str]
) -> None:
    """Of 1 and 26 July and of 5 August; June has none."""
    names = [flat(number, dn=dn) for number, dn in ((0, 600), (5, 700), (7, 900))]
    window = {"start": "2019-06-01", "end": "2019-09-01", "every": "month"}
    parameters = publish(parameters_for(tmp_path, tmp_path / "archive", [CELL], **window))
    explanation, _ = at_centre(parameters)
    july, august = explanation.bands
    assert [(band.period, band.band, band.values) for band in (july, august)] == [
        ("2019-07", "B04", (600, 700)),
        ("2019-08", "B04", (900,)),
    ]
    assert [scene.product for scene in july.scenes] == names[:2]
    assert explanation.is_equal
    assert july.statistics[0].path == Workspace(parameters.work_dir).composite("c", "B04", period="2019-07")
    headings = [line for line in as_text(explanation).splitlines() if line.endswith(" B04")]
    assert headings == ["2019-07 B04", "2019-08 B04"]
    with pytest.raises(InputError, match="has no composite in gridcell c; choose from B04"):
        explain(parameters.model_copy(update={"bands": ["B11"]}), -149.6, 68.63)


def test_the_command_ends_in_0_if_all_is_equal_and_in_1_if_not(
    tmp_path: Path, flat: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the parameters of the folder's record, and neither Prefect nor Dask."""
    flat(0, dn=700)
    parameters = publish(parameters_for(tmp_path, tmp_path / "archive", [CELL]))
    (tmp_path / "cells.csv").unlink()  # the cells are in the folder's own table

    def command(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["s2sr-pipeline", "--explain", "-149.6", "68.63", *words])
        for name in ("prefect", "dask", "distributed", "flows", "tasks"):
            monkeypatch.setitem(sys.modules, name, None)
        return s2sr_pipeline.main(), capsys.readouterr().out

    folder = str(parameters.work_dir)
    code, stdout = command("--work-dir", folder)
    assert (code, stdout.splitlines()[-1]) == (
        0,
        "median      700, equal to the composite's pixel in cell_c_B04_median_clip.tif",
    )
    code, stdout = command("--work-dir", folder, "--json", "--bands", "B04")
    assert (code, json.loads(stdout)["bands"][0]["values"]) == (0, [700])
    (tmp_path / "archive").rename(tmp_path / "elsewhere")
    (tmp_path / "archive").mkdir()
    code, stdout = command("--work-dir", folder)
    assert (code, stdout.splitlines()[-3:-1]) == (
        1,
        ["values      none", "median      -, but the composite's pixel in cell_c_B04_median_clip.tif is 700"],
    )
    assert command("--work-dir", folder, "--source", str(tmp_path / "elsewhere"))[0] == 0


def test_noise_is_as_hard_as_can_be() -> None:
    """Of what the tests above draw, no two neighbours agree often."""
    dn = noisy_dn(np.random.default_rng(0), (60, 60))
    assert (dn[1:] == dn[:-1]).mean() < 0.01
