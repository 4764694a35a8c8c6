from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from support.scenes import parameters_for, prepare, product_name, write_scene
from support.trees import OLD, content_of, image_path, write_tree

from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell, make_gridcells
from s2sr_core.errors import InputError
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.parameters import RunParameters
from s2sr_core.periods import Period, periods_of
from s2sr_core.planning.plan import (
    bytes_of_bands,
    bytes_of_copies,
    bytes_to_read,
    choose_gridcells,
    plan,
    share_of_tiles,
)
from s2sr_core.planning.units import (
    DOWNLOADS,
    SCL_DOWNLOADS,
    composite_units,
    download_unit,
    most_units,
    scene_unit,
    shares,
)
from s2sr_core.products.bands import BANDS
from s2sr_core.products.safe import Product, band_files, read_product
from s2sr_core.products.tiles import extent_of, outline_of
from s2sr_core.scenes.occupancy import nearby_pixels
from s2sr_core.scenes.scene import Scene
from s2sr_core.selection.observations import Contender
from s2sr_core.sources.archive import Archive
from s2sr_core.sources.source import RemoteProduct
from s2sr_sandbox.grid import Grid

#: The most task runs of a flow run that design.md allows, over its phases and the handful of other tasks.
MOST_TASK_RUNS = 1000
#: Units carry their source along; none is asked for anything.
ANYWHERE = Archive(Path())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A real one, to be told of other cells by ``replace``."""
    folder = tmp_path_factory.mktemp("scene")
    write_scene(folder / "archive", product_name(), Grid.utm(-149.6, 68.63, 64), np.random.default_rng(0))
    cell = Gridcell("a", shapely.box(-149.61, 68.625, -149.59, 68.635))
    [preparation] = prepare(parameters_for(folder, folder / "archive", [cell]))
    assert preparation.scene is not None
    return preparation.scene


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Product:
    return read_product(write_tree(tmp_path_factory.mktemp("product"), bands=()))


def cells_named(count: int) -> list[Gridcell]:
    return [Gridcell(f"c{number:05d}", shapely.box(0, 0, 1, 1)) for number in range(count)]


# ---------------------------------------------------------------------------------------------------------- phase 2


def months(count: int) -> tuple[Period, ...]:
    """So many periods, from June 2019 on."""
    return periods_of("month", datetime(2019, 6, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))[:count]


@given(st.integers(1, 1200), st.integers(1, 9), st.integers(1, 340), st.just(1) | st.integers(1, 300))
def test_each_composite_is_in_one_unit_and_there_is_work_for_all_workers(
    cells: int, bands: int, workers: int, periods: int
) -> None:
    assume(cells * periods <= 2000)
    named, asked, cut = cells_named(cells), BANDS[:bands], months(periods)
    units = composite_units(named, [], asked, workers, cut)
    made = Counter(
        (cell.cell_id, period, band)
        for unit in units
        for cell, _ in unit.cells
        for period in unit.periods
        for band in unit.bands
    )
    assert made == {(cell.cell_id, period, band): 1 for cell in named for period in cut for band in asked}
    # Shares are even, so of many workers a few can be left without a unit: 25 of 340 at most, for 5 cells of 9 bands.
    assert min(cells * bands * periods, workers * 9 // 10) <= len(units) <= 350
    for sizes in ([len(unit.cells) for unit in units], [len(unit.periods) for unit in units]):
        assert max(sizes) - min(sizes) <= 1
    assert len({unit.title for unit in units}) == len(units)


def test_one_cell_and_ten_ranks_keep_nine_busy() -> None:
    units = composite_units(cells_named(1), [], BANDS, 10)
    assert [unit.bands for unit in units] == [(band,) for band in BANDS]


def test_many_cells_keep_their_bands_together() -> None:
    """A scene's SCL and coordinates serve all its bands."""
    units = composite_units(cells_named(100), [], BANDS, 4)
    assert {unit.bands for unit in units} == {BANDS}
    assert len(units) == 100


def test_neighbours_stay_together_in_the_order_of_the_file() -> None:
    cells = cells_named(1000)
    units = composite_units(cells, [], ["B04"], 4)
    assert [cell for unit in units for cell, _ in unit.cells] == cells


