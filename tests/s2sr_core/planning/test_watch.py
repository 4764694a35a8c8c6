from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from s2sr_core.planning.watch import once_a_day, unseen_products
from s2sr_core.selection.candidates import Candidate, Status


@pytest.mark.parametrize(
    ("table", "new"),
    [
        (None, ["a", "b"]),
        ("no table at all", ["a", "b"]),
        ("product,status\na,selected\n", ["b"]),
        ("product,status\na,not needed\nb,duplicate\n", []),
        ("product,status\na,offline\nb,failed\n", ["a", "b"]),
    ],
)
def test_products_that_count_and_that_the_last_run_has_not_seen_are_new(
    tmp_path: Path, table: str | None, new: list[str]
) -> None:
    path = tmp_path / "query_manifest.csv"
    if table is not None:
        path.write_text(table)
    statuses: list[tuple[str, Status]] = [("b", "selected"), ("c", "filtered"), ("a", "selected")]
    found: list[Candidate[Any]] = [Candidate(title, None, status) for title, status in statuses]
    assert unseen_products(found, path) == new


def test_the_key_of_the_same_news_is_the_same_for_a_day() -> None:
    here, day = Path("/data/lena"), date(2026, 7, 1)
    key = once_a_day(here, ["a", "b"], day)
    assert key == once_a_day(here, ["a", "b"], day)
    assert (
        len(
            {
                key,
                once_a_day(here, ["a"], day),
                once_a_day(here, ["a", "b"], date(2026, 7, 2)),
                once_a_day(Path("x"), ["a", "b"], day),
            }
        )
        == 4
    )
