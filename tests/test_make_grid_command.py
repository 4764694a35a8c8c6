from __future__ import annotations

import csv
import math
import re
import sys
from pathlib import Path

import pytest

import make_grid
from s2sr_core.parameters import GridParameters


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command line: exit code, stdout, stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["make_grid.py", *words])
        try:
            code = make_grid.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def cells_in(path: Path) -> list[tuple[str, float, float]]:
    with path.open(newline="") as file:
        return [(row["cell_id"], float(row["xmin"]), float(row["ymin"])) for row in csv.DictReader(file)]


def test_the_example_of_the_issue_in_small(command, tmp_path: Path) -> None:
    """Toolik's cell and its eastern neighbour."""
    out = tmp_path / "cells.csv"
    code, stdout, stderr = command(
        "--bbox", "-149.7", "68.6", "-149.4", "68.7", "--cell-size", "0.25", "--out", str(out)
    )
    assert (code, stderr) == (0, "")
    assert stdout == f"2 gridcells of 0.25 degrees: {out}\n"
    assert cells_in(out) == [("r0634c0121", -149.75, 68.5), ("r0634c0122", -149.5, 68.5)]


def test_the_pan_arctic_grid_has_every_cell_once(command, tmp_path: Path) -> None:
    """−180 … 180 by 60 … 84 in quarter degrees: 1440 × 96, written out and read again by their own numbers."""
    out = tmp_path / "panarctic_0p25_gridcells.csv"
    assert command("--bbox", "-180", "60", "180", "84", "--cell-size", "0.25", "--out", str(out))[0] == 0
    cells = cells_in(out)
    assert len(cells) == len({cell_id for cell_id, _, _ in cells}) == 1440 * 96
    for cell_id, xmin, ymin in cells[::997]:
        assert cell_id == f"r{math.floor((ymin + 90) * 4):04d}c{math.floor((xmin + 180) * 4):04d}"


def test_dashes_and_under_scores_are_alike(command, tmp_path: Path) -> None:
    outs = []
    for option in ("--cell-size", "--cell_size", "--cell_size=0.5", "--cell-size=0.5"):
        out = tmp_path / f"{len(outs)}.csv"
        words = [option] if "=" in option else [option, "0.5"]
        assert command("--bbox", "0", "0", "1", "1", *words, "--out", str(out))[0] == 0
        outs.append(out.read_text())
    assert len(set(outs)) == 1
    assert outs[0].count("\n") == 5


def test_numbers_may_be_written_with_exponents(command, tmp_path: Path) -> None:
    """−1e-3 … 1e-3 lies in four cells around 0/0; −1e1 … 0 in ten."""
    out = tmp_path / "cells.csv"
    assert command("--bbox", "-1e-3", "-1e-3", "1e-3", "1e-3", "--cell-size", "1e0", "--out", str(out))[0] == 0
    assert [cell[1:] for cell in cells_in(out)] == [(-1, -1), (0, -1), (-1, 0), (0, 0)]
    assert command("--bbox", "-1e1", "-.5", "-0", "0.", "--cell-size", "1", "--out", str(out))[0] == 0
    assert len(cells_in(out)) == 10


def test_a_box_may_cross_the_antimeridian(command, tmp_path: Path) -> None:
    out = tmp_path / "cells.csv"
    assert command("--bbox", "179.5", "70", "-179.75", "70.25", "--out", str(out))[0] == 0
    assert [cell[1] for cell in cells_in(out)] == [179.5, 179.75, -180]


def test_the_path_may_start_at_home(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command("--bbox", "0", "0", "1", "1", "--out", "~/cells.csv")[0] == 0
    assert (tmp_path / "cells.csv").exists()


def test_help_tells_every_parameter_and_the_exit_codes(command) -> None:
    code, stdout, _ = command("--help")
    assert code == 0
    text = re.sub(r"\s+", " ", stdout)
    assert text.startswith("usage: s2sr-make-grid ")
    for name, field in GridParameters.model_fields.items():
        assert f"--{name.replace('_', '-')} " in text
        assert field.description in text
    assert "exit codes: 0 done 1 failed 2 bad input" in text
    assert "Default: 0.25." in text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"bbox": "10 60 9 61 0"}, "unexpected argument '0'; see s2sr-make-grid --help."),
        ({"bbox": "10 60 9"}, "argument --bbox: expected 4 arguments; see s2sr-make-grid --help."),
        (
            {"bbox": "10 61 11 60"},
            "bbox = '10 61 11 60': covers no area; write xmin ymin xmax ymax, with ymin < ymax "
            "(xmin > xmax crosses the antimeridian).",
        ),
        (
            {"bbox": "60 -180 84 180"},
            "bbox = '60 -180 84 180': a latitude is not between -90 and 90; write xmin ymin xmax ymax in degrees, "
            "longitude before latitude.",
        ),
        (
            {"cell-size": "0.7"},
            "cell_size = '0.7': does not divide 180° into whole cells; use one like 0.1, 0.25 or 0.5.",
        ),
        (
            {"cell-size": "0"},
            "cell_size = '0': is too small; give 0.001 or more.",
        ),
        (
            {"cell-size": "-1e-1"},
            "cell_size = '-0.1': is too small; give 0.001 or more.",
        ),
        (
            {"cell-size": "quarter"},
            "cell_size = 'quarter': is not a number; give a number.",
        ),
        (
            {"bbox": "-180 -90 180 90", "cell-size": "0.01"},
            "cell_size = '0.01': gives 648000000 cells in this bbox, more than 10000000; "
            "use larger cells, or several files for parts of the area.",
        ),
        ({"bbox": None}, "bbox = '': is required; add --bbox."),
        ({"out": None}, "out = '': is required; add --out."),
        ({"colour": "red"}, "unknown option --colour; see s2sr-make-grid --help."),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    command, tmp_path: Path, changes: dict[str, str | None], sentence: str
) -> None:
    options = {"bbox": "10 60 11 61", "out": str(tmp_path / "cells.csv")} | changes
    words = [word for name, value in options.items() if value is not None for word in (f"--{name}", *value.split())]
    code, stdout, stderr = command(*words)
    assert (code, stdout) == (2, "")
    assert stderr == f"s2sr-make-grid: {sentence}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_vector_file_that_is_not_there_is_bad_input(command, tmp_path: Path) -> None:
    code, _, stderr = command("--bbox", "0", "0", "1", "1", "--out", str(tmp_path / "c.csv"), "--within", "no.gpkg")
    assert code == 2
    assert stderr.startswith("s2sr-make-grid: within = '")
    assert stderr.endswith(": does not exist; give the path of a vector file of polygons.\n")
    assert stderr.count("\n") == 1


def test_an_output_that_cannot_be_written_is_bad_input(command, tmp_path: Path) -> None:
    code, _, stderr = command("--bbox", "0", "0", "1", "1", "--out", str(tmp_path))
    assert code == 2
    assert re.search(r": is a folder; give the path of a CSV to write\.\n$", stderr)
