from __future__ import annotations

from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from s2sr_core.pixels import rules

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
    mask = rules.scl_masked(np.array([[scl]], np.uint8), DEFAULT_MASK)
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
    found, counts = rules.median_of_valid(stack), rules.count_of_valid(stack)
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
    assert np.array_equal(rules.median_of_valid(stack), rules.median_of_valid(rng.permutation(stack)))


def test_an_even_number_of_values_gives_the_mean_of_the_middle_two() -> None:
    stack = np.array([4, 1, 9, 6, NODATA], np.uint16).reshape(5, 1, 1)
    assert rules.median_of_valid(stack).item() == 5.0
    assert rules.median_of_valid(np.array([65534, 65533], np.uint16).reshape(2, 1, 1)).item() == 65533.5


def test_a_median_without_any_value_is_nodata_and_warns_of_nothing() -> None:
    assert (rules.median_of_valid(np.full((3, 2, 2), NODATA, np.uint16)) == -9999).all()


@pytest.mark.parametrize(
    ("columns", "rows"), [(1.0, 1.0), (2.5, 2.5), (5.0, 5.0), (3.0, 1.5), (0.4, 0.4), (20.0, 20.0)]
)
def test_dilation_masks_all_within_reach_of_the_class(columns: float, rows: float) -> None:
    """Against the definition: some pixel of the class within the ellipse around the pixel's centre."""
    rng = np.random.default_rng(5)
    scl = np.where(rng.random((17, 23)) < 0.03, 9, 4).astype(np.uint8)
    found = rules.scl_masked(scl, DEFAULT_MASK, {9: (columns, rows)})
    seeds = np.argwhere(scl == 9)
    for row, column in np.ndindex(scl.shape):
        away = ((seeds[:, 1] - column) / columns) ** 2 + ((seeds[:, 0] - row) / rows) ** 2
        assert found[row, column] == bool((away <= 1 + 1e-9).any())


def test_dilation_widens_its_class_only_and_also_one_that_is_not_masked() -> None:
    scl = np.array([[4, 4, 9, 4, 4, 4, 5, 4, 4]], np.uint8)
    assert rules.scl_masked(scl, DEFAULT_MASK, {9: (1.0, 1.0)}).tolist() == [[0, 1, 1, 1, 0, 0, 0, 0, 0]]
    assert rules.scl_masked(scl, DEFAULT_MASK, {5: (1.0, 1.0)}).tolist() == [[0, 0, 1, 0, 0, 1, 1, 1, 0]]


def test_what_lies_beyond_the_granule_is_not_widened_into_it() -> None:
    """GDAL fills the buffer beyond the raster's edge with 0, which is a class (no data) but no pixel."""
    scl = np.array([[0, 0, 4, 4, 4]], np.uint8)
    inside = np.array([[False, False, True, True, True]])
    assert not rules.scl_masked(scl, DEFAULT_MASK, {0: (2.0, 2.0)}, inside)[0, 2:].any()


@given(st.dictionaries(st.integers(0, 11), st.tuples(st.floats(0.01, 300), st.floats(0.01, 300))))
def test_dilation_survives_its_way_through_a_vrt(dilation: dict[int, tuple[float, float]]) -> None:
    assert rules.parse_dilation(rules.format_dilation(dilation)) == dilation
