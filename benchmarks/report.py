"""What the measurements say: ratios, a table for the terminal, a page for the documentation."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
from rich.table import Table

from benchmarks.cases import WORK
from benchmarks.measure import PEERS
from s2sr_core.geo.gdal_runtime import gdal

#: The page that the tables go to, between these lines.
PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
_BEGIN, _END = "<!-- results: make bench-table -->", "<!-- end of results -->"
_GIB = 1024**3
#: Of downloads in ranges: bytes over those that count, over those of whole images, and requests.
_RANGES = ("one_cell_bytes_vs_counting", "one_cell_most_requests_a_band", "twelve_cells_bytes_vs_whole")
_TITLES = {
    "a": "one cell",
    "b": "adjacent cells of one tile",
    "c": "many scenes on one cell, one band",
    "d": "the plan alone",
}


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """The ratios (CPU unless named otherwise) and figures that are claimed; smaller is better."""
    rows = results["rows"]
    cpu = {key: row["cpu_of_all"] for key, row in rows.items()}
    plain = [key for key in rows if key.startswith("b_") and any(key.startswith(f"b_{peer}") for peer in PEERS)]
    compiled = [key for key in plain if key.endswith("_bottleneck")]
    best = min(cpu[key] for key in plain if key not in compiled)
    figures: dict[str, Any] = {
        "a_vs_reference": cpu["a_default"] / cpu["a_reference"],
        "a_vs_default_threshold": cpu["a_default"] / cpu["a_default_threshold"],
        "a_vs_floor": cpu["a_default"] / cpu["a_floor"],
        "b_vs_reference": cpu["b_default"] / cpu["b_reference"],
        "b_vs_best_peer": cpu["b_default"] / best,
        "b_vs_floor": cpu["b_default"] / cpu["b_floor"],
        "b_checked_vs_unchecked": cpu["b_default"] / cpu["b_unchecked"],
        "peak_gib": max(rows[key]["peak_of_a_worker"] for key in _worker_rows(rows)) / _GIB,
        "c_peak_vs_12_scenes": rows["c_default"]["peak"] / rows["c_default_few"]["peak"],
        "d_seconds": rows["d"]["wall"],
        "d_cpu_seconds": rows["d"]["cpu"],
        "d_vs_imports": rows["d"]["cpu"] / results["startup"]["yardstick_cpu_seconds"],
        "d_vs_half": rows["d"]["cpu"] / rows["d_half"]["cpu"],
        "d_gib": rows["d"]["peak_of_tree"] / _GIB,
        "two_workers_vs_one": rows["b_default_workers_2"]["wall"] / rows["b_default_workers_1"]["wall"],
    }
    if compiled:
        figures["b_vs_best_peer_with_bottleneck"] = cpu["b_default"] / min(cpu[key] for key in compiled)
    start = results["startup"]
    shown = ("help", "missing_file", "small_run", "nothing_to_do", "nothing_to_do_10000")
    figures |= {f"{name}_vs_imports": start[name] for name in shown}
    figures |= {name: results["ranges"][name] for name in _RANGES}
    rounded: dict[str, Any] = {key: float(f"{value:.3g}") for key, value in figures.items()}
    return rounded | {
        "a_identical_to_reference": results["checks"]["a_identical"],
        "default_engine": results["default_engine"],
        "size": results["size"],
    }


def _worker_rows(rows: dict[str, Any]) -> list[str]:
    """The rows of the default engine on (b) and (c)."""
    return [key for key in rows if key.startswith(("b_default", "c_default"))]


def table(results: dict[str, Any]) -> Table:
    """Every row, for a terminal."""
    made = Table(title=f"Size: {results['size']}. Default engine: {results['default_engine']}")
    for name in _COLUMNS:
        made.add_column(name, justify="left" if name in ("", "measured", "sample") else "right")
    for cells in _lines(results):
        made.add_row(*cells)
    return made


def page(results: dict[str, Any]) -> str:
    """The results as Markdown: machine, versions, summary, every row, the granules."""
    machine, rows = results["machine"], results["rows"]
    first = f"Size `{results['size']}`, measured in one run of {results['minutes']:.0f} minutes on {machine}."
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    ratios = _markdown(("figure", "value"), ((f"`{key}`", str(value)) for key, value in results["summary"].items()))
    workload = results["workload"]
    granules = _markdown(
        ("granule", "masked", "640² tiles without a valid pixel", "64² blocks without a valid pixel"),
        (
            (str(number), *(f"{100 * granule[key]:.0f} %" for key in ("masked", "empty_640", "empty_64")))
            for number, granule in enumerate(sorted(workload["granules"], key=lambda one: one["masked"]), 1)
        ),
    )
    start = dict(results["startup"])
    yardstick = start.pop("yardstick_cpu_seconds")
    starting = _markdown(
        ("command", "CPU, × importing numpy, pandas, shapely, numba and GDAL"),
        ((key.replace("_", " "), f"{value:.2f}") for key, value in start.items()),
    )
    agreement = _markdown(
        ("program", "median absolute difference, DN", "pixels valid in both"),
        (
            (rows[key]["what"], f"{check['median_difference']:g}", f"{100 * check['both_valid']:.2f} %")
            for key, check in results["checks"].items()
            if isinstance(check, dict)
        ),
    )
    return "\n\n".join(
        [
            first,
            f"Versions: {versions}.",
            ratios,
            _markdown(_COLUMNS, _lines(results)),
            f"Starting, small runs, and runs with nothing to do; those imports took {yardstick:.2f} s:",
            starting,
            "How far the others' medians are from the reference engine's, over the cell of (a):",
            agreement,
            f"The granules, {workload['bits_a_pixel']:.1f} bits per pixel:",
            granules,
        ]
    )


_COLUMNS = ("", "measured", "CPU s", "to reference", "to floor", "wall s", "peak GiB", "read MB", "sample")


def _lines(results: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    rows = results["rows"]
    for row in sorted(rows.values(), key=lambda row: row["case"]):
        case = row["case"]
        ratios = []
        for other in ("reference", "floor"):
            base = rows.get(f"{case}_{other}")
            ratios.append("" if base is None else f"{row['cpu_of_all'] / base['cpu_of_all']:.2f}")
        yield (
            f"({case})",
            row["what"],
            f"{row['cpu_of_all']:.1f}",
            *ratios,
            f"{row['wall']:.1f}",
            f"{row['peak_of_tree'] / _GIB:.2f}",
            f"{row['read'] / 1e6:.0f}",
            f"{row['sample']}; wall, memory and bytes are the sample's" if row["sample"] else "",
        )


def _markdown(header: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    header = list(header)
    return "\n".join(
        [f"| {' | '.join(header)} |", "|" + "---|" * len(header), *(f"| {' | '.join(line)} |" for line in lines)]
    )


def machine() -> str:
    """Processor, cores and memory; no host name."""
    names = [line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    memory = psutil.virtual_memory().total / _GIB
    return f"{names[0] if names else platform.machine()}, {cores} cores, {memory:.0f} GiB of memory, Linux"


def _cpu_lines() -> list[str]:
    return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()


def versions(peers_python: Path) -> dict[str, str]:
    """Versions of our environment and of the other programs'."""
    ours = {"Python": platform.python_version(), "GDAL": gdal.__version__}
    ours |= {name: version(name) for name in ("numpy", "shapely", "pandas")}
    code = (
        "import json, rasterio; from importlib.metadata import version as v;"
        f"print(json.dumps({{**{{n: v(n) for n in {(*PEERS, 'xarray', 'dask', 'rasterio')!r}}},"
        " 'its GDAL': rasterio.__gdal_version__}))"
    )
    theirs = subprocess.run([peers_python, "-c", code], check=True, capture_output=True, text=True).stdout
    return {**ours, **json.loads(theirs)}


def main() -> int:
    """Put the results of a size into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=main.__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=WORK / "results-quick.json")
    given = parser.parse_args()
    results = json.loads(given.results.read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    PAGE.write_text(f"{before}{_BEGIN}\n\n{page(results)}\n\n{_END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
