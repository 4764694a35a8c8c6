"""A run whose jobs are on another host than its flow: they share the work folder and one network, nothing else."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import shapely
import yaml
from support.scenes import parameters_for, product_name, run, write_scene
from support.two_hosts import INTERFACE, NotPossibleError, on_host, two_hosts

from s2sr_core.cells.gridcells import Gridcell
from s2sr_sandbox.grid import Grid

ROOT = Path(__file__).resolve().parents[2]
CELLS = [Gridcell(f"c{n}", shapely.box(west, 68.625, west + 0.01, 68.635)) for n, west in enumerate((-149.61, -149.60))]
#: The command line, with the batch system of :mod:`support.local_queue` in the place of Slurm.
PROGRAM = """
from deployments.clusters import CLUSTERS
CLUSTERS["slurm"] = "support.local_queue:LocalQueue"
import s2sr_pipeline
raise SystemExit(s2sr_pipeline.main())
"""


@pytest.mark.parametrize(
    "addresses", [("10.77.0.1/24", "10.77.0.2/24"), ("fd77::1/64", "fd77::2/64")], ids=["IPv4", "IPv6 alone"]
)
def test_a_job_on_another_host_computes_the_same(tmp_path: Path, addresses: tuple[str, str]) -> None:
    """Scheduler, workers and the run's own Prefect server reach each other over TLS at the interface's addresses."""
    rng, grid = np.random.default_rng(0), Grid.utm(-149.6, 68.63, 100, zone=5)
    for number in range(2):
        write_scene(tmp_path / "archive", product_name(number), grid, rng, ("B04",))
    quiet = parameters_for(tmp_path, tmp_path / "archive", CELLS, work_dir=tmp_path / "quiet")
    run(quiet)
    (tmp_path / "queue").mkdir()
    try:
        with two_hosts(*addresses) as (flow, worker):
            site = {"queue": "main", "ranks": 1, "max_jobs": 1, "memory": "300 MiB", "interface": INTERFACE}
            site["launcher"] = shlex.join(on_host(worker))
            (tmp_path / "site.yaml").write_text(yaml.safe_dump(site))
            words = ["--bbox", *map(str, quiet.bbox), "--grid-csv", str(quiet.grid_csv), "--source", str(quiet.source)]
            words += ["--start", "1970-01-01", "--end", "2100-01-01", "--bands", "B04", "--tap", "--cluster", "slurm"]
            words += ["--site", str(tmp_path / "site.yaml"), "--work-dir", str(tmp_path / "run")]
            inherited = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
            more = {"PYTHONPATH": f"{ROOT}/tests:{ROOT}", "S2SR_TEST_QUEUE": str(tmp_path / "queue")}
            done = subprocess.run(
                [*on_host(flow), sys.executable, "-P", "-c", PROGRAM, *words],
                env=inherited | more | {"PREFECT_HOME": str(tmp_path / "prefect")},
                capture_output=True, text=True, timeout=900, check=False,
            )  # fmt: skip
    except NotPossibleError as reason:
        pytest.skip(f"no network namespaces here: {reason}")
    jobs = "".join(path.read_text() for path in (tmp_path / "run" / "logs" / "jobs").glob("*"))
    assert done.returncode == 0, f"{done.stderr}\n{jobs}"
    assert "Task was destroyed" not in done.stderr
    assert "2 composites of 2 cells from 2 scenes: 2 written" in done.stdout
    assert composites(tmp_path / "run") == composites(tmp_path / "quiet")
    assert "Traceback" not in jobs
    assert "written from" in (tmp_path / "run" / "logs" / "pipeline_rank1.log").read_text()
    assert not list((tmp_path / "run").glob("tmp/keys")) + list((tmp_path / "run").glob("tmp/*.pem"))


def composites(work_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in work_dir.glob("composites/*/*.tif")}