def test_a_cell_travels_with_its_own_scenes_in_their_order(scene: Scene) -> None:
    cells = cells_named(3)
    one, two = (replace(scene, cells=ids) for ids in (("c00000", "c00002"), ("c00002",)))
    units = composite_units(cells, [one, two], ["B04"], 1)
    assert {cell.cell_id: scenes for unit in units for cell, scenes in unit.cells} == {
        "c00000": (one,),
        "c00001": (),
        "c00002": (one, two),
    }


def test_titles_say_what_a_unit_covers() -> None:
    assert [unit.title for unit in composite_units(cells_named(1), [], ["B02", "B8A"], 1)] == [
        "cell c00000 B02",
        "cell c00000 B8A",
    ]
    units = composite_units(cells_named(750), [], ["B02", "B8A"], 1)
    assert units[1].title == "cells 4-6 of 750 (c00003 … c00005) B02 B8A"
    assert len({unit.title for unit in units}) == len(units)
    units = composite_units(cells_named(2), [], ["B02"], 1, months(200))
    assert units[-1].title == "cell c00001 2035-12 … 2036-01 B02"


@pytest.mark.parametrize(
    ("cells", "periods", "units", "size"),
    [
        (1, 8, 8, (1, 1)),
        (1, 300, 250, (1, 2)),
        (20, 8, 160, (1, 1)),
        (1000, 8, 248, (33, 1)),
        (1000, 300, 240, (63, 20)),
    ],
)
def test_many_periods_are_as_few_task_runs_as_one(cells: int, periods: int, units: int, size: tuple[int, int]) -> None:
    made = composite_units(cells_named(cells), [], BANDS, 4, months(periods))
    assert (len(made), max((len(unit.cells), len(unit.periods)) for unit in made)) == (units, size)


def test_one_period_comes_after_the_other_and_each_travels_with_its_scenes(scene: Scene) -> None:
    """The scene is of 1 July 2019; it is told of another time by ``replace``."""
    name = replace(scene.product.name, sensing_time=datetime(2019, 8, 31, 23, 59, 59, tzinfo=UTC))
    july = replace(scene, cells=("c00001",))
    august = replace(july, product=replace(scene.product, name=name))
    units = composite_units(cells_named(2), [august, july], ["B04"], 1, months(3))
    assert [(unit.periods[0].label, cell.cell_id, scenes) for unit in units for cell, scenes in unit.cells] == [
        ("2019-06", "c00000", ()),
        ("2019-06", "c00001", ()),
        ("2019-07", "c00000", ()),
        ("2019-07", "c00001", (july,)),
        ("2019-08", "c00000", ()),
        ("2019-08", "c00001", (august,)),
    ]


# ---------------------------------------------------------------------------------------------------------- phase 1


@pytest.mark.parametrize(
    ("count", "workers", "units"), [(0, 4, 0), (1, 4, 1), (250, 4, 250), (251, 4, 250), (9000, 4, 250)]
)
def test_each_observation_is_in_one_unit(count: int, workers: int, units: int) -> None:
    made = shares(range(count), most_units(workers))
    assert len(made) == units
    assert [number for share in made for number in share] == list(range(count))
    assert max(map(len, made), default=0) - min(map(len, made), default=0) <= 1


