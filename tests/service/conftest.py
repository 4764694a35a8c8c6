"""One service for all tests of this folder, stopped by Ctrl-C at their end.

In its folder lies a module that nobody must import. It is no other, because Prefect itself puts the working folder of a
deployment first while it imports the flow.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import psutil
import pytest
from support.serving import ROOT, Service
from support.traps import lay_traps, trapped


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    shutil.copy(ROOT / "prefect.yaml", lay_traps(folder, ["queue.py"]))
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
    assert trapped(folder) == []
    assert "Traceback" not in running.output.read_text()
