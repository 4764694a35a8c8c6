"""Pauses between tries: long enough for the servers of this world, and for tests far too long."""

from __future__ import annotations

import pytest

from s2sr_core import stopping
from s2sr_core.sources.cdse import auth
from tasks.products import download_products, query_products

_SHORT = 0.02


def shorten_pauses(patch: pytest.MonkeyPatch) -> None:
    """Whatever this process waits for is looked at soon again; what it does between pauses, and how often, stays."""
    pause = stopping.pause
    patch.setattr(stopping, "pause", lambda seconds: pause(min(seconds, _SHORT)))
    for name in ("_FIRST_PAUSE", "_LONGEST_PAUSE", "_BETWEEN_LOGINS"):
        patch.setattr(auth, name, _SHORT)
    for task in (query_products, download_products):
        patch.setattr(task, "retry_delay_seconds", 0)
