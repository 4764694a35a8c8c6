"""When cells may go: on products of which only name and footprint are known, in a tile far away from the cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely import Polygon
from support.scenes import parameters_for, prepare, product_name, write_scene

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.periods import periods_of
from s2sr_core.planning.schedule import Schedule
from s2sr_core.planning.units import CompositeUnit, cell_groups
from s2sr_core.products.names import ProductName
from s2sr_core.scenes.scene import Scene
from s2sr_core.selection.candidates import Candidate
from s2sr_core.selection.observations import Observation
from s2sr_sandbox.grid import Grid


@dataclass(frozen=True)
class Outlined:
    name: ProductName
    footprint: Polygon | None
    cloud_cover: float | None = None


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A real one, to be told of other cells by ``replace``."""
    folder = tmp_path_factory.mktemp("scene")
    write_scene(folder / "archive", product_name(), Grid.utm(-149.6, 68.63, 64), np.random.default_rng(0))
    cell = Gridcell("a", shapely.box(-149.61, 68.625, -149.59, 68.635))
    [preparation] = prepare(parameters_for(folder, folder / "archive", [cell]))
    assert preparation.scene is not None
    return preparation.scene


def cells_in_a_row(count: int, width: float = 2.0) -> list[Gridcell]:
    """Side by side from 0° E on, at the equator."""
    return [Gridcell(f"c{n}", shapely.box(width * n, 0, width * (n + 1), 1)) for n in range(count)]


def observed(name: ProductName, footprint: Polygon | None) -> Observation:
    """Of one product."""
    described = Outlined(name, footprint)
    return Observation(str(name), (Candidate(str(name), described, "selected", name=name),))


def over(number: int, xmin: float, xmax: float) -> Observation:
    return observed(product_name(number), shapely.box(xmin, 0.2, xmax, 0.8))


def ids(units: list[CompositeUnit]) -> list[str]:
    return [cell.cell_id for unit in units for cell, _ in unit.cells]


def test_cells_go_when_the_last_product_near_them_is_settled(scene: Scene) -> None:
    """Three cells: one product on the first, one across the first and the second, none near the third."""
    one, two = over(1, 0.5, 1.5), over(0, 1.5, 3.5)
    schedule = Schedule(cell_groups(cells_in_a_row(3), ["B04"], 1), [one, two])
    assert ids(schedule.units_ready([])) == ["c2"]
    schedule.settle(one, [replace(scene, cells=("c0",))])
    assert schedule.units_ready([]) == []
    schedule.settle(two)
    first, second = schedule.units_ready([two.key])
    assert (ids([first]), ids([second])) == (["c0"], ["c1"])
    assert [len(scenes) for _, scenes in (*first.cells, *second.cells)] == [1, 0]
    assert first.failed_products == {two.key}
    assert schedule.units_ready([]) == []


def test_products_come_by_the_first_cell_they_are_near_and_one_of_unknown_place_is_near_all() -> None:
    products = [over(0, 4.5, 5.5), over(1, 2.5, 5.5), over(2, 0.5, 1.0), observed(product_name(3), None)]
    schedule = Schedule(cell_groups(cells_in_a_row(3), ["B04"], 1), products)
    assert [each.key for each in schedule.observations] == [str(product_name(number)) for number in (2, 3, 1, 0)]
    assert [cell.cell_id for cell in schedule.cells_near(products[3])] == ["c0", "c1", "c2"]


def test_on_both_sides_of_the_antimeridian() -> None:
    cells = [Gridcell("east", shapely.box(178, 0, 180, 1)), Gridcell("west", shapely.box(-180, 0, -178, 1))]
    across = observed(product_name(), shapely.union_all([shapely.box(179, 0, 180, 1), shapely.box(-180, 0, -179, 1)]))
    schedule = Schedule(cell_groups(cells, ["B04"], 1), [across])
    assert schedule.units_ready([]) == []
    schedule.settle(across)
    assert ids(schedule.units_ready([])) == ["east", "west"]


def test_a_period_goes_while_products_of_another_are_awaited(scene: Scene) -> None:
    """Products of 1 and 31 July near one cell, one of 10 August near both, and one of September, which is not asked."""
    july, late, august, september = over(0, 0.5, 1.5), over(6, 0.5, 1.5), over(8, 0.5, 3.5), over(14, 0.5, 1.5)
    periods = periods_of("month", datetime(2019, 6, 1, tzinfo=UTC), datetime(2019, 9, 1, tzinfo=UTC))
    groups = cell_groups(cells_in_a_row(2), ["B04"], 1, periods)
    schedule = Schedule(groups, [september, august, late, july])
    assert schedule.observations[:3] == [july, late, august]

    def gone() -> list[tuple[str, str, int]]:
        units = schedule.units_ready([])
        return [(unit.periods[0].label, cell.cell_id, len(scenes)) for unit in units for cell, scenes in unit.cells]

    assert gone() == [("2019-06", "c0", 0), ("2019-06", "c1", 0), ("2019-07", "c1", 0)]
    schedule.settle(july, [replace(scene, cells=("c0",))])
    schedule.settle(september, [])
    assert gone() == []
    schedule.settle(late)
    assert gone() == [("2019-07", "c0", 1)]
    schedule.settle(august, [replace(scene, cells=("c0",))])  # the scene itself is of July
    assert gone() == [("2019-08", "c0", 0), ("2019-08", "c1", 0)]


@given(st.lists(st.tuples(st.floats(0, 18), st.floats(0.1, 6)), max_size=12), st.integers(1, 12), st.integers())
def test_each_cell_goes_once_and_never_before_a_product_that_meets_it(
    spans: list[tuple[float, float]], count: int, seed: int
) -> None:
    cells = cells_in_a_row(count)
    products = [over(number, x, x + width) for number, (x, width) in enumerate(spans)]
    schedule = Schedule(cell_groups(cells, ["B04", "B11"], 4), products)
    gone = set(ids(schedule.units_ready([])))
    order = np.random.default_rng(abs(seed)).permutation(len(products)).tolist()
    for place, number in enumerate(order):
        schedule.settle(products[number])
        awaited = shapely.union_all([outline for later in order[place + 1 :] for outline in products[later].footprints])
        came = set(ids(schedule.units_ready([])))
        assert not came & gone
        gone |= came
        assert not [cell for cell in cells if cell.cell_id in gone and cell.polygon.intersects(awaited)]
    assert gone == {cell.cell_id for cell in cells}


def test_a_lot_of_products_over_a_lot_of_cells_make_few_groups() -> None:
    cells = cells_in_a_row(1500, 0.1)
    products = [over(number, number / 10, number / 10 + 1) for number in range(1000)]
    groups = cell_groups(cells, ["B04"], 2)
    assert len(groups) == 250
    schedule = Schedule(groups, products)
    assert len(schedule.observations) == 1000
