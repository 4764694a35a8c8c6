"""Statistics of values and of dates, by the definitions: Python's statistics, numpy's percentiles, brute force."""

from __future__ import annotations

import datetime
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.statistics import statistic

from s2sr_core.engines import kernels
from s2sr_core.pixels.observations import Acquisitions, Observations, days_of_year, jointly_valid
from s2sr_core.pixels.statistics import COUNT, MEDIAN, compute_all, statistic_of

NODATA = 65535
STACKS = hnp.arrays(np.uint16, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, 65535))


def valid_at(stack: np.ndarray, row: int, column: int) -> list[int]:
    return [int(value) for value in stack[:, row, column] if value != NODATA]


@settings(max_examples=40)
@given(STACKS, st.integers(0, 100))
def test_percentiles_are_numpys_linear_ones(stack: np.ndarray, percent: int) -> None:
    found = statistic(f"p{percent}", stack)
    assert found.dtype == np.float32
    for row, column in np.ndindex(stack.shape[1:]):
        if values := sorted(valid_at(stack, row, column)):
            assert found[row, column] == pytest.approx(np.percentile(values, percent, method="linear"), rel=1e-7)
            place = Fraction((len(values) - 1) * percent, 100)
            low, share = int(place), place - int(place)
            exact = values[low] + share * (values[min(low + 1, len(values) - 1)] - values[low])
            assert found[row, column] == np.float32(float(exact))
        else:
            assert found[row, column] == -9999


@settings(max_examples=40)
@given(STACKS)
def test_mean_and_deviations_by_their_definitions(stack: np.ndarray) -> None:
    mean, mad, iqr = (statistic(name, stack) for name in ("mean", "mad", "iqr"))
    for row, column in np.ndindex(stack.shape[1:]):
        if values := valid_at(stack, row, column):
            assert mean[row, column] == np.float32(sum(values) / len(values))
            middle = statistics.median(values)
            assert mad[row, column] == statistics.median([abs(value - middle) for value in values])
            low, high = (float(np.percentile(values, percent)) for percent in (25, 75))
            assert iqr[row, column] == high - low
        else:
            assert mean[row, column] == mad[row, column] == iqr[row, column] == -9999


def test_the_median_is_percentile_50_and_the_range_is_that_of_the_quartiles() -> None:
    stack = np.random.default_rng(4).integers(0, 9000, (9, 20, 30)).astype(np.uint16)
    stack[np.random.default_rng(5).random(stack.shape) < 0.4] = NODATA
    assert np.array_equal(statistic("p50", stack), statistic("median", stack))
    has = statistic("count", stack) > 0
    difference = statistic("p75", stack) - statistic("p25", stack)
    assert np.array_equal(statistic("iqr", stack)[has], difference[has])


DATES = [datetime.date(2019, 12, 31), datetime.date(2020, 3, 1), datetime.date(2020, 12, 31), datetime.date(2021, 1, 5)]
DAYS = [(date - datetime.date(1970, 1, 1)).days for date in DATES]


@pytest.mark.parametrize(
    ("valid", "doy", "first", "last"),
    [
        ([0], 365, 18261, 18261),
        ([2], 366, 18627, 18627),
        ([1, 3], (61 + 5) / 2, 18322, 18632),
        ([0, 1, 3], 61, 18261, 18632),
        ([], -9999, 65535, 65535),
    ],
)
def test_dates_of_the_valid_values(valid: list[int], doy: float, first: int, last: int) -> None:
    stack = np.full((4, 1, 1), NODATA, np.uint16)
    stack[valid] = 7
    assert [statistic(name, stack, DAYS).item() for name in ("doy", "first", "last")] == [doy, first, last]
    assert statistic("first", stack, DAYS).dtype == np.uint16


def test_days_of_the_year_are_those_of_the_calendar() -> None:
    assert days_of_year(np.array(DAYS)).tolist() == [365, 61, 366, 5]


def test_fewer_values_than_the_least_count_are_none() -> None:
    stack = np.array([[3, 3, 3], [5, NODATA, 5], [NODATA, NODATA, 9]], np.uint16)[:, None]
    observations = Observations(stack, [1, 2, 3])
    assert MEDIAN.requiring(2).of(observations).tolist() == [[4, -9999, 5]]
    assert statistic_of("last").requiring(3).of(observations).tolist() == [[65535, 65535, 3]]
    assert COUNT.requiring(3).of(observations).tolist() == [[2, 1, 3]]


def test_parts_of_one_observation_count_once_and_the_first_valid_one_is_used() -> None:
    a, b, c = [[10, NODATA, NODATA, 10]], [[20, 20, NODATA, NODATA]], [[60, 60, 60, NODATA]]
    stack = np.array([a, b, c], np.uint16)
    passes = Acquisitions(days=(5, 5, 9), passes=(0, 0, 1))
    ((median, count, first),) = compute_all([MEDIAN, COUNT, statistic_of("first")], [stack], passes)
    assert count.tolist() == [[2, 2, 1, 1]]
    assert median.tolist() == [[35, 40, 60, 10]]
    assert first.tolist() == [[5, 5, 9, 5]]
    ((alone,),) = compute_all([COUNT], [stack], Acquisitions((5, 5, 9), (0, 1, 2)))
    assert alone.tolist() == [[3, 2, 1, 1]]
    assert stack[0].tolist() == a


def test_a_scene_that_lacks_a_band_does_not_take_part_in_joint_statistics() -> None:
    red, blue = np.array([[[1, 1]], [[2, NODATA]]], np.uint16), np.array([[[3, 3]], [[NODATA, 4]]], np.uint16)
    joint = jointly_valid([red, blue])
    assert joint[:, :, 0, :].tolist() == [[[1, 1], [3, 3]], [[NODATA, NODATA], [NODATA, NODATA]]]
    of_red, of_blue = compute_all([statistic_of("medoid"), COUNT], [red, blue], Acquisitions((1, 2), (0, 1)))
    assert [of_red[0].tolist(), of_blue[0].tolist()] == [[[1, 1]], [[3, 3]]]
    assert [of_red[1].tolist(), of_blue[1].tolist()] == [[[2, 1]], [[1, 2]]]


def test_parts_of_a_joint_observation_are_never_mixed() -> None:
    """The first tile lacks blue: the second gives both bands, also where the first has red."""
    red, blue = np.array([[[1]], [[2]]], np.uint16), np.array([[[NODATA]], [[4]]], np.uint16)
    found = compute_all([statistic_of("geomedian")], [red, blue], Acquisitions((1, 1), (0, 0)))
    assert [values.item() for (values,) in found] == [2, 4]


def test_arguments_of_pixel_functions_hold_all_of_the_acquisitions() -> None:
    acquisitions = Acquisitions((18000, 18005, 18005), (0, 1, 1))
    assert Acquisitions.from_arguments({**acquisitions.arguments(), "statistic": "first"}) == acquisitions


@pytest.mark.parametrize("size", [1, 2, 5, 17])
def test_the_compiled_sort_is_numpys(size: int) -> None:
    values = np.random.default_rng(size).integers(0, 65536, (size, 3, 300)).astype(np.uint16)
    before = values.copy()
    assert np.array_equal(kernels.sort(values), np.sort(values, axis=0))
    assert np.array_equal(values, before)
