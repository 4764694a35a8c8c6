from __future__ import annotations

import math
import pickle
import random
from fractions import Fraction

import numpy as np
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st

from s2sr_core.cells.gridcells import Gridcell, make_gridcells, select_gridcells
from s2sr_core.errors import InputError
from s2sr_core.geo import geometry
from s2sr_core.geo.lattice import Bounds


def ids(cells: list[Gridcell]) -> list[str]:
    return [cell.cell_id for cell in cells]


# ------------------------------------------------------------------------------------------------------------ make

#: Cell sizes that divide 180°, as exact fractions.
sizes = st.integers(2, 1800).map(lambda count: Fraction(180, count))


@st.composite
def places_in_boxes(draw: st.DrawFn) -> tuple[Fraction, Bounds, tuple[float, float]]:
    """A cell size, a box at most some 25 cells wide and high, and a place inside it."""
    size = draw(sizes)
    width, height = (min(float(size) * draw(st.floats(0.01, 25)), limit) for limit in (350.0, 170.0))
    xmin = draw(st.floats(-180, 180 - width))
    ymin = draw(st.floats(-90, 90 - height))
    box = (xmin, ymin, xmin + width, ymin + height)
    assume(xmin < box[2] <= 180 and ymin < box[3] <= 90)
    return size, box, (draw(st.floats(box[0], box[2])), draw(st.floats(box[1], box[3])))


@given(places_in_boxes())
def test_each_place_lies_in_exactly_one_cell_and_that_is_named_by_whole_fractions(
    case: tuple[Fraction, Bounds, tuple[float, float]],
) -> None:
    """Row and column by exact arithmetic on the place's own binary fractions."""
    size, box, (x, y) = case
    column, row = (Fraction(x) + 180) / size, (Fraction(y) + 90) / size
    # Edges are decimals of ten places: a place that near to one may fall on either side.
    assume(all(abs(value - round(value)) * size > Fraction(1, 10**9) for value in (column, row)))
    holding = [
        cell
        for cell in make_gridcells(box, float(size))
        if cell.bounds[0] <= x < cell.bounds[2] and cell.bounds[1] <= y < cell.bounds[3]
    ]
    assert ids(holding) == [f"r{math.floor(row):04d}c{math.floor(column):04d}"]


@given(places_in_boxes())
def test_cells_cover_the_box_and_each_shares_area_with_it(case: tuple[Fraction, Bounds, object]) -> None:
    size, box, _ = case
    cells = make_gridcells(box, float(size))
    for cell in cells:
        xmin, ymin, xmax, ymax = cell.bounds
        assert min(xmax, box[2]) > max(xmin, box[0])
        assert min(ymax, box[3]) > max(ymin, box[1])
    assert min(cell.bounds[0] for cell in cells) <= box[0]
    assert min(cell.bounds[1] for cell in cells) <= box[1]
    assert max(cell.bounds[2] for cell in cells) >= box[2]
    assert max(cell.bounds[3] for cell in cells) >= box[3]
    columns, rows = ({cell.cell_id[i : i + 5] for cell in cells} for i in (5, 0))
    assert len(cells) == len(set(ids(cells))) == len(columns) * len(rows)


@given(places_in_boxes(), st.data())
def test_a_cell_is_the_same_whatever_box_was_asked(
    case: tuple[Fraction, Bounds, tuple[float, float]], data: st.DataObject
) -> None:
    size, box, (x, y) = case
    other = (data.draw(st.floats(box[0], x)), data.draw(st.floats(box[1], y)), box[2], box[3])
    assume(other[0] < other[2] and other[1] < other[3])
    cells = {cell.cell_id: cell.polygon.wkb for cell in make_gridcells(box, float(size))}
    for cell in make_gridcells(other, float(size)):
        assert cells[cell.cell_id] == cell.polygon.wkb


@given(places_in_boxes())
def test_edges_are_the_whole_fractions_to_ten_decimals(case: tuple[Fraction, Bounds, object]) -> None:
    size, box, _ = case
    for cell in make_gridcells(box, float(size)):
        row, column = (int(number) for number in cell.cell_id[1:].split("c"))
        exact = (size * column - 180, size * row - 90, size * (column + 1) - 180, size * (row + 1) - 90)
        for edge, fraction in zip(cell.bounds, exact, strict=True):
            assert abs(Fraction(edge) - fraction) <= Fraction(51, 10**12)
            assert edge == float(f"{edge:.10f}")


