"""``python -m benchmarks.startup``: what help, bad input and small runs cost, next to importing what a run needs.

Each command is a process of its own, and its cost is the CPU time (user and system) of that process and of all that it
starts. The small run makes one cell of four dates (five scenes) in two bands, with a Prefect server of its own; the
same command again has nothing to do; nor has a run that finds 10,000 composites of 1,000 scenes. The yardstick is one
process that imports numpy, pandas, shapely, numba and GDAL. Commands and yardstick are measured in turn, and the ratio
is taken in each round, so that a busy machine changes both sides alike.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import shapely

from benchmarks import kept
from benchmarks.meter import metered, report
from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell
from s2sr_sandbox.archive import make_archive
from s2sr_sandbox.grid import Grid

ROOT = Path(__file__).resolve().parents[1]
YARDSTICK = (0, [sys.executable, "-c", "import numpy, pandas, shapely, numba; from osgeo import gdal, ogr, osr"])
_PIPELINE = [sys.executable, str(ROOT / "s2sr_pipeline.py")]
_GRID = [sys.executable, str(ROOT / "make_grid.py")]
_RUN = ["--bbox", "0", "0", "1", "1", "--start", "2019-06-01", "--end", "2019-09-01", "--work-dir", "run"]
#: Each command with its exit code.
COMMANDS = {
    "help": (0, [*_PIPELINE, "--help"]),
    "version": (0, [*_PIPELINE, "--version"]),
    "bad_option": (2, [*_PIPELINE, "--colour", "red"]),
    "bad_value": (2, [*_PIPELINE, "--bbox", "1", "2", "3", "x"]),
    "missing_file": (2, [*_PIPELINE, *_RUN, "--grid-csv", "none.csv"]),
    "grid_help": (0, [*_GRID, "--help"]),
    "grid_bad_value": (2, [*_GRID, "--bbox", "1", "2", "3", "x"]),
    "grid_missing_file": (2, [*_GRID, "--bbox", "0", "0", "1", "1", "--out", "out.csv", "--within", "none.gpkg"]),
}


#: The small run: its cell, its bands, and its work folder.
_CELL, _BANDS, _FOLDER = Gridcell("a", shapely.box(-149.64, 68.62, -149.56, 68.64)), ("B04", "B11"), "small"
_SMALL = ["--bbox", *map(str, _CELL.bounds), "--grid-csv", "cells.csv", "--source", "archive", "--bands", *_BANDS,
          "--start", "2015-01-01", "--end", "2100-01-01", "--tap", "--work-dir", _FOLDER]  # fmt: skip
SMALL_RUN = (0, [*_PIPELINE, *_SMALL])
#: Composites and scenes that a large run finds as they were.
LARGE = 10_000, 1_000
_NOTHING = "nothing_to_do", "nothing_to_do_10000"
#: Of Linux's prctl(2): children whose parent has ended become those of this process.
_PR_SET_CHILD_SUBREAPER = 36


def cpu(code: int, command: list[str], folder: Path) -> float:
    """CPU seconds of a process, which must end with ``code``, and of all processes that it started."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    with metered() as used:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
        with contextlib.suppress(ChildProcessError):  # those that end a moment later
            while True:
                os.waitpid(-1, 0)
    if done.returncode != code:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.decode()}")
    return used["cpu"]


def measure(rounds: int, runs: int) -> dict[str, float]:
    """The median ratio of each command to the yardstick, and the yardstick's median in CPU seconds.

    Of the small run and its repetition there are ``runs`` measurements, of all others ``rounds``.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ratios: dict[str, list[float]] = {name: [] for name in (*COMMANDS, "small_run", *_NOTHING)}
    yardsticks = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_archive(folder / "archive", Grid.utm(-149.6, 68.63, 200, zone=5), dates=4, bands=_BANDS)
        write_gridcells([_CELL], folder / "cells.csv")
        (folder / "large").mkdir()
        large = 0, [*_PIPELINE, *kept.make(folder / "large", *LARGE)]
        # Once without measuring: Python writes its bytecode, and what is made once per installation is made.
        for code, command in (YARDSTICK, *COMMANDS.values(), SMALL_RUN):
            cpu(code, command, folder)
        for number in range(max(rounds, runs)):
            yardsticks.append(cpu(*YARDSTICK, folder))
            for label, (code, command) in COMMANDS.items() if number < rounds else ():
                ratios[label].append(cpu(code, command, folder) / yardsticks[-1])
            if number < runs:
                shutil.rmtree(folder / _FOLDER)
                for label in ("small_run", _NOTHING[0]):
                    ratios[label].append(cpu(*SMALL_RUN, folder) / yardsticks[-1])
                ratios[_NOTHING[1]].append(cpu(*large, folder / "large") / yardsticks[-1])
    medians = {label: statistics.median(values) for label, values in ratios.items() if values}
    return {"yardstick_cpu_seconds": statistics.median(yardsticks), **medians}


def main() -> int:
    """Measure; the last line of the output is one JSON object, smaller is better."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description="What starting costs.")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each command; default: %(default)s")
    parser.add_argument("--runs", type=int, default=3, help="measurements of small runs; default: %(default)s")
    given = parser.parse_args()
    figures = measure(given.rounds, given.runs)
    for label, figure in figures.items():
        print(f"{label:24}{figure:6.2f}")
    report({label: round(figure, 3) for label, figure in figures.items()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
