"""What all tests share: their groups, their time limits, and a process that can be interrupted."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_TESTS = Path(__file__).resolve().parent
#: The folders of the slow group: they start a Slurm, MPI, a whole service or a browser.
SLOW_FOLDERS = ("hpc", "service")
#: Seconds for a test of the slow or long group: its fixtures start whole systems, and one of its runs takes minutes.
SLOW_LIMIT, LONG_LIMIT = 1200, 3600

# No test asserts on time.
settings.register_profile("s2sr", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("s2sr")


def pytest_configure() -> None:
    """Let SIGINT interrupt again. In the background and under nohup, shells have processes ignore it, and their
    children inherit that: a test that ends a program by Ctrl-C would wait for the end in vain."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests into their groups."""
    for item in items:
        folder = item.path.relative_to(_TESTS).parts[0]
        if folder in SLOW_FOLDERS and item.get_closest_marker("long") is None:
            item.add_marker(pytest.mark.slow)
        for group, limit in (("slow", SLOW_LIMIT), ("long", LONG_LIMIT)):
            if item.get_closest_marker(group) is not None and item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(limit))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real imagery and metadata in a folder beside the checkout; a clone by itself has none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder ../shared/data with real imagery is not beside the checkout")
    return folder
