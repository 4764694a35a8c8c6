"""The commands of the tutorial and the recipes, run as a reader would; the messages of troubleshooting, looked for."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from s2sr_sandbox.archive import make_archive
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.server import SandboxSettings, running

ROOT = Path(__file__).resolve().parents[1]
_FENCE = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PARTS = ("deployments", "flows", "s2sr", "s2sr_core", "tasks")


def script(page: str) -> str:
    """All commands of a page as one script for ``sh``, in their order."""
    parts = ["set -eu"]
    for language, code in _FENCE.findall((ROOT / "docs" / page).read_text(encoding="utf-8")):
        parts.append(code if language == "sh" else f"python - <<'PYTHON'\n{code}PYTHON\n")
    return "\n".join(parts)


def run(page: str, folder: Path, environment: dict[str, str]) -> str:
    """What the commands of a page print, in a folder that is the home of their user, too."""
    programs = Path(sys.executable).parent
    own = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder), "PREFECT_HOME": str(folder / "prefect")}
    done = subprocess.run(
        ["sh", "-c", script(page)],
        cwd=folder,
        env={**os.environ, **own, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_tutorial_runs_against_the_sandbox(tmp_path: Path) -> None:
    """With the account that it writes down, and its own dates: products of 2022, 2023 and 2024."""
    make_archive(tmp_path / "cdse", Grid.utm(-149.6, 68.63, 800), dates=6, bands=("B02", "B03", "B04"))
    settings = SandboxSettings(username="you@example.org", password="YOUR_PASSWORD")
    with running(tmp_path / "cdse", settings) as sandbox:
        addresses = {name: value for name, value in sandbox.environment().items() if name.startswith("S2SR_")}
        (tmp_path / "reader").mkdir()
        printed = run("tutorial.md", tmp_path / "reader", addresses)
    assert "to download" in printed
    assert re.search(r"composites of 6 cells from [3-6] scenes: 18 written", printed) or "9 composites" in printed, (
        printed
    )
    assert "mean of B04/B02 where there is a value: " in printed
    assert (tmp_path / "reader" / "toolik" / "report.html").exists()
    assert re.search(r"\d+ composites, \d+ files: \d+ as recorded$", printed.strip()), printed


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_recipes_run_on_the_sandboxs_archive(tmp_path: Path) -> None:
    printed = run("recipes.md", tmp_path, {})
    assert "['2019' '2022' '2023' '2024']" in printed
    assert "#SBATCH" in printed
    assert printed.count("gridcells   ") == 2, "two plans"


def test_what_the_pages_show_are_commands_that_are_run() -> None:
    """Other languages than those of :data:`_FENCE` are for reading: R."""
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
