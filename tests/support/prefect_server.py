"""Prefect's server for tests, with tables that are made once: that takes more seconds than all else of its start."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from deployments.server.own_server import DATABASE
from deployments.server.run_server import SETTINGS
from s2sr_core.files import locked
from s2sr_core.user_folders import cache_folder

_PREPARE = "import sys, pathlib; from deployments.server.own_server import prepare; prepare(pathlib.Path(sys.argv[1]))"


@contextlib.contextmanager
def prefect_server() -> Iterator[None]:
    """Flows of the block run against a server of their own, with the services that the server of a run has."""
    from prefect.testing import utilities  # 3 s that the collection of tests need not spend

    folder = Path(tempfile.mkdtemp(prefix="s2sr-tests-"))  # the harness removes it
    make_tables(folder)
    (folder / DATABASE).rename(folder / "prefect-test.db")
    with (
        mock.patch.object(utilities, "mkdtemp", return_value=str(folder)),
        mock.patch.dict(os.environ, SETTINGS),
        utilities.prefect_test_harness(server_startup_timeout=600),
    ):
        yield


def make_tables(home: Path) -> None:
    """Put the database of a new server into ``home``, its PREFECT_HOME; only one of several test processes makes it."""
    home.mkdir(parents=True, exist_ok=True)
    with locked(cache_folder() / "prefect-tests.lock", wait=True):
        environment = {**os.environ, "PREFECT_HOME": str(home)}
        subprocess.run([sys.executable, "-c", _PREPARE, str(home / DATABASE)], env=environment, check=True)
