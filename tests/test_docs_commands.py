"""The pages that teach: their commands are run as a reader would; messages of troubleshooting are the program's."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import shapely
from support.scenes import parameters_for, pixels, prepare, write_scene

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import composite_cell
from s2sr_core.products.names import ProductName
from s2sr_core.run_context import RunContext
from s2sr_core.workspace import Workspace
from s2sr_sandbox.archive import make_archive
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.server import SandboxSettings, running

ROOT = Path(__file__).resolve().parents[1]
_FENCE = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PARTS = ("deployments", "flows", "s2sr", "s2sr_core", "tasks")


def script(page: str) -> str:
    """All commands of a page, in their order, as one for ``sh``, which ends at the first that fails."""
    parts = ["set -eu"]
    for language, code in _FENCE.findall((ROOT / "docs" / page).read_text(encoding="utf-8")):
        parts.append(code if language == "sh" else f"python - <<'PYTHON'\n{code}PYTHON\n")
    return "\n".join(parts)


def run(page: str, folder: Path, environment: dict[str, str]) -> str:
    """What the commands of a page print, in a folder that is also the home of their reader."""
    own = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder)}
    own["PREFECT_HOME"] = str(folder / "prefect")
    done = subprocess.run(
        ["sh", "-c", script(page)],
        cwd=folder,
        env={**os.environ, **own, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    return done.stdout


@pytest.mark.slow
def test_the_tutorial_runs_against_the_sandbox(tmp_path: Path) -> None:
    """With the account that it writes down, and products of its own months."""
    days = [date(2022, 7, 11), date(2023, 7, 16), date(2024, 7, 21)]
    make_archive(tmp_path / "cdse", Grid.utm(-149.6, 68.63, 800), dates=days, bands=("B02", "B03", "B04"))
    reader = tmp_path / "reader"
    reader.mkdir()
    with running(tmp_path / "cdse", SandboxSettings(username="you@example.org", password="YOUR_PASSWORD")) as sandbox:
        addresses = {name: value for name, value in sandbox.environment().items() if name.startswith("S2SR_")}
        printed = run("tutorial.md", reader, addresses)
    assert "to download" in printed
    assert "18 composites of 6 cells from 3 scenes: 18 written" in printed
    assert re.search(r"mean of B04/B02 where there is a value: \d\.\d\d", printed)
    assert (reader / "toolik" / "report.html").exists()
    assert (reader / "toolik" / "composites" / "mosaic_true_colour_median.vrt").exists()
    assert not (reader / "toolik-wide" / "imagery_raw").exists()
    assert re.search(r"18 composites.*as recorded", printed.splitlines()[-1]), printed.splitlines()[-3:]


@pytest.mark.long
def test_the_recipes_and_the_page_about_python_run_on_the_sandboxs_archive(tmp_path: Path) -> None:
    printed = run("recipes.md", tmp_path, {})
    assert "['2019' '2022' '2023' '2024']" in printed
    assert "#SBATCH" in printed
    assert printed.count("gridcells   ") == 2, "two plans"
    printed = run("python.md", tmp_path, {})  # on the archive and the grid of the recipes
    assert "18 composites of 6 cells" in printed
    index = float(printed.splitlines()[-1])
    assert -1 < index < 1


@pytest.mark.slow
def test_the_lines_of_r_read_the_composites_of_a_year(tmp_path: Path) -> None:
    """Two cells and two years, of which R takes one."""
    has_terra = (
        shutil.which("Rscript")
        and not subprocess.run(["Rscript", "-e", "library(terra)"], capture_output=True, check=False).returncode
    )
    if not has_terra:
        pytest.skip("R with terra (Debian's package r-cran-terra) is not installed")
    rng, grid = np.random.default_rng(3), Grid.utm(-149.6, 68.63, 80, zone=5)
    for year in (2023, 2024):
        sensed = datetime(year, 7, 1, 21, 45, 29, tzinfo=UTC)
        name = ProductName("S2A", sensed, "05.10", 72, "05WPS", sensed + timedelta(hours=4))
        write_scene(tmp_path / "archive", name, grid, rng)
    cells = [
        Gridcell(name, shapely.box(west, 68.62, west + 0.01, 68.63)) for name, west in (("a", -149.61), ("b", -149.6))
    ]
    years = {"every": "year", "start": "2023-01-01", "end": "2025-01-01"}
    parameters = parameters_for(tmp_path, tmp_path / "archive", cells, work_dir=tmp_path / "try" / "yearly", **years)
    scenes = [preparation.scene for preparation in prepare(parameters) if preparation.scene]
    for cell in cells:
        composite_cell(RunContext(parameters, rank=1), cell, ["B04"], scenes)
    paths = sorted(Workspace(parameters.work_dir).composites.rglob("*/2024/*_B04_median_clip.tif"))
    values = np.concatenate([pixels(path).ravel() for path in paths])
    (code,) = re.findall(
        r"^```r\n(.*?)^```$", (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    done = subprocess.run(["Rscript", "-"], input=code, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(paths) == 2
    assert float(done.stdout.split()[-1]) == pytest.approx(values[values != -9999].mean() * 1e-4, rel=1e-5)


def test_the_pages_show_commands_python_and_r_alone() -> None:
    """Each of these languages has a test that runs it."""
    for page in ("tutorial.md", "recipes.md", "python.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        assert set(re.findall(r"^```(\w+)$", text, re.MULTILINE)) <= {"sh", "python", "r"}, page


def words() -> str:
    """Every text in the program, in no order."""
    texts = []
    for path in [path for part in _PARTS for path in (ROOT / part).rglob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts += [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
    return "\n".join(texts)


def test_the_messages_of_troubleshooting_are_the_programs() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8").partition("## Results that look wrong")[0]
    messages = [
        message
        for line in text.splitlines()
        if line.startswith("| `")
        for message in re.findall(r"`([^`]+)`", line.split(" | ")[0])
    ]
    assert len(messages) > 15
    there = words()
    fragments = [part.strip() for message in messages for part in message.split("…") if part.strip()]
    assert [fragment for fragment in fragments if fragment not in there] == []
