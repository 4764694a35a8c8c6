"""Statistics of a stack, as the program computes them: for tests that hold other ways against them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s2sr_core.pixels.observations import Observations
from s2sr_core.pixels.statistics import statistic_of


def statistic(name: str, stack: np.ndarray, days: Sequence[int] = ()) -> np.ndarray:
    """Of scenes × rows × columns (of joint ones scenes × bands × rows × columns), UInt16, nodata 65535."""
    return statistic_of(name).of(Observations(stack, days))


def median_of(stack: np.ndarray) -> np.ndarray:
    return statistic("median", stack)


def count_of(stack: np.ndarray) -> np.ndarray:
    return statistic("count", stack)
