"""Cells on lattices of projected CRS, held against PROJ point by point and shapely."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from osgeo import osr

from s2sr_core.geo.clip import owned_pixels
from s2sr_core.geo.lattice import Lattice, Window
from s2sr_core.geo.projection import extent_in, is_in_area_of_use, problem_of, transformed, window_of

#: Centre of four cells and their size, degrees: inland, on both sides of ±180, around the pole, the south.
PLACES = {
    "toolik": (-149.6, 68.6, 0.25),
    "antimeridian": (180.0, 70.0, 0.25),
    "pole": (30.0, 89.5, 0.5),
    "fifty south": (-70.0, -50.0, 0.25),
}
CRS = {"toolik": "EPSG:32606", "antimeridian": "EPSG:3413", "pole": "EPSG:3571", "fifty south": "EPSG:32719"}


def points(crs: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Longitude and latitude of each point, by PROJ through OSR."""
    systems = []
    for text in (crs, "EPSG:4326"):
        system = osr.SpatialReference()
        system.SetFromUserInput(text)
        system.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
        systems.append(system)
    transformation = osr.CoordinateTransformation(*systems)
    return np.array([transformation.TransformPoint(*at)[:2] for at in zip(x.ravel(), y.ravel(), strict=True)])


def four_cells(longitude: float, latitude: float, size: float) -> list[shapely.Polygon]:
    """Two by two cells that share edges; those beyond 180 continue at −180."""
    cells = []
    for west in (longitude - size, longitude):
        west = west - 360.0 if west >= 180.0 else west
        cells += [shapely.box(west, south, west + size, south + size) for south in (latitude - size, latitude)]
    return cells


def owners(cells: list[shapely.Polygon], lattice: Lattice) -> tuple[np.ndarray, Window]:
    """How many cells own each pixel of a window around all of them, each asked in its own window alone."""
    windows = [window_of(lattice, cell) for cell in cells]
    corners = np.array([(w.x0, w.y0, w.x1, w.y1) for w in windows])
    whole = Window(*corners[:, :2].min(axis=0).tolist(), *corners[:, 2:].max(axis=0).tolist())
    count = np.zeros(whole.shape, int)
    for cell, window in zip(cells, windows, strict=True):
        x, y = window.offset_in(whole)
        count[y : y + window.height, x : x + window.width] += owned_pixels(cell, lattice, window)
    return count, whole


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=4, deadline=None)
@given(size=st.floats(300.0, 900.0), anchor=st.tuples(st.floats(-500.0, 500.0), st.floats(-500.0, 500.0)))
def test_each_centre_is_in_exactly_the_cell_that_holds_its_longitude_and_latitude(
    place: str, size: float, anchor: tuple[float, float]
) -> None:
    """Neighbours share no pixel and leave none out, and what they own is what shapely says of centres inside."""
    longitude, latitude, degrees = PLACES[place]
    cells = four_cells(longitude, latitude, degrees)
    lattice = Lattice(size * 4, size * 3, *anchor, crs=CRS[place])
    count, window = owners(cells, lattice)
    assert count.max() == 1
    x, y = np.meshgrid(
        [lattice.x_centre(column) for column in range(window.x0, window.x1)],
        [lattice.y_centre(row) for row in range(window.y0, window.y1)],
    )
    centres = shapely.points(points(lattice.crs, x, y)).reshape(window.shape)
    inside = np.any([shapely.contains_properly(cell, centres) for cell in cells], axis=0)
    near = np.any([shapely.dwithin(cell, centres, 1e-9) for cell in cells], axis=0)
    assert inside.any()
    assert (count[inside] == 1).all()
    assert (count[~near] == 0).all()


@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:3995"], ids=["a diagonal of EPSG:3413", "an axis of EPSG:3995"])
def test_centres_on_the_antimeridian_are_of_the_western_hemisphere(crs: str) -> None:
    """x = −y is the meridian 180 of EPSG:3413, and x = 0 above the pole that of EPSG:3995: centres lie on it."""
    lattice = Lattice(1000.0, 1000.0, *((0.0, 0.0) if crs == "EPSG:3413" else (500.0, 500.0)), crs=crs)
    east, west = shapely.box(175.0, 76.0, 180.0, 80.0), shapely.box(-180.0, 76.0, -175.0, 80.0)
    count, window = owners([east, west], lattice)
    columns, rows = np.meshgrid(np.arange(window.x0, window.x1), np.arange(window.y0, window.y1))
    along = (columns == rows) if crs == "EPSG:3413" else (columns == -1)
    longitude, latitude = transformed(
        crs, "EPSG:4326", lattice.x_anchor + (columns + 0.5) * 1000, lattice.y_anchor - (rows + 0.5) * 1000
    )
    on_edge = along & (np.abs(np.abs(longitude) - 180.0) < 1e-9) & (latitude > 76.01) & (latitude < 79.99)
    assert on_edge.sum() > 250
    assert (count[on_edge] == 1).all()


