"""The benchmark's clouds leave as many blocks without a valid pixel as real granules do."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.clouds import blocks_without, exceeded_by, field

FULL = (5490, 5490)


def test_blocks_by_hand() -> None:
    valid = np.zeros((5, 7), bool)
    valid[0, 2] = valid[4, 6] = True
    # Blocks of 3: rows 0-2 and 3-4, columns 0-2, 3-5 and 6.
    assert blocks_without(valid, 3).tolist() == [[False, True, True], [True, True, False]]
    assert blocks_without(valid, 1).sum() == 33


def test_a_field_has_its_share_and_its_seed() -> None:
    one = field(1, (300, 200))
    assert one.shape == (300, 200)
    assert abs(float(one.mean())) < 1e-4
    assert float(one.std()) == pytest.approx(1.0, abs=1e-3)
    assert np.array_equal(one, field(1, (300, 200)))
    assert not np.array_equal(one, field(2, (300, 200)))
    assert float((one > exceeded_by(one, 0.3)).mean()) == pytest.approx(0.3, abs=0.03)


def test_block_statistics_are_those_of_real_granules() -> None:
    """A real granule, 83 % masked: 31 % of its 640² tiles and 71 % of its 64² blocks hold no valid pixel. On fair
    weather granules these are a few percent, and 10 to 40 %."""
    fields = [field(seed, FULL) for seed in (1, 11)]

    def empty(share: float, block: int) -> float:
        valid = [values <= exceeded_by(values, share) for values in fields]
        return float(np.mean([blocks_without(mask, block).mean() for mask in valid]))

    assert empty(0.83, 640) == pytest.approx(0.31, abs=0.08)
    assert empty(0.83, 64) == pytest.approx(0.71, abs=0.06)
    assert empty(0.35, 640) < 0.08
    assert 0.10 < empty(0.35, 64) < 0.40
