from __future__ import annotations

import pickle

from s2sr_core.composites.composite import Outcome
from tasks.partly_failed import PartlyFailedError


def test_results_travel_with_the_error_from_a_worker() -> None:
    outcomes = [Outcome("a", "B04", "written"), Outcome("b", "B04", "failed", reason="why")]
    error = pickle.loads(pickle.dumps(PartlyFailedError("1 failed", outcomes)))
    assert error.results == outcomes
    assert str(error) == "1 failed"