@given(places_in_boxes())
def test_neighbours_share_their_edges_to_the_bit(case: tuple[Fraction, Bounds, object]) -> None:
    size, box, _ = case
    by_place = {
        (int(cell.cell_id[1:].split("c")[0]), int(cell.cell_id.split("c")[1])): cell.bounds
        for cell in make_gridcells(box, float(size))
    }
    for (row, column), bounds in by_place.items():
        if (east := by_place.get((row, column + 1))) is not None:
            assert (bounds[2], bounds[1], bounds[3]) == (east[0], east[1], east[3])
        if (north := by_place.get((row + 1, column))) is not None:
            assert (bounds[3], bounds[0], bounds[2]) == (north[1], north[0], north[2])


@given(st.sampled_from([Fraction(1, 10), Fraction(1, 4), Fraction(3, 10), Fraction(1, 20)]), st.data())
def test_a_box_on_the_edges_of_cells_gets_those_inside_and_no_neighbour(size: Fraction, data: st.DataObject) -> None:
    """Edges as a user types them: 0.1° cells and a box that begins at −149.9."""
    column = data.draw(st.integers(0, int(360 / size) - 4))
    row = data.draw(st.integers(0, int(180 / size) - 3))
    xmin, xmax = (float(f"{float(size * i - 180):.10g}") for i in (column, column + 3))
    ymin, ymax = (float(f"{float(size * i - 90):.10g}") for i in (row, row + 2))
    expected = {f"r{r:04d}c{c:04d}" for r in (row, row + 1) for c in (column, column + 1, column + 2)}
    assert set(ids(make_gridcells((xmin, ymin, xmax, ymax), float(size)))) == expected


def test_the_quarter_degree_cell_of_toolik_lake() -> None:
    """(−149.6 + 180) / 0.25 = 121.6 and (68.63 + 90) / 0.25 = 634.52: column 121, row 634."""
    [cell] = make_gridcells((-149.61, 68.62, -149.6, 68.63), 0.25)
    assert cell.cell_id == "r0634c0121"
    assert cell.bounds == (-149.75, 68.5, -149.5, 68.75)
    assert cell.polygon.equals(shapely.box(-149.75, 68.5, -149.5, 68.75))


def test_the_corners_of_the_globe_have_cells() -> None:
    cells = make_gridcells((-180, -90, 180, 90), 30.0)
    assert len(cells) == 12 * 6
    assert (cells[0].cell_id, cells[0].bounds) == ("r0000c0000", (-180, -90, -150, -60))
    assert (cells[-1].cell_id, cells[-1].bounds) == ("r0005c0011", (150, 60, 180, 90))
    assert sum(cell.polygon.area for cell in cells) == 360 * 180


def test_a_box_across_the_antimeridian_gets_the_cells_on_both_sides_and_none_between() -> None:
    cells = make_gridcells((179.5, 70, -179.75, 70.25), 0.25)
    assert [cell.bounds for cell in cells] == [
        (179.5, 70, 179.75, 70.25),
        (179.75, 70, 180, 70.25),
        (-180, 70, -179.75, 70.25),
    ]


def test_a_box_that_ends_on_the_antimeridian_gets_one_side() -> None:
    assert [cell.bounds[0] for cell in make_gridcells((179.75, 70, -180, 70.25), 0.25)] == [179.75]
    assert [cell.bounds[0] for cell in make_gridcells((180, 70, -179.75, 70.25), 0.25)] == [-180]


def test_a_wrapped_box_that_nearly_goes_round_has_each_cell_once() -> None:
    cells = make_gridcells((5, 0, 4, 10), 10.0)
    assert sorted(ids(cells)) == [f"r0009c{column:04d}" for column in range(36)]


@pytest.mark.parametrize("size", [0.7, 0.0011, 50.0, 0.2500001, 400.0])
def test_a_size_that_leaves_a_rest_is_refused(size: float) -> None:
    with pytest.raises(InputError, match=rf"^cell_size = '{size}': does not divide 180° into whole cells; use one"):
        make_gridcells((0, 0, 1, 1), size)


def test_a_grid_too_large_for_memory_is_refused_before_it_is_made() -> None:
    with pytest.raises(InputError, match=r"^cell_size = '0.001': gives 64800000000 cells in this bbox, more than"):
        make_gridcells((-180, -90, 180, 90), 0.001)


def test_within_keeps_the_cells_that_share_area_with_it() -> None:
    """A triangle over the lower left half of 2 × 2 cells: the upper right one it only touches."""
    triangle = shapely.Polygon([(0, 0), (2, 0), (0, 2)])
    assert [cell.bounds[:2] for cell in make_gridcells((0, 0, 2, 2), 1.0, triangle)] == [(0, 0), (1, 0), (0, 1)]


