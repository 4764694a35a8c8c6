from __future__ import annotations

from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.statistics import count_of, median_of

from s2sr_core.pixels import rules
from s2sr_core.pixels.masks import SclMask

DEFAULT_MASK = (0, 1, 2, 3, 7, 8, 9, 10, 11)
NODATA = 65535


@pytest.mark.parametrize(
    ("dn", "scl", "offset", "expected"),
    [
        (1500, 4, -1000, 500),
        (1500, 4, 0, 1500),
        (1000, 4, -1000, 0),  # at the offset: reflectance 0
        (400, 4, -1000, 0),  # below the offset: 0, no wrap to 64936, no nodata
        (1, 6, -1000, 0),
        (0, 4, -1000, NODATA),  # DN 0 is nodata whatever SCL says, and stays it under the offset
        (0, 4, 0, NODATA),
        (1500, 0, -1000, NODATA),  # DN > 0 under SCL 0
        (1500, 12, -1000, NODATA),  # unknown classes
        (1500, 13, 0, NODATA),
        (1500, 255, 0, NODATA),
        (32767, 5, 0, 32767),
        (32767, 5, -1000, 31767),
        (65535, 5, -1000, NODATA),  # SPECIAL_VALUES: saturated
        (32767, 5, 32767, 65534),  # never the nodata value, whatever the offset
        (32767, 5, 100_000, 65534),
        *((1500, scl, 0, NODATA) for scl in DEFAULT_MASK),
        *((1500, scl, 0, 1500) for scl in (4, 5, 6)),
    ],
)
def test_mask_and_harmonise_by_hand(dn: int, scl: int, offset: int, expected: int) -> None:
    mask = SclMask(DEFAULT_MASK).masked(np.array([[scl]], np.uint8))
    assert rules.harmonised(np.array([[dn]], np.uint16), mask, offset).tolist() == [[expected]]


@given(
    hnp.arrays(np.uint16, (3, 4), elements=st.integers(0, 32767)),
    st.integers(-3000, 3000),
)
def test_one_truth_gives_one_value_whatever_the_baseline(truth: np.ndarray, offset: int) -> None:
    """A DN with an offset packed in (kept above nodata) harmonises to the truth, where the truth fits."""
    packed = truth.astype(np.int64) - offset
    fits = (packed >= 1) & (packed <= 32767)
    mask = np.zeros(truth.shape, bool)
    found = rules.harmonised(np.where(fits, packed, 1).astype(np.uint16), mask, offset)
    assert np.array_equal(found[fits], truth[fits])


@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=3, max_dims=3, max_side=7), elements=st.integers(0, 65535)))
def test_the_median_is_that_of_the_valid_values(stack: np.ndarray) -> None:
    found, counts = median_of(stack), count_of(stack)
    assert found.dtype == np.float32
    assert counts.dtype == np.uint16
    for row, column in np.ndindex(stack.shape[1:]):
        valid = [int(value) for value in stack[:, row, column] if value != NODATA]
        assert found[row, column] == (median(valid) if valid else -9999)
        assert counts[row, column] == len(valid)


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_scenes_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stack = rng.choice([0, 1, 7, 8, 900, NODATA], (6, 4, 5)).astype(np.uint16)
    assert np.array_equal(median_of(stack), median_of(rng.permutation(stack)))


def test_an_even_number_of_values_gives_the_mean_of_the_middle_two() -> None:
    stack = np.array([4, 1, 9, 6, NODATA], np.uint16).reshape(5, 1, 1)
    assert median_of(stack).item() == 5.0
    assert median_of(np.array([65534, 65533], np.uint16).reshape(2, 1, 1)).item() == 65533.5


def test_a_median_without_any_value_is_nodata_and_warns_of_nothing() -> None:
    assert (median_of(np.full((3, 2, 2), NODATA, np.uint16)) == -9999).all()
