"""The rules of a re-run, as a table: what is there, what failed, and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from s2sr_core.composites.decide import Action, Earlier, decide
from s2sr_core.composites.records import key_of

Json = dict[str, Any]

A, B, C = ({"product": name, "B04": f"md5:{name}", "SCL": "md5:0", "offset": -1000} for name in "ABC")
COMPOSITE, COUNT = "median.tif", "count.tif"


def inputs(*scenes: Mapping[str, Any], **changes: Any) -> Json:
    return {"software": "s2sr 1", "polygon": "POLYGON …", "resampling": "bilinear", "scenes": list(scenes), **changes}


def record_of(made_of: Json, *rasters: str) -> Json:
    return {"key": key_of(made_of), "inputs": made_of, "bytes": dict.fromkeys(rasters, 100)}


AB, A_ONLY, NOTHING = inputs(A, B), inputs(A), inputs()
THERE, WITH_COUNT = {COMPOSITE: 100}, {COMPOSITE: 100, COUNT: 100}
RECORD, RECORD_WITH_COUNT = record_of(AB, COMPOSITE), record_of(AB, COMPOSITE, COUNT)
OLD_RECORD = {"key": "of another version", "made_of": {**inputs(), "inputs": [A, B]}, "bytes": THERE}
del OLD_RECORD["made_of"]["scenes"]


@pytest.mark.parametrize(
    ("now", "record", "sizes", "failed", "overwrite", "action"),
    [
        # Nothing is there.
        (AB, None, {COMPOSITE: None}, "", False, "compute"),
        (AB, None, {COMPOSITE: None}, "C", False, "compute"),
        (NOTHING, None, {COMPOSITE: None}, "", False, "no scene"),
        (NOTHING, None, {COMPOSITE: None}, "A", False, "no scene"),
        # The same would be made again.
        (AB, RECORD, THERE, "", False, "keep"),
        (AB, RECORD, THERE, "C", False, "keep"),
        (AB, RECORD_WITH_COUNT, WITH_COUNT, "", False, "keep"),
        (AB, RECORD_WITH_COUNT, THERE, "", False, "keep"),  # a count that nobody asks for now
        (AB, RECORD, THERE, "", True, "compute"),
        # It is not whole.
        (AB, RECORD, {COMPOSITE: None}, "", False, "compute"),
        (AB, RECORD, {COMPOSITE: 99}, "", False, "compute"),
        (AB, RECORD, {COMPOSITE: 0}, "", False, "compute"),
        (AB, RECORD, {COMPOSITE: 100, COUNT: None}, "", False, "compute"),
        (AB, RECORD, {COMPOSITE: 100, COUNT: 100}, "", False, "compute"),  # a count that no record knows
        (AB, RECORD_WITH_COUNT, {COMPOSITE: 100, COUNT: 99}, "", False, "compute"),
        (AB, None, THERE, "", False, "compute"),
        (AB, {}, THERE, "", False, "compute"),
        (AB, {"key": 1}, THERE, "", False, "compute"),
        (AB, {"key": key_of(AB)}, THERE, "", False, "compute"),
        # Something else would be made.
        (inputs(A, B, C), RECORD, THERE, "", False, "compute"),
        (A_ONLY, RECORD, THERE, "", False, "compute"),
        (inputs(A, {**B, "B04": "md5:other"}), RECORD, THERE, "", False, "compute"),
        (inputs(A, {**B, "offset": 0}), RECORD, THERE, "", False, "compute"),
        (inputs(A, B, resampling="nearest"), RECORD, THERE, "", False, "compute"),
        (inputs(A, B, polygon="POLYGON"), RECORD, THERE, "", False, "compute"),
        (inputs(A, B, software="s2sr 2"), RECORD, THERE, "", False, "compute"),
        (NOTHING, RECORD, THERE, "", False, "no scene"),
        (NOTHING, RECORD, THERE, "C", False, "no scene"),
        # A scene that it was made of failed now, and nothing else changed.
        (A_ONLY, RECORD, THERE, "B", False, "keep earlier"),
        (NOTHING, RECORD, THERE, "AB", False, "keep earlier"),
        (inputs(A, C), RECORD, THERE, "B", False, "keep earlier"),
        (A_ONLY, RECORD, {COMPOSITE: 100, COUNT: None}, "B", False, "keep earlier"),
        # … or something else did, or there is nothing to keep, or it must be computed.
        (A_ONLY, RECORD, THERE, "C", False, "compute"),
        (inputs(A, resampling="nearest"), RECORD, THERE, "B", False, "compute"),
        (inputs(resampling="nearest"), RECORD, THERE, "AB", False, "no scene"),
        (A_ONLY, RECORD, {COMPOSITE: None}, "B", False, "compute"),
        (A_ONLY, None, THERE, "B", False, "compute"),
        (A_ONLY, {"key": 1}, THERE, "B", False, "compute"),
        (A_ONLY, RECORD, THERE, "B", True, "compute"),
        (NOTHING, RECORD, THERE, "AB", True, "no scene"),
        # A record of a version that called inputs "made_of".
        (AB, OLD_RECORD, THERE, "", False, "compute"),
        (A_ONLY, OLD_RECORD, THERE, "B", False, "keep earlier"),
        (A_ONLY, {**OLD_RECORD, "made_of": {}}, THERE, "B", False, "compute"),
    ],
)
def test_the_table(
    now: Json, record: Json | None, sizes: dict[str, int | None], failed: str, overwrite: bool, action: Action
) -> None:
    assert decide(now, Earlier(record, sizes), set(failed), overwrite=overwrite).action == action


def test_a_band_of_a_product_that_failed_in_another_band_may_still_be_up_to_date() -> None:
    """B failed in some band, and this composite does not feel it."""
    assert decide(AB, Earlier(RECORD, {COMPOSITE: 100}), {"B"}, overwrite=False).action == "keep"


@pytest.mark.parametrize(
    ("now", "there", "failed", "words"),
    [
        (A_ONLY, True, "B", ["B cannot be used now", "is kept"]),
        (NOTHING, True, "AB", ["A and 1 more cannot be used now", "is kept"]),
        (NOTHING, True, "", ["no scene covers the cell", "removed"]),
        (NOTHING, False, "", ["no scene covers the cell"]),
        (NOTHING, False, "A", ["no scene that can be used covers the cell"]),
    ],
)
def test_what_is_not_computed_has_a_reason(now: Json, there: bool, failed: str, words: list[str]) -> None:
    earlier = Earlier(RECORD, {COMPOSITE: 100}) if there else Earlier(None, {COMPOSITE: None})
    reason = decide(now, earlier, set(failed), overwrite=False).reason
    assert all(word in reason for word in words), reason
    assert ("removed" in reason) == ("removed" in words)
