from __future__ import annotations

import pytest

from s2sr_core.products.baselines import implied_offset, is_operational


@pytest.mark.parametrize(
    ("baseline", "offset"),
    [
        ("02.06", 0),
        ("02.14", 0),
        ("03.01", 0),
        ("03.99", 0),
        ("04.00", -1000),
        ("05.09", -1000),
        ("05.11", -1000),
        ("05.12", -1000),
        ("05.13", -1000),
        ("06.99", -1000),
        ("02.00", 0),
        ("00.01", None),
        ("01.99", None),
        ("07.00", None),
        ("10.00", None),
        ("20.00", None),
        ("99.90", None),
        ("99.99", None),
    ],
)
def test_offsets_begin_at_baseline_4_and_those_outside_the_operational_series_imply_none(
    baseline: str, offset: int | None
) -> None:
    assert implied_offset(baseline) == offset
    assert is_operational(baseline) is (offset is not None)
