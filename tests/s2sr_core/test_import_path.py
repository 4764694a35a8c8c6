from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.traps import SENTENCE, lay_traps, trapped

from s2sr_core import import_path
from s2sr_core.import_path import current_folder_left_out, environment_of_child, is_checkout

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with traps in it."""
    monkeypatch.chdir(lay_traps(tmp_path))
    return tmp_path


def of_a_user() -> dict[str, str]:
    """The environment without what this process has for its own children: importing a command is enough for that."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def test_a_child_has_the_project_and_no_relative_entry(folder: Path) -> None:
    child = environment_of_child({"PYTHONPATH": f":/apps/gdal:.:lib:{folder}:/apps/gdal:", "HOME": "/home/me"})
    assert child == {"HOME": "/home/me", "PYTHONSAFEPATH": "1", "PYTHONPATH": f"{ROOT}:/apps/gdal"}
    assert is_checkout()


def test_an_installed_project_needs_no_entry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_path, "ROOT", "/env/lib/python3.12/site-packages")
    assert environment_of_child({"PYTHONPATH": ":"}) == {"PYTHONSAFEPATH": "1"}
    assert environment_of_child({}) == {"PYTHONSAFEPATH": "1"}


def test_the_current_folder_stays_if_it_is_the_project_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", ["", "/apps/gdal"])
    with current_folder_left_out():
        assert sys.path == [str(ROOT), "/apps/gdal"]


def test_the_block_leaves_everything_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["", str(folder), "/apps/gdal"])
    monkeypatch.setenv("PYTHONPATH", ":/apps/gdal")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    with current_folder_left_out():
        assert sys.path == ["/apps/gdal"]
        assert os.environ["PYTHONPATH"] == f"{ROOT}:/apps/gdal"
        assert os.environ["PYTHONSAFEPATH"] == "1"
    assert sys.path == ["", str(folder), "/apps/gdal"]
    assert os.environ["PYTHONPATH"] == ":/apps/gdal"
    assert "PYTHONSAFEPATH" not in os.environ


def test_the_traps_work(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import tasks"], env=of_a_user(), capture_output=True, text=True, check=False
    )
    assert SENTENCE in done.stderr
    assert trapped(folder) == ["tasks"]


@pytest.mark.parametrize("command", [["-m", "s2sr_pipeline"], [str(ROOT / "s2sr_pipeline.py")], ["-m", "make_grid"]])
@pytest.mark.parametrize("inherited", [None, ":", "."])
def test_a_command_finds_itself_and_not_what_lies_where_it_is_typed(
    folder: Path, command: list[str], inherited: str | None
) -> None:
    environment = of_a_user()
    environment |= {} if inherited is None else {"PYTHONPATH": inherited}
    words = [sys.executable, *command, "--help"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--bbox" in done.stdout
    assert trapped(folder) == []


def test_processes_of_multiprocessing_do_not_import_from_there(folder: Path) -> None:
    """Python hands them its own import path, in which the folder stood first."""
    code = """
import sys
sys.path.remove("")
import multiprocessing
from s2sr_core.import_path import current_folder_left_out
sys.path.insert(0, "")
with current_folder_left_out(), multiprocessing.get_context("spawn").Pool(1) as pool:
    print(pool.apply(eval, ("__import__('flows').__file__",)))
    print(pool.apply(eval, ("__import__('queue').__file__",)))
"""
    done = subprocess.run([sys.executable, "-c", code], env=of_a_user(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(ROOT / "flows" / "__init__.py")
    assert trapped(folder) == []
