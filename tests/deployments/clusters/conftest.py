"""A batch system that needs nothing installed, known to the program under the name ``queue``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import shapely
import yaml
from support import queue_command
from support.scenes import parameters_for

from deployments.clusters import CLUSTERS
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.parameters import RunParameters
from s2sr_core.workspace import Workspace


@pytest.fixture
def queue_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "queue"
    folder.mkdir()
    monkeypatch.setenv("S2SR_TEST_QUEUE", str(folder))
    monkeypatch.setitem(CLUSTERS, "queue", "support.local_queue:LocalQueue")
    yield folder
    left = [path for path in folder.glob("*.json") if queue_command.running(path)]
    for path in left:
        queue_command.cancel(folder, path.stem)
    assert not left


@pytest.fixture
def queue_parameters(queue_folder: Path, tmp_path: Path) -> Callable[..., RunParameters]:
    """Makes the parameters of a run on that batch system; keywords change the site file.

    Only the class needs to be registered to be used; for its name to be given with ``--cluster``, it is added to the
    type of the parameter.
    """

    def make(**changes: Any) -> RunParameters:
        site = {"queue": "main", "ranks": 1, "launcher": "", "memory": "300 MiB", "interface": "lo", "idle": 1}
        (tmp_path / "site.yaml").write_text(yaml.safe_dump(site | changes))
        cell = Gridcell("a", shapely.box(0, 0, 1, 1))
        parameters = parameters_for(tmp_path, tmp_path, [cell], cluster="slurm", site=tmp_path / "site.yaml")
        Workspace(parameters.work_dir).tmp.mkdir(parents=True)
        return parameters.model_copy(update={"cluster": "queue"})

    return make
