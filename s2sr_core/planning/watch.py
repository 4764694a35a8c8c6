"""Watching a source: which of its products no run of a work folder has seen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from s2sr_core.selection.candidates import Candidate
from s2sr_core.selection.query_manifest import statuses_in

#: A product of these statuses counts as not seen: another day it may be there, or be readable.
_MAY_CHANGE = ("offline", "failed")


class WatchParameters(BaseModel):
    """Parameters of a watch besides those of the runs that it starts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    deployment: Annotated[
        str,
        Field(
            pattern=r"^[^/]+/[^/]+$",
            description="Deployment that composites new products: flow/name. Parameters that the watch leaves at their "
            "defaults take the values of that deployment.",
        ),
    ] = "s2sr-pipeline/local"


def unseen_products(found: Sequence[Candidate[Any]], table: Path) -> list[str]:
    """Names of the products that count and are not in ``table``, the query manifest or scene index of the last run.

    All of them if there is no such table, or it cannot be read.
    """
    try:
        seen = {name for name, status in statuses_in(table) if status not in _MAY_CHANGE}
    except (OSError, ValueError):
        seen = set()
    return sorted(
        candidate.title for candidate in found if candidate.status == "selected" and candidate.title not in seen
    )


def once_a_day(work_dir: Path, products: Sequence[str], day: date) -> str:
    """A key that is the same for the same news of a folder on the same day: then one run is enough."""
    words = [str(work_dir.absolute()), day.isoformat(), *products]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()
