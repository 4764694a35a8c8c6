"""The main job from end to end on this machine: ``make demo``, or ``python -m deployments.demo``.

Makes products of a known landscape, serves them from a sandbox CDSE on loopback, and then runs the commands that a user
would run: a grid, and the pipeline with query, download and composites.
"""

from __future__ import annotations

from s2sr_core.import_path import leave_out_current_folder
from s2sr_core.installation import require_gdal

if __name__ == "__main__":  # before anything is imported that may lie in the current folder, or needs GDAL
    leave_out_current_folder()
    require_gdal("demo")

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

from s2sr_core.import_path import environment_of_child
from s2sr_core.outputs.quicklook import draw_date_and_composite
from s2sr_core.products.safe import read_product
from s2sr_core.workspace import Workspace
from s2sr_sandbox.archive import make_archive
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.server import SandboxSettings, running

_BOX = (-149.69, 68.58, -149.51, 68.68)
_CELL_SIZE = 0.1
_BANDS = ("B02", "B03", "B04")


def main() -> int:
    """Run the demo in ``demo/`` below the current folder; returns the pipeline's exit code."""
    folder = Path("demo")
    shutil.rmtree(folder, ignore_errors=True)
    print("Making six dates of a landscape that is known exactly, as CDSE would have them …", flush=True)
    make_archive(folder / "cdse", Grid.utm(-149.6, 68.63, 800), dates=6, bands=_BANDS)
    workspace = Workspace(folder / "run")
    with running(folder / "cdse", SandboxSettings()) as sandbox:
        environment = {
            **environment_of_child(),
            **sandbox.environment(),
            "PREFECT_HOME": str((folder / "prefect").absolute()),
        }
        environment.pop("PREFECT_API_URL", None)
        box = [str(value) for value in _BOX]
        grid = ["--bbox", *box, "--cell-size", str(_CELL_SIZE), "--out", str(folder / "gridcells.csv")]
        _call("s2sr-make-grid", "make_grid", grid, environment)
        window = ["--start", "2019-06-01", "--end", "2025-01-01", "--bands", *_BANDS]
        options = ["--tap", "--count", "--quicklook", "--work-dir", str(workspace.work_dir)]
        words = ["--bbox", *box, "--grid-csv", str(folder / "gridcells.csv"), *window, *options]
        code = _call("s2sr-pipeline", "s2sr_pipeline", words, environment)
    if code == 0:
        print(f"picture     {_picture(workspace, folder / 'composite.png')}: one cloudy date, and the composite")
    return code


def _call(program: str, module: str, words: list[str], environment: dict[str, str]) -> int:
    """Run a command line of this project as its user would, with the interpreter that runs the demo."""
    print(f"\n$ {program} {shlex.join(words)}", flush=True)
    return subprocess.run([sys.executable, "-P", "-m", module, *words], env=environment, check=False).returncode  # noqa: S603


def _picture(workspace: Workspace, target: Path) -> Path:
    """The cloudiest product that was used, next to the composite of the cell with the most valid pixels."""
    scenes = pd.read_csv(workspace.scene_index)
    cloudiest = scenes[scenes["status"] == "selected"].sort_values("cloud_cover").iloc[-1]
    composites = pd.read_csv(workspace.composite_index).sort_values("valid_share")
    cell_id = str(composites["cell_id"].iloc[-1])
    draw_date_and_composite(workspace, cell_id, read_product(Path(cloudiest["path"])), target)
    return target


if __name__ == "__main__":
    raise SystemExit(main())
