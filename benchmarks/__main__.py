"""``python -m benchmarks [quick|full]``: make the workload, measure everything in one run, print a table and ratios."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import measure, peers, report, workload
from benchmarks.cases import SIZES, WORK, Size


def main() -> int:
    """Measure; the last line of the output is one JSON object of ratios and figures, in which smaller is better."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure everything in one run.")
    parser.add_argument("size", nargs="?", choices=SIZES, default="quick", help="default: %(default)s")
    parser.add_argument(
        "--one-at-a-time", action="store_true", help="measure one program at a time, even in the quick size"
    )
    given = parser.parse_args()
    size, began = SIZES[given.size], time.monotonic()
    # Lines must not wrap if the output is not a terminal.
    console = Console(width=None if sys.stdout.isatty() else 160)
    WORK.mkdir(exist_ok=True)
    console.print("Other programs' environment, and the workload …")
    with ThreadPoolExecutor(1) as thread:
        python = thread.submit(peers.environment)
        workload.make(size)
        pairs = size.name == "quick" and not given.one_at_a_time
        results = measure.Bench(size, python.result()).measure(pairs=pairs)
    console.print("Start-up and small runs, next to importing what a run needs …")
    results["startup"] = _figures_of("benchmarks.startup", "--rounds", "3")
    console.print("Bytes and requests of downloads in ranges …")
    results["ranges"] = _figures_of("benchmarks.ranges_run")
    results["workload"] = {"bits_a_pixel": workload.bits_a_pixel(size), "granules": workload.block_statistics(size)}
    results["machine"] = report.machine()
    results["versions"] = report.versions(python.result())
    results["minutes"] = (time.monotonic() - began) / 60
    results["summary"] = report.summary(results)
    path = _write(size, results)
    console.print(report.table(results))
    console.print(f"{results['minutes']:.1f} minutes; all figures in {path}")
    print(json.dumps(results["summary"]))
    return 0


def _figures_of(module: str, *options: str) -> Any:
    """What the program prints last."""
    words = [sys.executable, "-m", module, *options]
    measured = subprocess.run(words, cwd=measure.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(measured.stdout.splitlines()[-1])


def _write(size: Size, results: dict[str, object]) -> Path:
    path = WORK / f"results-{size.name}.json"
    temporary = path.with_suffix(f".{os.getpid()}.part")
    temporary.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return temporary.replace(path)


if __name__ == "__main__":
    raise SystemExit(main())
