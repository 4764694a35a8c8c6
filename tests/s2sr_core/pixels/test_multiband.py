"""Medoid and geometric median: by brute force, by what an optimum is, and by Geoscience Australia's library."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from geomad import nangeomedian_pcm

from s2sr_core.pixels.multiband import GEOMEDIAN_STEP, geomedian, medoid

NODATA = 65535


def spectra(seed: int, observations: int, bands: int, pixels: int, spread: float = 0.15) -> np.ndarray:
    """Observations × bands × 1 × pixels: surfaces under varying light, with noise, a third of it missing."""
    rng = np.random.default_rng(seed)
    surface = rng.integers(200, 2500, (1, bands, pixels))
    light = 1 + spread * rng.normal(size=(observations, 1, pixels))
    values = (surface * light + rng.normal(0, 40, (observations, bands, pixels))).clip(0, 65534).astype(np.uint16)
    missing = rng.random((observations, pixels)) < 0.33
    values[np.broadcast_to(missing[:, None], values.shape)] = NODATA
    return values[:, :, None]


def points_at(values: np.ndarray, pixel: int) -> np.ndarray:
    """The valid observations of a pixel, observations × bands."""
    points = values[:, :, 0, pixel]
    return points[points[:, 0] != NODATA].astype(float)


def sum_of_distances(points: np.ndarray, place: np.ndarray) -> float:
    return float(np.sqrt(((points - place) ** 2).sum(axis=1)).sum())


@pytest.mark.parametrize(("observations", "bands"), [(1, 2), (5, 3), (12, 9)])
def test_the_medoid_is_the_observation_nearest_to_all_others(observations: int, bands: int) -> None:
    values = spectra(observations, observations, bands, 200)
    found = medoid(values)
    for pixel in range(200):
        points = points_at(values, pixel)
        if len(points):
            sums = [sum_of_distances(points, point) for point in points]
            best = np.flatnonzero(np.array(sums) <= min(sums) + 1e-4)[0]  # of equal ones the first
            assert np.array_equal(found[:, 0, pixel], points[best])
        else:
            assert (found[:, 0, pixel] == 0).all()


def test_of_equal_medoids_the_first_is_taken_in_whatever_order_distances_are_summed() -> None:
    square = [(0, 0), (0, 70), (70, 70), (70, 0)]
    for corners in itertools.permutations(square):
        values = np.array(corners, np.uint16)[:, :, None, None]
        assert tuple(medoid(values)[:, 0, 0]) == corners[0]


def test_the_medoid_does_not_depend_on_the_order_unless_it_is_tied() -> None:
    values = spectra(3, 11, 4, 300)
    count = (values[:, 0, 0] != NODATA).sum(axis=0)
    shuffled = np.random.default_rng(1).permutation(values)
    assert np.array_equal(medoid(values)[:, 0, count > 2], medoid(shuffled)[:, 0, count > 2])


@pytest.mark.parametrize(("observations", "bands", "spread"), [(4, 3, 0.15), (12, 3, 0.15), (12, 9, 0.15), (9, 2, 0.6)])
def test_no_place_near_the_geometric_median_is_nearer_to_all(observations: int, bands: int, spread: float) -> None:
    """The sum of distances is convex: what no near place betters, no place does."""
    values = spectra(observations + bands, observations, bands, 60, spread)
    found = geomedian(values)
    rng = np.random.default_rng(0)
    for pixel in range(60):
        points, place = points_at(values, pixel), found[:, 0, pixel]
        if len(points):
            best = sum_of_distances(points, place)
            steps = rng.normal(size=(60, bands))
            steps /= np.linalg.norm(steps, axis=1)[:, None]
            for step in (0.02, 1.0, 30.0):
                around = [sum_of_distances(points, place + step * each) for each in steps]
                assert best <= min(around) + 1e-6
            assert best <= min(sum_of_distances(points, point) for point in points) + 1e-6


def test_it_is_that_of_geomad() -> None:
    """Geoscience Australia's implementation, Weiszfeld alone: compared where it has come near."""
    values = spectra(8, 15, 4, 400)
    points = np.where(values == NODATA, np.nan, values.astype(float))  # observations, bands, rows, columns
    points = points.transpose(2, 3, 1, 0).astype(np.float32)
    theirs = nangeomedian_pcm(points, eps=1e-5, maxiters=5000, num_threads=1)[0].T
    ours = geomedian(values)[:, 0]
    distance = np.linalg.norm(ours - theirs, axis=0)
    there = np.isfinite(distance)
    assert there.sum() > 350
    assert np.percentile(distance[there], 90) < 10 * GEOMEDIAN_STEP
    for pixel in np.flatnonzero(there & (distance > GEOMEDIAN_STEP)):
        at = points_at(values, pixel)
        assert sum_of_distances(at, ours[:, pixel]) <= sum_of_distances(at, theirs[:, pixel]) + 1e-6


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(5, 9)], (5, 9)),
        ([(0, 0), (10, 20)], (5, 10)),
        ([(7, 7), (7, 7), (7, 7), (90, 1)], (7, 7)),
        ([(0, 0), (100, 0), (50, 1)], (50, 1)),  # an angle of more than 120 degrees
        ([(0, 0), (4, 0), (4, 4), (0, 4)], (2, 2)),
        ([(10, 10), (20, 20), (60, 60)], (20, 20)),
        ([(0, 0), (60, 0), (30, 52)], (30, 17.3)),  # Fermat's point of a triangle, nearly equilateral
    ],
)
def test_by_hand(points: list[tuple[int, int]], expected: tuple[float, float]) -> None:
    for order in itertools.permutations(points):
        values = np.array(order, np.uint16)[:, :, None, None]
        assert geomedian(values)[:, 0, 0] == pytest.approx(expected, abs=0.05)


def test_without_any_observation_nothing_is_computed() -> None:
    nothing = np.full((3, 2, 1, 1), NODATA, np.uint16)
    assert medoid(nothing).ravel().tolist() == geomedian(nothing).ravel().tolist() == [0, 0]
