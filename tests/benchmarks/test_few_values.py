"""The table of few values in the documentation: by hand on six pixels, and as it is on the real chips."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from benchmarks.few_values import BANDS, LIMITS, differences, read_dates, table

ROOT = Path(__file__).resolve().parents[2]


def test_every_choice_of_valid_values_counts_once() -> None:
    nan = np.nan
    pixels = [[1, 2, 10, nan], [1, 2, nan, nan], [4, 0, 2, 8]]  # the second has too few to compare
    off = differences(np.array(pixels, float).T[:, np.newaxis])
    assert sorted(off[1]) == sorted([1, 0, 8, *(1, 3, 1, 5)])  # medians of all are 2 and 3
    assert sorted(off[2]) == sorted([0.5, 3.5, 4, *(1, 0, 3, 2, 1, 2)])  # of 4 0, 4 2, 4 8, 0 2, 0 8, 2 8
    assert sorted(off[3]) == sorted([1, 1, 1, 1])  # of 4 0 2, 4 0 8, 4 2 8, 0 2 8


def test_three_of_the_chips_have_the_pixels_of_an_independent_count(shared_data: Path) -> None:
    """Sums of medians and numbers of values, as they were counted before there was this project."""
    dates = read_dates(sorted((shared_data / "exeter_chips").glob("*.tif"))[2:])
    valid = np.isfinite(dates["B02"]).sum(axis=0)
    assert np.bincount(valid.ravel()).tolist() == [2952, 54309, 43169, 18160]
    sums = [float(np.nansum(np.nanmedian(dates[band][:, valid > 0], axis=0))) for band in ("B02", "B08")]
    assert sums == [86_137_954.0, 342_269_652.0]


def test_the_table_of_the_documentation_is_that_of_the_chips(shared_data: Path) -> None:
    pixels, shares = table(shared_data / "exeter_chips")
    text = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    assert f"{pixels:,}" in text
    rows = re.findall(r"^\| ([1-4]) \| (.+?) \|$", text.partition("### How many values are enough")[2], re.MULTILINE)
    documented = {int(count): [cell.rstrip(" %") for cell in cells.split(" | ")] for count, cells in rows}
    expected = {}
    for count in documented:
        found = [*shares["B08"][count], *(shares[band][count][0] for band in BANDS[1:])]
        expected[count] = [f"{100 * share:.1f}" for share in found]
    assert sorted(documented) == [1, 2, 3, 4]
    assert documented == expected
    assert LIMITS == (500, 200, 100)
