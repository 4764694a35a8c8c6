"""Pauses between tries: long enough for the servers of this world, and for tests far too long."""

from __future__ import annotations

import pytest

from s2sr_core import stopping
from s2sr_core.sources.cdse import auth, breaker
from tasks.products import download_products, query_products

_SHORT = 0.02


def shorten_pauses(patch: pytest.MonkeyPatch) -> None:
    """Whatever this process waits for is looked at soon again; what it does between pauses, and how often, stays."""
    pause = stopping.pause
    patch.setattr(stopping, "pause", lambda seconds: pause(min(seconds, _SHORT)))
    for module, names in (
        (auth, ("_FIRST_PAUSE", "_LONGEST_PAUSE", "_BETWEEN_LOGINS")),
        (breaker, ("_FIRST_PAUSE", "_LONGEST_PAUSE")),
    ):
        for name in names:
            patch.setattr(module, name, _SHORT)
    for task in (query_products, download_products):
        patch.setattr(task, "retry_delay_seconds", 0)
