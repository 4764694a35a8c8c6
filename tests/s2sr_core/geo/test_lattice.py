from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from s2sr_core.geo.lattice import Lattice, Window

sizes = st.floats(1e-5, 1.0)
longitudes = st.floats(-180, 180)
latitudes = st.floats(-90, 90)


def test_edges_are_multiples_of_the_pixel_size_and_centres_lie_between() -> None:
    lattice = Lattice(0.25, 0.5)
    assert [lattice.x_edge(column) for column in (-2, 0, 3)] == [-0.5, 0.0, 0.75]
    assert [lattice.y_edge(row) for row in (-2, 0, 3)] == [1.0, 0.0, -1.5]
    assert (lattice.x_centre(3), lattice.y_centre(-2)) == (0.875, 0.75)


def test_a_window_of_the_lattice_has_the_geotransform_of_its_north_west_corner() -> None:
    assert Lattice(0.25, 0.5).geotransform(Window(3, -2, 9, 9)) == (0.75, 0.25, 0.0, 1.0, 0.0, -0.5)
    assert Lattice(0.25, 0.5, -0.1, 0.2).geotransform(Window(0, 0, 1, 1)) == (-0.1, 0.25, 0.0, 0.2, 0.0, -0.5)


def test_centres_on_the_west_and_south_edges_are_in_and_on_the_east_and_north_edges_out() -> None:
    lattice = Lattice(1.0, 1.0)
    window = lattice.owned((0.5, 10.5, 2.5, 12.5))
    assert [lattice.x_centre(column) for column in range(window.x0, window.x1)] == [0.5, 1.5]
    assert [lattice.y_centre(row) for row in range(window.y0, window.y1)] == [11.5, 10.5]


@given(sizes, sizes, longitudes, latitudes, st.floats(1e-6, 3.0), st.floats(1e-6, 3.0))
def test_owned_pixels_are_those_whose_centre_is_inside_half_open(
    dx: float, dy: float, xmin: float, ymin: float, width: float, height: float
) -> None:
    lattice, xmax, ymax = Lattice(dx, dy), xmin + width, ymin + height
    window = lattice.owned((xmin, ymin, xmax, ymax))
    assert lattice.x_centre(window.x0 - 1) < xmin <= lattice.x_centre(window.x0)
    assert lattice.x_centre(window.x1 - 1) < xmax <= lattice.x_centre(window.x1)
    assert lattice.y_centre(window.y0) < ymax <= lattice.y_centre(window.y0 - 1)
    assert lattice.y_centre(window.y1) < ymin <= lattice.y_centre(window.y1 - 1)


@given(sizes, st.lists(longitudes, min_size=3, max_size=6, unique=True))
def test_neighbouring_intervals_share_no_column_and_leave_none_out(size: float, cuts: list[float]) -> None:
    lattice, cuts = Lattice(size, size), sorted(cuts)
    windows = [lattice.owned((west, 0.0, east, 1.0)) for west, east in itertools.pairwise(cuts)]
    for left, right in itertools.pairwise(windows):
        assert left.x1 == right.x0


@given(sizes, longitudes, latitudes, st.floats(1e-6, 3.0), st.floats(1e-6, 3.0))
def test_covering_pixels_cover(size: float, xmin: float, ymin: float, width: float, height: float) -> None:
    lattice = Lattice(size, size)
    window = lattice.covering((xmin, ymin, xmin + width, ymin + height))
    # Of pixels: an edge that lies on the lattice to within rounding needs no further pixel.
    slack, pixel = Fraction(1, 10**8), Fraction(size)
    assert (window.x0 - slack) * pixel <= Fraction(xmin)
    assert (window.x1 + slack) * pixel >= Fraction(xmin + width)
    assert -(window.y1 + slack) * pixel <= Fraction(ymin)
    assert -(window.y0 - slack) * pixel >= Fraction(ymin + height)


def test_at_the_antimeridian_the_two_sides_are_out_of_phase_and_neither_owns_the_rest() -> None:
    lattice = Lattice(0.000179663056824, 0.000179663056824)
    east, west = lattice.owned((179.75, 68.0, 180.0, 68.25)), lattice.owned((-180.0, 68.0, -179.75, 68.25))
    assert lattice.x_centre(east.x1 - 1) < 180.0 < lattice.x_centre(east.x1)
    assert lattice.x_centre(west.x0 - 1) < -180.0 < lattice.x_centre(west.x0)
    # 180 / tr = 1001875.417…: the part pixel of 0.417 holds no centre on either side.
    assert (east.x1, west.x0) == (1001875, -1001875)


def test_tiles_cut_a_window_once_and_wholly() -> None:
    window = Window(-5, 3, 12, 20)
    seen = np.zeros(window.shape, int)
    for tile in window.tiles(4, 7):
        x, y = tile.offset_in(window)
        assert 0 < tile.height <= 4
        assert 0 < tile.width <= 7
        seen[y : y + tile.height, x : x + tile.width] += 1
    assert (seen == 1).all()


def test_the_pixels_of_two_windows_that_do_not_meet_are_none() -> None:
    assert not Window(0, 0, 5, 5) & Window(5, 0, 9, 5)
    assert (Window(0, 0, 5, 5) & Window(9, 9, 12, 12)).shape == (0, 0)
    assert Window(0, 0, 5, 6) & Window(2, -3, 9, 4) == Window(2, 0, 5, 4)


@given(sizes, sizes, longitudes, latitudes, longitudes, latitudes)
def test_the_pixel_of_a_point_holds_it_half_open(
    dx: float, dy: float, x_anchor: float, y_anchor: float, x: float, y: float
) -> None:
    for lattice in (Lattice(dx, dy), Lattice(dx, dy, x_anchor, y_anchor)):
        pixel = lattice.pixel_of(x, y)
        assert pixel.shape == (1, 1)
        assert lattice.x_edge(pixel.x0) <= x < lattice.x_edge(pixel.x1)
        assert lattice.y_edge(pixel.y1) <= y < lattice.y_edge(pixel.y0)


def test_on_an_edge_it_is_the_pixel_to_the_east_and_to_the_north() -> None:
    lattice = Lattice(0.25, 0.5)
    assert lattice.pixel_of(0.75, 1.0) == Window(3, -3, 4, -2)
    assert lattice.pixel_of(-0.25, -0.5) == Window(-1, 0, 0, 1)