@given(st.integers(0, 2000), st.integers(1, 1024))
def test_downloads_and_both_phases_together_keep_within_the_task_runs_of_a_flow(count: int, workers: int) -> None:
    first = shares(range(count), most_units(workers))
    composites = composite_units(cells_named(count + 1), [], BANDS, workers)
    assert len(first) + len(composites) < MOST_TASK_RUNS - 40
    scl = shares(range(count), SCL_DOWNLOADS)
    bands = [shares(share, DOWNLOADS // SCL_DOWNLOADS) for share in scl]
    assert [number for some in bands for share in some for number in share] == list(range(count))
    # A look for each unit of SCL, and phase 1 for each of bands.
    assert 2 * len(scl) + 2 * sum(map(len, bands)) + len(composites) < MOST_TASK_RUNS - 40
    assert 2 * len(shares(range(count), DOWNLOADS)) + len(composites) < MOST_TASK_RUNS - 40


def test_units_say_what_they_hold(tmp_path: Path) -> None:
    near = Gridcell("near", shapely.box(-149.5, 68.6, -149.4, 68.7))
    product = read_product(write_tree(tmp_path, bands=()))
    there, spare = Contender(OLD, None, product), Contender("spare", None)
    assert scene_unit([((there, spare), (near,))]).title == f"scene {OLD}"
    assert scene_unit([((there,), (near,)), ((there,), ())]).title == f"scene {OLD} and 1 more"
    assert download_unit(ANYWHERE, [product], ()).title == f"SCL of product {OLD}"
    assert download_unit(ANYWHERE, [product] * 3, BANDS).title == f"product {OLD} and 2 more"


# ------------------------------------------------------------------------------------------------------- gridcells


def run_parameters(tmp_path: Path, **changes: Any) -> RunParameters:
    cells = make_gridcells((-150, 68.5, -149, 69), 0.25)
    write_gridcells(cells, tmp_path / "cells.csv")
    (tmp_path / "archive").mkdir(exist_ok=True)
    defaults: dict[str, Any] = {
        "bbox": (-149.9, 68.6, -149.6, 68.7),
        "grid_csv": tmp_path / "cells.csv",
        "start": "2015-01-01",
        "end": "2030-01-01",
        "source": tmp_path / "archive",
        "work_dir": tmp_path / "run",
        "bands": ["B02", "B8A"],
    }
    return RunParameters(**(defaults | changes))


def test_the_cells_of_a_run_share_area_with_its_box(tmp_path: Path) -> None:
    """Two columns of the lower row; with a box that only touches a cell's edge, one."""
    ids = [cell.cell_id for cell in choose_gridcells(run_parameters(tmp_path))]
    assert ids == ["r0634c0120", "r0634c0121"]
    touching = run_parameters(tmp_path, bbox=(-150, 68.5, -149.75, 68.75))
    assert [cell.cell_id for cell in choose_gridcells(touching)] == ["r0634c0120"]


def test_a_box_beside_every_cell_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        choose_gridcells(run_parameters(tmp_path, bbox=(10, 60, 11, 61)))
    assert caught.value.field == "bbox"
    assert caught.value.problem == f"meets no gridcell of {tmp_path / 'cells.csv'}"
    assert str(caught.value).startswith("bbox = '10.0 60.0 11.0 61.0': meets no gridcell of ")


# --------------------------------------------------------------------------------------------------------- plan


def test_a_plan_counts_cells_products_bytes_and_units_and_writes_nothing(tmp_path: Path) -> None:
    """Three products of which one is a twin and one has no name; bytes of B02, B8A and SCL by their contents."""
    for name in (OLD, OLD.replace("001122", "001123")):
        write_tree(tmp_path / "archive", name)
    (tmp_path / "archive" / "garbage.SAFE").mkdir()
    parameters = run_parameters(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    lines = dict(re.findall(r"^(\w+(?: \w+)?) {2,}(.*)$", plan(parameters, 4).text, re.MULTILINE))
    assert lines["gridcells"] == "2"
    assert lines["products"] == "1 of 3 found (1 failed, 1 twin)"
    assert lines["to read"] == "0.0 MB of B02 B8A and SCL"
    assert lines["decoded"].startswith("at most ")
    assert lines["composites"] == "4"
    assert lines["units"] == "1 of phase 1, 4 of phase 2, on 4 workers"
    assert sorted(tmp_path.rglob("*")) == before
    yearly = plan(run_parameters(tmp_path, every="year"), 4).text
    assert "composites  60 in 15 periods (2015 … 2029)" in yearly
    products = [read_product(tmp_path / "archive" / f"{OLD}.SAFE")]
    assert bytes_to_read(products, parameters.bands) == sum(len(content_of(band)) for band in ("B02", "B8A", "SCL"))


@dataclass(frozen=True)
class Footprint:
    """As much of a product as the size of copies depends on."""

    name: str
    footprint: shapely.Polygon | None
    cloud_cover: float | None = None


def test_decoded_copies_are_as_large_as_the_cells_near_a_product_and_no_larger_than_a_granule() -> None:
    """A cell of 1° by 0.1° at 60° N is 55.66 km by 11.132 km: 2783 by 556.6 pixels of 20 m."""
    cells = [Gridcell(str(x), shapely.box(x, 59.95, x + 1, 60.05)) for x in range(4)]
    one, all_of_them = Footprint("one", shapely.box(1.48, 59.99, 1.52, 60.01)), Footprint("all", None)
    cell = 2783 * 556.6
    assert bytes_of_copies([one], cells, ["B02"]) == pytest.approx(2 * cell, rel=1e-3)
    assert bytes_of_copies([one, all_of_them], cells, ["B02", "B03"]) == pytest.approx(4 * 5 * cell, rel=1e-3)
    assert bytes_of_copies([all_of_them], cells * 10, ["B02"]) == 2 * 5490**2


def test_files_that_are_missing_or_not_whole_are_not_counted(tmp_path: Path) -> None:
    path = write_tree(tmp_path)
    (path / image_path(OLD, "B02")).unlink()
    (path / image_path(OLD, "B03")).write_bytes(b"cut")
    product = read_product(path)
    assert bytes_to_read([product], ["B02", "B03", "B04"]) == len(content_of("B04")) + len(content_of("SCL"))


def test_a_plan_reads_no_image(tmp_path: Path) -> None:
    """Without a manifest a run hashes them; a plan does not: by the kernel's count of bytes that this process read."""

    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])  # rchar

    path = write_tree(tmp_path, manifest=None, bands=("SCL",))
    size = 50_000_000
    os.truncate(path / image_path(OLD, "SCL"), size)
    product = read_product(path)
    before = bytes_read()
    assert bytes_to_read([product], []) == size
    planned = bytes_read()
    assert band_files(product, ("SCL",))["SCL"].size == size
    assert planned - before < size / 10 < size <= bytes_read() - planned


CELL = Gridcell("a", shapely.box(-149.75, 68.5, -149.5, 68.75))


@pytest.mark.parametrize(("resolution", "side"), [(20, 640), (10, 1024)])
@pytest.mark.parametrize("tile", ["05WPS", "06WUB"])
def test_the_tiles_near_cells_are_those_that_hold_a_pixel_near_one(tile: str, resolution: int, side: int) -> None:
    """By another road: every pixel of the granule, then the tiles that have one."""
    extent, size = extent_of(tile), 109_800 // resolution
    geotransform = (extent.west, resolution, 0.0, extent.north, 0.0, -resolution)
    near = nearby_pixels((CELL,), outline_of(tile), RasterGrid(f"EPSG:{extent.epsg}", geotransform, (size, size)), 4)
    pixels = np.zeros((size, size), bool)
    window = near.window
    pixels[window.y0 : window.y1, window.x0 : window.x1] = near.pixels
    tiles = [pixels[y : y + side, x : x + side] for y in range(0, size, side) for x in range(0, size, side)]
    expected = sum(each.size for each in tiles if each.any()) / size**2
    assert 0.01 < expected < 0.3
    assert share_of_tiles(tile, [CELL], resolution) == pytest.approx(expected)


def test_bytes_are_those_of_whole_images_and_of_tiles_twice_if_images_do_not_list_them() -> None:
    names = [product_name(n, tile="05WPS", baseline=baseline) for n, baseline in enumerate(("05.12", "05.11", "05.12"))]
    products = [RemoteProduct("", name, 0, None, online=True, footprint=None) for name in names]
    whole, ranges = bytes_of_bands(products, [CELL])
    share = share_of_tiles("05WPS", [CELL])
    assert (whole, ranges) == pytest.approx((3 * 28e6, 4 * share * 28e6))
    everywhere = Gridcell("all", shapely.box(-153, 67, -144, 70))
    assert bytes_of_bands(products, [everywhere]) == pytest.approx((3 * 28e6, 3 * 28e6))


def test_a_manifest_that_points_outside_does_not_stop_a_plan(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "archive")
    text = (path / "manifest.safe").read_text()
    (path / "manifest.safe").write_text(text.replace("./GRANULE", "../GRANULE", 1))
    assert bytes_to_read([read_product(path)], ["B04"]) == 0
    assert "1 of 1 found" in plan(run_parameters(tmp_path), 2).text


def test_a_plan_of_an_empty_archive_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^source = '.*': holds no \.SAFE product; give the folder that holds them"):
        plan(run_parameters(tmp_path), 2)