def test_around_the_pole_every_pixel_has_one_cell() -> None:
    """Eight cells from 89° N to the pole: a disk of 111.7 km, of which the pole itself, a corner, is no centre."""
    cells = [shapely.box(west, 89.0, west + 45.0, 90.0) for west in range(-180, 180, 45)]
    lattice = Lattice(1000.0, 1000.0, crs="EPSG:3413")
    count, window = owners(cells, lattice)
    x, y = np.meshgrid(*(np.arange(a, b) + 0.5 for a, b in ((window.x0, window.x1), (window.y0, window.y1))))
    _, latitude = transformed("EPSG:3413", "EPSG:4326", x * 1000, -y * 1000)
    assert np.array_equal(count == 1, latitude >= 89.0)
    assert count.max() == 1
    assert count.sum() == pytest.approx(np.pi * (111.7 * 0.9707) ** 2, rel=0.02)  # true scale is at 70° N


def test_the_window_of_a_cell_follows_the_bulge_of_its_parallels() -> None:
    """In a polar CRS the arc of a parallel bulges; the corners alone would leave its pixels out."""
    cell, lattice = shapely.box(-60.0, 70.0, -30.0, 72.0), Lattice(5000.0, 5000.0, crs="EPSG:3413")
    corners = [transformed("EPSG:4326", "EPSG:3413", [lon], [70.0])[1][0] for lon in (-60.0, -30.0)]
    bulge = transformed("EPSG:4326", "EPSG:3413", [-45.0], [70.0])[1][0]
    extent = extent_in("EPSG:3413", cell)
    assert bulge < min(corners) - 70_000
    assert extent.bounds[1] == pytest.approx(bulge, abs=0.01)
    assert 0.0 < extent.slack < 0.5
    owned = owned_pixels(cell, lattice, window_of(lattice, cell))
    assert owned[-1].any()
    assert owned[0].any()


def test_points_are_transformed_each_by_itself() -> None:
    """EPSG:3338 is on another datum, for which PROJ knows many operations: which one must not depend on neighbours."""
    x, y = np.meshgrid(np.arange(40) * 50_000.0 - 2e6, np.arange(40) * 50_000.0 + 2e5)
    together = transformed("EPSG:3338", "EPSG:4326", x, y)
    apart = [transformed("EPSG:3338", "EPSG:4326", x[::7, index], y[::7, index]) for index in range(40)]
    for axis in (0, 1):
        assert np.array_equal(together[axis][::7], np.stack([each[axis] for each in apart], axis=1))
    assert [together[0][3, 5], together[1][3, 5]] == points("EPSG:3338", x[3, 5], y[3, 5])[0].tolist()


def test_in_degrees_the_window_is_that_of_the_bounds() -> None:
    cell, lattice = shapely.box(-149.75, 68.5, -149.5, 68.75), Lattice(0.0002, 0.0001)
    assert window_of(lattice, cell) == lattice.owned(cell.bounds)


def test_a_cell_that_the_crs_cannot_show_is_refused() -> None:
    with pytest.raises(ValueError, match="PROJ gives no coordinates"):
        extent_in("EPSG:32606", shapely.box(-60.0, 0.0, -59.0, 1.0))  # a quarter of the globe away from the zone
    with pytest.raises(ValueError, match="torn apart"):
        extent_in("EPSG:3338", shapely.box(25.9, 60.0, 26.1, 60.2))  # 180° from its central meridian, −154°


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3413", "EPSG:3571", "EPSG:3995", "EPSG:32606", "EPSG:3338"])
def test_crs_that_can_be_used(crs: str) -> None:
    assert problem_of(crs) is None


@pytest.mark.parametrize(
    ("crs", "problem"),
    [
        ("EPSG:99999", "is not known to PROJ"),
        ("EPSG:4269", "is in degrees, and of those only EPSG:4326 is supported"),
        ("EPSG:5773", "has heights"),
        ("EPSG:7415", "has heights"),
        ("EPSG:4978", "is not a projected CRS"),
    ],
)
def test_crs_that_cannot_be_used(crs: str, problem: str) -> None:
    found = problem_of(crs)
    assert found is not None
    assert found[0] == problem


def test_the_area_of_use_may_cross_the_antimeridian() -> None:
    """EPSG:3338 is for Alaska, from 172.42° E to 129.99° W and from 51.3° to 71.4° N."""
    boxes = np.array([(-150, 65, -149, 66), (175, 52, 176, 53), (0, 60, 1, 61), (-150, 80, -149, 81)], float)
    assert is_in_area_of_use("EPSG:3338", boxes).tolist() == [True, True, False, False]
    assert is_in_area_of_use("EPSG:32606", boxes[:3]).tolist() == [True, False, False]
