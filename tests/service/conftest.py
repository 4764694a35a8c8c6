"""One service for all tests of this folder, stopped by Ctrl-C at their end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import psutil
import pytest
from support.prefect_server import make_tables
from support.serving import ROOT, Service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    shutil.copy(ROOT / "prefect.yaml", folder)
    make_tables(folder / "service" / "prefect")
    running = Service(folder)
    running.start()
    family = running.family()
    try:
        yield running
    finally:
        family += running.family()
        code = running.stop()
        alive = [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
        for process in alive:
            process.kill()
        running.api.close()
    assert (code, alive) == (0, [])
    assert "Traceback" not in running.output.read_text()
