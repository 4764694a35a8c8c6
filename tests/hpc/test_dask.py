"""A run on a Dask cluster that others have started, over TLS; the cluster outlives it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import dask
import distributed
import numpy as np
import shapely
from support.dask_cluster import dask_cluster
from support.scenes import parameters_for, product_name, write_scene

from deployments.clusters.security import certificate_and_key
from flows.pipeline import pipeline
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid

CELLS = [
    Gridcell(f"c{column}", shapely.box(west, 68.625, west + 0.01, 68.635))
    for column, west in enumerate((-149.62, -149.61, -149.60, -149.59))
]


def test_composites_are_those_of_a_run_on_this_machine_and_the_cluster_goes_on(
    tmp_path: Path, prefect_server: None
) -> None:
    """The files for TLS are those of Dask's own configuration; the names of both workers end with the same number."""
    rng, grid = np.random.default_rng(0), Grid.utm(-149.6, 68.63, 100, zone=5)
    for number in range(3):
        write_scene(tmp_path / "archive", product_name(number), grid, rng, ("B04",))
    for name, text in zip(("cert", "key"), certificate_and_key(), strict=True):
        (tmp_path / f"{name}.pem").write_text(text)
    settings = {"distributed.comm.require-encryption": True, "distributed.comm.tls.ca-file": str(tmp_path / "cert.pem")}
    for role in ("client", "scheduler", "worker"):
        settings |= {f"distributed.comm.tls.{role}.{part}": str(tmp_path / f"{part}.pem") for part in ("cert", "key")}
    variables = {f"DASK_{name.upper().replace('.', '__').replace('-', '_')}": str(settings[name]) for name in settings}
    one = ["--nthreads", "1"]
    with (
        dask.config.set(settings),
        dask_cluster(tmp_path, {"a-7": one, "b-7": one}, protocol="tls", **variables) as file,
        distributed.Client(scheduler_file=str(file), set_as_default=False) as client,
    ):
        client.wait_for_workers(2, timeout=240)
        sums = []
        for cluster in ({"cluster": "dask", "scheduler": str(file)}, {"workers": 1}):
            work_dir = tmp_path / f"run{len(sums)}"
            parameters = parameters_for(tmp_path, tmp_path / "archive", CELLS, work_dir=work_dir, **cluster)
            state = pipeline(**dict(parameters), return_state=True)
            assert state.name == "Completed", state.message
            composites = Workspace(work_dir).composites.rglob("*.tif")
            sums.append({path.name: sha256(path.read_bytes()).hexdigest() for path in composites})
        assert len(sums[0]) == 4
        assert sums[0] == sums[1]
        logs = {path.stem for path in Workspace(tmp_path / "run0").logs.glob("pipeline_rank*.log")}
        assert logs == {"pipeline_rank0", "pipeline_rank1", "pipeline_rank2"}
        assert len(client.nthreads()) == 2
