"""The plan's benchmark drives the real planning: its counts are checked against what was put in."""

from __future__ import annotations

from pathlib import Path

from benchmarks.plan_run import plan


def test_a_small_plan(tmp_path: Path) -> None:
    result = plan(tmp_path, 1440, 50)  # every footprint meets cells; each tenth repeats the one before it
    assert (result["cells"], result["footprints"], result["selected"]) == (1440, 50, 45)
    assert result["units"] == [45, 250]
    assert set(result["steps"]) == {"cells", "query", "manifest", "units of phase 1", "units of phase 2"}
    assert result["cpu"] > 0
