"""Help and bad input are answered at once: nothing is imported that computes, queries or orchestrates."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = [
    *("numpy", "pandas", "shapely", "numba", "osgeo"),
    *("prefect", "prefect_dask", "dask", "distributed", "dask_jobqueue", "mpi4py"),
    *("requests", "httpx", "rich"),
]
#: Calls a program once for each list of words, as its script does, and prints the exit code, which of HEAVY are loaded
#: since the process began, and what was printed.
CODE = """
import contextlib, importlib, io, json, sys
root, program, heavy, calls = json.loads(sys.argv[1])
sys.path.insert(0, root)
main = importlib.import_module(program).main
answers = []
for words in calls:
    sys.argv[1:] = words
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            code = main()
        except SystemExit as stop:
            code = stop.code or 0
    loaded = sorted({name.partition(".")[0] for name in sys.modules} & set(heavy))
    answers.append((code, loaded, printed.getvalue()))
print(json.dumps(answers))
"""
PIPELINE = {
    "bbox": "-149.9 68.55 -149.1 68.7",
    "grid-csv": "cells.csv",
    "start": "2019-06-01",
    "end": "2019-09-01",
    "source": "archive",
    "work-dir": "run",
}
GRID = {"bbox": "0 0 1 1", "out": "out.csv"}


def answers(folder: Path, program: str, calls: list[list[str]], before: str = "") -> list[tuple[int, list[str], str]]:
    """Of each call: exit code, heavy packages loaded so far, text printed. All calls are made in one process.

    ``before`` is code that runs first.
    """
    task = json.dumps([str(ROOT), program, HEAVY, calls])
    done = subprocess.run(
        [sys.executable, "-P", "-c", f"{before}\n{CODE}", task], cwd=folder, capture_output=True, text=True, check=True
    )
    return [tuple(answer) for answer in json.loads(done.stdout)]


def words_of(options: dict[str, str | None]) -> list[str]:
    return [word for name, value in options.items() if value is not None for word in (f"--{name}", *value.split())]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With all that a run needs; nothing looks into the files."""
    (tmp_path / "archive").mkdir()
    for name in ("cells.csv", "site.yaml", "file"):
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.parametrize("program", ["s2sr_pipeline", "make_grid"])
def test_help_imports_nothing_heavy(folder: Path, program: str) -> None:
    [(code, loaded, text)] = answers(folder, program, [["--help"]])
    assert (code, loaded) == (0, [])
    assert text.startswith("usage: ")


@pytest.mark.parametrize("program", ["s2sr_pipeline", "make_grid"])
def test_the_version_imports_nothing_heavy(folder: Path, program: str) -> None:
    assert answers(folder, program, [["--version"]])[0][:2] == (0, [])


def test_bad_input_of_the_pipeline_imports_nothing_heavy(folder: Path) -> None:
    changes: list[dict[str, str | None]] = [
        {"colour": "red"},
        {"bbox": None},
        {"bbox": "1 2 3"},
        {"bbox": "1 2 3 x"},
        {"bbox": "68.5 -149.9 68.7 -149.1"},
        {"end": "2019-01-01"},
        {"months": "13"},
        {"bands": "B04 B09"},
        {"scl-dilation": "4=100"},
        {"grid-csv": "none.csv"},
        {"grid-csv": "archive"},
        {"source": "none"},
        {"source": "file"},
        {"site": "none.yaml", "cluster": "slurm"},
    ]
    calls = [words_of({**PIPELINE, **change}) for change in changes]
    calls += [[*call, "--plan"] for call in calls]
    calls += [words_of({**PIPELINE, "work-dir": "file/run"}), ["--repair"], ["--repair", "--work-dir", "run"]]
    calls += [["--doctor", "--work-dir", "~nobody-of-this-name"], ["--repair", "--work-dir", ""]]
    calls += [words_of({**PIPELINE, "source": None, "stage": "composite"})]
    calls += [["--verify", "none"], ["--verify", "file"], ["--verify", "archive"]]
    calls += [["--explain", "1", "x"], ["--explain", "1", "2"], ["--explain", "1", "2", "--work-dir", "run"]]
    found = answers(folder, "s2sr_pipeline", calls)
    assert len(found) == len(calls)
    for call, (code, loaded, text) in zip(calls, found, strict=True):
        assert (code, loaded) == (2, []), call
        assert text.startswith("s2sr-pipeline: "), call
        assert text.count("\n") == 1, call


def test_bad_input_of_the_grid_imports_nothing_heavy_but_a_grid_does(folder: Path) -> None:
    """The last call is of a grid that can be made: the packages looked for are those that it loads."""
    changes: list[dict[str, str | None]] = [
        {"colour": "red"},
        {"bbox": "1 2 3 x"},
        {"out": None},
        {"out": "archive"},
        {"cell-size": "quarter"},
        {"within": "none.gpkg"},
    ]
    *refused, made = answers(folder, "make_grid", [words_of({**GRID, **change}) for change in (*changes, {})])
    for change, (code, loaded, text) in zip(changes, refused, strict=True):
        assert (code, loaded) == (2, []), change
        assert text.startswith("s2sr-make-grid: "), change
        assert text.count("\n") == 1, change
    assert made[:2] == (0, ["numpy", "osgeo", "pandas", "shapely"])


@pytest.mark.parametrize(
    ("program", "prog", "options"),
    [("s2sr_pipeline", "s2sr-pipeline", {**PIPELINE, "source": "archive"}), ("make_grid", "s2sr-make-grid", GRID)],
)
def test_without_gdals_bindings_one_sentence_says_which_extra_to_add(
    folder: Path, program: str, prog: str, options: dict[str, str]
) -> None:
    """Help needs none; the first use does."""
    hidden = "import sys; sys.modules['osgeo'] = None"  # neither found nor imported
    help_answer, answer = answers(folder, program, [["--help"], words_of({**options})], before=hidden)
    assert help_answer[0] == 0
    assert answer[0] == 2
    assert answer[2].startswith(f"{prog}: GDAL's Python bindings (osgeo) are not installed; ")
    assert "pip install 's2sr[gdal-wheel]'" in answer[2]
    assert answer[2].count("\n") == 1