def test_a_cell_is_a_value() -> None:
    one, other = (Gridcell("a", shapely.box(0, 0, 1, 2)) for _ in range(2))
    assert one == other
    assert len({one, other}) == 1
    assert pickle.loads(pickle.dumps(one)) == one
    assert one.bounds == (0, 0, 1, 2)


# ---------------------------------------------------------------------------------------------------------- select


def test_sharing_an_edge_or_a_corner_is_not_sharing_area() -> None:
    cells = make_gridcells((0, 0, 3, 3), 1.0)
    inner = select_gridcells(cells, shapely.box(1, 1, 2, 2))
    assert [cell.bounds for cell in inner] == [(1, 1, 2, 2)]
    more = select_gridcells(cells, shapely.box(1, 1, 2 + 1e-9, 2))
    assert [cell.bounds[:2] for cell in more] == [(1, 1), (2, 1)]


def test_a_polygon_is_selected_by_its_own_shape_not_by_its_bounds() -> None:
    """The lower left half of a square; the box lies in the upper right one."""
    cell = Gridcell("half", shapely.Polygon([(0, 0), (4, 0), (0, 4)]))
    assert select_gridcells([cell], shapely.box(3, 3, 4, 4)) == []
    assert select_gridcells([cell], shapely.box(1, 1, 4, 4)) == [cell]


corners = st.tuples(st.integers(0, 6), st.integers(0, 6))


@given(st.lists(corners, min_size=3, max_size=7), st.sampled_from([1.0, 2.0, 1.5]))
def test_selection_is_by_interiors_that_meet(ring: list[tuple[int, int]], size: float) -> None:
    """Against the nine intersections of geometries: interiors that share an area ("2********"). Corners on the
    edges of cells make every kind of touching."""
    area = geometry.polygonal(shapely.make_valid(shapely.Polygon(ring)))
    cells = make_gridcells((0, 0, 6, 6), size)
    expected = [cell for cell in cells if shapely.relate_pattern(cell.polygon, area, "2********")]
    assert select_gridcells(cells, area) == expected


def test_a_long_coast_selects_the_cells_that_it_passes_or_encloses() -> None:
    """A disc of radius 8 with 200,000 corners, held against the distance of each cell's nearest point."""
    turn = np.linspace(0, 2 * np.pi, 200_000, endpoint=False)
    coast = shapely.Polygon(np.column_stack([100 + 8 * np.cos(turn), 70 + 8 * np.sin(turn)]))
    cells = make_gridcells((85, 60, 115, 80), 0.2)
    expected = []
    for cell in cells:
        xmin, ymin, xmax, ymax = cell.bounds
        nearest = math.hypot(max(xmin - 100, 100 - xmax, 0), max(ymin - 70, 70 - ymax, 0))
        assert abs(nearest - 8) > 1e-8 or abs(nearest - 8) < 1e-12  # by more than the polygon's error, or a tangent
        if nearest < 8 - 1e-8:
            expected.append(cell.cell_id)
    assert ids(select_gridcells(cells, coast)) == expected


def test_the_order_of_the_file_is_kept() -> None:
    cells = make_gridcells((0, 0, 5, 5), 1.0)
    random.Random(1).shuffle(cells)
    assert select_gridcells(cells, shapely.box(-1, -1, 9, 9)) == cells


@given(
    st.floats(-180, 180), st.floats(-180, 180), st.floats(-90, 89), st.floats(0.01, 1).map(lambda height: height * 1.0)
)
def test_a_box_selects_the_cells_that_overlap_one_of_its_sides(
    xmin: float, xmax: float, ymin: float, height: float
) -> None:
    """Also where xmin > xmax: then the overlap is with xmin … 180 or −180 … xmax."""
    assume(xmin != xmax and (xmin, xmax) != (180, -180))
    ymax = min(ymin + height * 10, 90.0)
    cells = make_gridcells((-180, -90, 180, 90), 15.0)
    spans = [(xmin, xmax)] if xmin < xmax else [(xmin, 180.0), (-180.0, xmax)]
    expected = [
        cell.cell_id
        for cell in cells
        if min(cell.bounds[3], ymax) > max(cell.bounds[1], ymin)
        and any(min(cell.bounds[2], east) > max(cell.bounds[0], west) for west, east in spans)
    ]
    # An overlap of less than a double's precision has no area.
    assume(all(abs(edge - value) > 1e-6 for edge in range(-180, 181, 15) for value in (xmin, xmax, ymin, ymax)))
    assert ids(select_gridcells(cells, geometry.box((xmin, ymin, xmax, ymax)))) == expected


def test_no_cell_selects_none() -> None:
    assert select_gridcells([], shapely.box(0, 0, 1, 1)) == []
