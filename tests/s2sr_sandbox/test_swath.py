from itertools import pairwise
from math import cos, radians

import numpy as np
import pytest
import shapely

from s2sr_sandbox.grid import Grid
from s2sr_sandbox.products import BANDS_20M
from s2sr_sandbox.swath import EDGE_SHIFT, WHOLE, Swath, footprint

GRID = Grid.utm(-149.6, 68.63, (310, 420))
ALL = slice(None)


def _unwrapped(ring: list[tuple[float, float]]) -> shapely.Polygon:
    """The ring as a polygon, longitudes 0 … 360 where it crosses the antimeridian."""
    lon, lat = np.array(ring).T
    return shapely.Polygon(np.stack([lon % 360 if np.ptp(lon) > 180 else lon, lat], axis=1))


def test_whole_granule_is_seen_in_every_band() -> None:
    for band in (*BANDS_20M, "SCL"):
        assert WHOLE.seen(GRID, ALL, band).all()
    assert WHOLE.outline(GRID).area == 310 * 420


@pytest.mark.parametrize("swath", [Swath(across=(0.4, 1)), Swath(across=(0, 0.3)), Swath(along=(0.2, 0.7))])
def test_outline_goes_around_what_is_seen(swath: Swath) -> None:
    seen = swath.seen(GRID, ALL)
    rows, cols = np.mgrid[:310, :420] + 0.5
    inside = shapely.contains_xy(swath.outline(GRID), cols, rows)
    assert 0.1 < seen.mean() < 0.9
    assert (inside != seen).mean() < 0.001


def test_edge_is_slanted_and_differs_by_band() -> None:
    swath = Swath(across=(0.4, 1))
    first = {band: swath.seen(GRID, ALL, band).argmax(axis=1) for band in (*BANDS_20M, "SCL")}
    for band, columns in first.items():
        np.testing.assert_array_equal(columns, first["SCL"] + EDGE_SHIFT.get(band, 0))
    assert first["SCL"][0] - first["SCL"][-1] == pytest.approx(0.3 * 309, abs=1)


def test_rows_are_seen_alike_in_blocks_and_at_once() -> None:
    swath = Swath(across=(0.4, 1), along=(0.1, 0.9))
    parts = [swath.seen(GRID, rows, "B11") for rows in GRID.blocks(pixels=3000)]
    np.testing.assert_array_equal(np.concatenate(parts), swath.seen(GRID, ALL, "B11"))


def test_split_pair_shares_the_granule_out() -> None:
    north, south = Swath(along=(0, 0.55)), Swath(along=(0.55, 1))
    for band in (*BANDS_20M, "SCL"):
        np.testing.assert_array_equal(north.seen(GRID, ALL, band), ~south.seen(GRID, ALL, band))
    parts = [_unwrapped(footprint(GRID, swath)) for swath in (north, south, WHOLE)]
    assert parts[0].intersection(parts[1]).area < 1e-3 * parts[2].area
    assert parts[0].union(parts[1]).symmetric_difference(parts[2]).area < 1e-3 * parts[2].area


@pytest.mark.parametrize("swath", [WHOLE, Swath(across=(0.4, 1)), Swath(along=(0.55, 1))])
def test_footprint_holds_the_pixels_seen(swath: Swath) -> None:
    outline = _unwrapped(footprint(GRID, swath))
    assert outline.is_valid
    inside = shapely.contains_xy(outline, *GRID.centres())
    assert (inside != swath.seen(GRID, ALL)).mean() < 0.002


@pytest.mark.parametrize(("lon", "zone"), [(179.97, 1), (-179.97, 60)])
@pytest.mark.parametrize("swath", [WHOLE, Swath(across=(0.3, 1))])
def test_footprint_across_the_antimeridian(lon: float, zone: int, swath: Swath) -> None:
    """One ring as in real metadata: a point at 180 wherever it crosses, east of it negative longitudes."""
    grid = Grid.utm(lon, 68.9, (310, 420), zone=zone)
    ring = footprint(grid, swath)
    assert ring[0] == ring[-1]
    assert [abs(place[0]) for place in ring].count(180) == 2
    for (west, _), (east, _) in pairwise(ring):
        assert abs(east - west) < 1 or (abs(east - west) > 359 and 180 in (abs(west), abs(east)))
    outline = _unwrapped(ring)
    assert outline.is_valid
    square_metres = outline.area * cos(radians(68.9)) * 111_320 * 111_560
    assert square_metres == pytest.approx(swath.outline(grid).area * 400, rel=0.02)


def test_a_swath_that_sees_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="sees nothing"):
        Swath(across=(0.0, 0.05), along=(0.9, 1.0), tilt=1.0).outline(GRID)
