"""What all tests share: their groups and time limits, how they are spread over processes, and where they run."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

#: The folders of the slow group: they start a Slurm, MPI, a whole service or a browser, once per session.
SLOW_FOLDERS = ("hpc", "service")
#: What takes longest begins first, so that no process is left with it at the end.
_FIRST = (*SLOW_FOLDERS, "flows")
#: Seconds for a test of the slow or long group: its fixtures start whole systems, and one of its runs takes minutes.
SLOW_LIMIT, LONG_LIMIT = 1200, 3000

# No test asserts on time.
settings.register_profile("s2sr", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("s2sr")


def pytest_configure(config: pytest.Config) -> None:
    """Run apart from the user's own Prefect, account, settings and cache, keep bytecode, and let SIGINT interrupt.

    Without bytecode, each process that a test starts compiles whatever it imports, which takes most of its time.

    In the background and under nohup, shells have processes ignore SIGINT, and their children inherit that: a test that
    ends a program by Ctrl-C would wait for the end in vain.
    """
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "CDSE_", "S2SR_")) and not name.startswith("S2SR_TEST_"):
            del os.environ[name]
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    home = os.environ["PREFECT_HOME"] = tempfile.mkdtemp(prefix="s2sr-tests-")
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    os.environ["XDG_CACHE_HOME"] = str(config.rootpath / ".pytest_cache" / "home")
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests into their groups, and into order."""
    for item in items:
        if _folder(item.nodeid) in SLOW_FOLDERS and item.get_closest_marker("long") is None:
            item.add_marker(pytest.mark.slow)
        for group, limit in (("slow", SLOW_LIMIT), ("long", LONG_LIMIT)):
            if item.get_closest_marker(group) is not None and item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(limit))
    items.sort(key=lambda item: _folder(item.nodeid) not in _FIRST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """With ``-n``, tests of a file share a process, and its fixtures; so do those of a folder of the slow group."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return folder if (folder := _folder(nodeid)) in SLOW_FOLDERS else nodeid.partition("::")[0]

    config.option.loadscopereorder = False
    return ByFile(config, log)


def _folder(nodeid: str) -> str:
    """``hpc`` of ``tests/hpc/test_slurm.py::test_…``."""
    return nodeid.partition("::")[0].split("/")[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real imagery and metadata in a folder beside the checkout; a clone by itself has none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder ../shared/data with real imagery is not beside the checkout")
    return folder
