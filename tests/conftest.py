"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No test asserts on time.
settings.register_profile("s2sr", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("s2sr")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real imagery and metadata in a folder beside the checkout; a clone by itself has none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder ../shared/data with real imagery is not beside the checkout")
    return folder
