"""The rules of a re-run, as a table: what is there, what failed, and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from s2sr_core.composites.decide import Action, Earlier, decide
from s2sr_core.composites.recorded_files import FileState
from s2sr_core.composites.records import key_of

Json = dict[str, Any]

A, B, C = ({"product": name, "B04": f"md5:{name}", "SCL": "md5:0", "offset": -1000} for name in "ABC")
COMPOSITE, COUNT = "median.tif", "count.tif"
SAME, COPIED, CHANGED, MISSING, UNRECORDED = FileState


def inputs(*scenes: Mapping[str, Any], **changes: Any) -> Json:
    return {"software": "s2sr 1", "polygon": "POLYGON …", "resampling": "bilinear", "scenes": list(scenes), **changes}


def record_of(made_of: Json) -> Json:
    return {"key": key_of(made_of), "inputs": made_of}


AB, A_ONLY, NOTHING = inputs(A, B), inputs(A), inputs()
THERE, WITH_COUNT = {COMPOSITE: SAME}, {COMPOSITE: SAME, COUNT: SAME}
RECORD = record_of(AB)
OLD_RECORD = {"key": "of another version", "made_of": {**inputs(), "inputs": [A, B]}}
del OLD_RECORD["made_of"]["scenes"]


@pytest.mark.parametrize(
    ("now", "record", "files", "failed", "overwrite", "action"),
    [
        # Nothing is there.
        (AB, None, {COMPOSITE: MISSING}, "", False, "compute"),
        (AB, None, {COMPOSITE: MISSING}, "C", False, "compute"),
        (NOTHING, None, {COMPOSITE: MISSING}, "", False, "no scene"),
        (NOTHING, None, {COMPOSITE: MISSING}, "A", False, "no scene"),
        # The same would be made again.
        (AB, RECORD, THERE, "", False, "keep"),
        (AB, RECORD, THERE, "C", False, "keep"),
        (AB, RECORD, WITH_COUNT, "", False, "keep"),
        (AB, RECORD, {COMPOSITE: COPIED}, "", False, "keep"),
        (AB, RECORD, {COMPOSITE: COPIED, COUNT: SAME}, "", False, "keep"),
        (AB, RECORD, THERE, "", True, "compute"),
        # It is not whole.
        (AB, RECORD, {COMPOSITE: MISSING}, "", False, "compute"),
        (AB, RECORD, {COMPOSITE: CHANGED}, "", False, "compute"),
        (AB, RECORD, {COMPOSITE: SAME, COUNT: MISSING}, "", False, "compute"),
        (AB, RECORD, {COMPOSITE: SAME, COUNT: UNRECORDED}, "", False, "compute"),
        (AB, RECORD, {COMPOSITE: SAME, COUNT: CHANGED}, "", False, "compute"),
        (AB, RECORD, {COMPOSITE: UNRECORDED}, "", False, "compute"),
        (AB, None, THERE, "", False, "compute"),
        (AB, {}, THERE, "", False, "compute"),
        (AB, {"key": 1}, THERE, "", False, "compute"),
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
        (A_ONLY, RECORD, {COMPOSITE: SAME, COUNT: MISSING}, "B", False, "keep earlier"),
        # … or something else did, or there is nothing to keep, or it must be computed.
        (A_ONLY, RECORD, THERE, "C", False, "compute"),
        (inputs(A, resampling="nearest"), RECORD, THERE, "B", False, "compute"),
        (inputs(resampling="nearest"), RECORD, THERE, "AB", False, "no scene"),
        (A_ONLY, RECORD, {COMPOSITE: MISSING}, "B", False, "compute"),
        (A_ONLY, RECORD, {COMPOSITE: CHANGED}, "B", False, "compute"),
        (NOTHING, RECORD, {COMPOSITE: CHANGED}, "AB", False, "no scene"),
        (A_ONLY, RECORD, {COMPOSITE: COPIED}, "B", False, "keep earlier"),
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
    now: Json, record: Json | None, files: dict[str, FileState], failed: str, overwrite: bool, action: Action
) -> None:
    assert decide(now, Earlier(record, files), set(failed), overwrite=overwrite).action == action


def test_a_band_of_a_product_that_failed_in_another_band_may_still_be_up_to_date() -> None:
    """B failed in some band, and this composite does not feel it."""
    assert decide(AB, Earlier(RECORD, THERE), {"B"}, overwrite=False).action == "keep"


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
    earlier = Earlier(RECORD, THERE) if there else Earlier(None, {COMPOSITE: MISSING})
    reason = decide(now, earlier, set(failed), overwrite=False).reason
    assert all(word in reason for word in words), reason
    assert ("removed" in reason) == ("removed" in words)
