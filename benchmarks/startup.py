"""``python -m benchmarks.startup``: what help and bad input cost, next to importing the packages that a run needs.

Each command is a process of its own, and its cost is the CPU time (user and system) of that whole process. The
yardstick is one process that imports numpy, pandas, shapely, numba and GDAL. Commands and yardstick are measured in
turn, and the ratio is taken in each round, so that a busy machine changes both sides alike.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.meter import metered, report

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


def cpu(code: int, command: list[str], folder: Path) -> float:
    """CPU seconds of one process, which must end with ``code``."""
    with metered() as used:
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    if done.returncode != code:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.decode()}")
    return used["cpu"]


def measure(rounds: int) -> dict[str, float]:
    """The median ratio of each command to the yardstick, and the yardstick's median in CPU seconds."""
    ratios: dict[str, list[float]] = {name: [] for name in COMMANDS}
    yardsticks = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        for code, command in (YARDSTICK, *COMMANDS.values()):  # once without measuring: Python writes its bytecode
            cpu(code, command, folder)
        for _ in range(rounds):
            yardsticks.append(cpu(*YARDSTICK, folder))
            for label, (code, command) in COMMANDS.items():
                ratios[label].append(cpu(code, command, folder) / yardsticks[-1])
    medians = {label: statistics.median(values) for label, values in ratios.items()}
    return {"yardstick_cpu_seconds": statistics.median(yardsticks), **medians}


def main() -> int:
    """Measure; the last line of the output is one JSON object, smaller is better."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description="What help and bad input cost.")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each command; default: %(default)s")
    figures = measure(parser.parse_args().rounds)
    for label, figure in figures.items():
        print(f"{label:24}{figure:6.2f}")
    report({label: round(figure, 3) for label, figure in figures.items()})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
