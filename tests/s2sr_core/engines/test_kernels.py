"""The compiled arithmetic, against numpy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support.statistics import count_of, median_of

from s2sr_core.engines.kernels import composite, sorting_network


@pytest.mark.parametrize("size", range(1, 14))
def test_a_network_sorts_all_zeros_and_ones_and_so_everything(size: int) -> None:
    """Knuth's 0-1 principle."""
    values = np.array(list(itertools.product((0, 1), repeat=size))).T
    for low, high in sorting_network(size):
        values[low], values[high] = np.minimum(values[low], values[high]), np.maximum(values[low], values[high])
    assert (np.diff(values, axis=0) >= 0).all()


@pytest.mark.parametrize("size", [17, 31, 64, 120, 333])
def test_larger_networks_sort_what_random_numbers_offer(size: int) -> None:
    values = np.random.default_rng(size).integers(0, 50, (size, 500))
    expected = np.sort(values, axis=0)
    for low, high in sorting_network(size):
        values[low], values[high] = np.minimum(values[low], values[high]), np.maximum(values[low], values[high])
    assert np.array_equal(values, expected)


def composited(stack: np.ndarray, xs: np.ndarray, ys: np.ndarray, *, nearest: bool = False):
    """Scenes of one grid that ``stack`` holds whole, with a border of nodata, at these coordinates."""
    scenes, rows, columns = stack.shape
    pixels = np.pad(stack, ((0, 0), (2, 2), (2, 2)), constant_values=65535)
    medians, counts = np.empty(xs.shape, np.float32), np.empty(xs.shape, np.uint16)
    starts = np.arange(scenes) * pixels[0].size
    went_well = composite(
        pixels.ravel(),
        np.stack([np.zeros_like(starts), starts], axis=1),
        np.array([[-2, -2, columns + 2, rows + 2]]),
        np.array([[rows, columns]]),
        np.ascontiguousarray(xs[None], float),
        np.ascontiguousarray(ys[None], float),
        nearest,
        sorting_network(scenes),
        medians,
        counts,
    )
    assert went_well
    return medians, counts


@pytest.mark.parametrize("scenes", [1, 2, 3, 12, 41])
@pytest.mark.parametrize("nearest", [True, False])
def test_at_the_centres_of_pixels_it_is_the_median_of_the_rule(scenes: int, nearest: bool) -> None:
    rng = np.random.default_rng(scenes)
    stack = rng.integers(0, 65535, (scenes, 37, 290)).astype(np.uint16)
    stack[rng.random(stack.shape) < 0.6] = 65535
    xs, ys = np.meshgrid(np.arange(290) + 0.5, np.arange(37) + 0.5)
    medians, counts = composited(stack, xs, ys, nearest=nearest)
    assert np.array_equal(medians, median_of(stack))
    assert np.array_equal(counts, count_of(stack))


def test_between_pixels_by_hand() -> None:
    a = np.array([[[100, 200], [300, 65535]]], np.uint16)
    xs, ys = np.array([[1.0, 0.75, 1.25, 1.0, 1.6, 0.1]]), np.array([[0.5, 0.5, 0.75, 1.0, 1.6, 0.1]])
    # Midway; a quarter; three valid with weights 3/16 6/16·½…: (100·.1875 + 200·.5625 + 300·.0625) / .8125; the mean of
    # the three around a corner, whose holder (1, 1) is nodata; in nodata; the corner pixel alone.
    expected = [150, 125, np.floor((18.75 + 112.5 + 18.75) / 0.8125 + 0.5), -9999, -9999, 100]
    assert composited(a, xs, ys)[0].tolist() == [expected]


def test_outside_of_the_scene_and_without_coordinates_there_is_nothing() -> None:
    a = np.full((1, 3, 3), 7, np.uint16)
    xs = np.array([[-0.001, 0.0, 2.9999, 3.001, np.nan, np.inf, 1.0]])
    medians, counts = composited(a, xs, np.full(xs.shape, 1.5))
    assert medians.tolist() == [[-9999, 7, 7, -9999, -9999, -9999, 7]]
    assert counts.tolist() == [[0, 1, 1, 0, 0, 0, 1]]


def test_a_window_that_is_too_small_is_noticed() -> None:
    medians, counts = np.empty((1, 1), np.float32), np.empty((1, 1), np.uint16)
    arguments = (np.zeros(9, np.uint16), np.zeros((1, 2), np.int64), np.array([[10, 10, 13, 13]]), np.array([[90, 90]]))
    for x in (9.9, 10.4, 12.6):
        place = np.array([[[x]]]), np.array([[[11.5]]])
        assert not composite(*arguments, *place, False, sorting_network(1), medians, counts)
    assert composite(*arguments, np.array([[[11.5]]]), np.array([[[11.5]]]), False, sorting_network(1), medians, counts)
