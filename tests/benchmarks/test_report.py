"""The ratios, from rows whose figures are chosen so that each ratio can be checked by hand."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from benchmarks import report
from benchmarks.measure import Run, measured

GIB = 1024**3


def row(case: str, cpu: float, *, wall: float = 1.0, peak: float = 0.5, sample: str = "") -> dict[str, Any]:
    memory = {"peak": peak * GIB, "peak_of_tree": peak * GIB, "peak_of_a_worker": peak * GIB}
    return {"case": case, "what": f"of {case}", "cpu": cpu, "cpu_of_all": cpu, "wall": wall, "read": 1e6} | memory | {
        "sample": sample
    }  # fmt: skip


def results() -> dict[str, Any]:
    rows = {
        "a_reference": row("a", 40.0),
        "a_default_threshold": row("a", 20.0),
        "a_default": row("a", 5.0),
        "a_floor": row("a", 10.0),
        "b_reference": row("b", 320.0, sample="1 of 4 cells"),
        "b_default": row("b", 40.0, peak=0.75),
        "b_floor": row("b", 50.0),
        "b_unchecked": row("b", 32.0),
        "b_odc-stac": row("b", 200.0),
        "b_odc-stac_chunk_1024": row("b", 160.0),
        "b_stackstac": row("b", 240.0),
        "b_stackstac_bottleneck": row("b", 80.0),
        "b_default_workers_1": row("b", 40.0, wall=44.0),
        "b_default_workers_2": row("b", 40.0, wall=22.0),
        "c_default_few": row("c", 5.0, peak=0.8),
        "c_default": row("c", 50.0, peak=1.0),
        "d_half": row("d", 4.5),
        "d": row("d", 9.0, wall=10.0, peak=0.25),
    }
    agreement = {"median_difference": 2.0, "both_valid": 0.999}
    return {
        "size": "quick",
        "default_engine": "fast",
        "rows": rows,
        "checks": {"a_identical": True, "b_odc-stac": agreement},
        "startup": {
            "yardstick_cpu_seconds": 0.625,
            "help": 0.3,
            "missing_file": 0.5,
            "small_run": 20.0,
            "nothing_to_do": 2.0,
            "nothing_to_do_10000": 15.0,
            "version": 0.2,
        },
        "ranges": {
            "one_cell_bytes_vs_counting": 1.0123,
            "one_cell_most_requests_a_band": 4,
            "twelve_cells_bytes_vs_whole": 0.25,
            "one_cell_megabytes": 9.0,
        },
        "machine": "a processor, 2 cores",
        "versions": {"GDAL": "3.13.3"},
        "minutes": 4.0,
        "workload": {"bits_a_pixel": 8.9, "granules": [{"masked": 0.83, "empty_640": 0.31, "empty_64": 0.71}]},
    }


def test_ratios_by_hand() -> None:
    assert report.summary(results()) == {
        "a_vs_reference": 0.125,
        "a_vs_default_threshold": 0.25,
        "a_vs_floor": 0.5,
        "b_vs_reference": 0.125,
        "b_vs_best_peer": 0.25,
        "b_vs_best_peer_with_bottleneck": 0.5,
        "b_vs_floor": 0.8,
        "b_checked_vs_unchecked": 1.25,
        "peak_gib": 1.0,
        "c_peak_vs_12_scenes": 1.25,
        "d_seconds": 10.0,
        "d_cpu_seconds": 9.0,
        "d_vs_imports": 14.4,
        "d_vs_half": 2.0,
        "d_gib": 0.25,
        "two_workers_vs_one": 0.5,
        "help_vs_imports": 0.3,
        "missing_file_vs_imports": 0.5,
        "small_run_vs_imports": 20.0,
        "nothing_to_do_vs_imports": 2.0,
        "nothing_to_do_10000_vs_imports": 15.0,
        "one_cell_bytes_vs_counting": 1.01,
        "one_cell_most_requests_a_band": 4.0,
        "twelve_cells_bytes_vs_whole": 0.25,
        "a_identical_to_reference": True,
        "default_engine": "fast",
        "size": "quick",
    }


def test_the_page_holds_each_row_and_says_what_was_a_sample() -> None:
    made = results() | {"summary": report.summary(results())}
    page = report.page(made)
    assert "| (b) | of b | 320.0 | 1.00 | 6.40 | 1.0 | 0.50 | 1 | 1 of 4 cells; wall, memory and bytes are" in page
    assert "| `b_vs_floor` | 0.8 |" in page
    assert "| 1 | 83 % | 31 % | 71 % |" in page
    assert "those imports took 0.62 s:" in page
    assert "| small run | 20.00 |" in page
    console = Console(width=200, record=True, file=None)
    with console.capture() as shown:
        console.print(report.table(made))
    assert shown.get().count("of b") == 10


def test_a_measured_process_tells_its_own_figures_and_a_sample_is_scaled() -> None:
    told = json.dumps({"cpu": 3.0, "cpu_once": 1.0, "wall": 2.0, "peak": 7, "read": 5})
    run = Run("b_x", "b", "x", ("sh", "-c", f"echo noise; echo '{told}'"), 4.0, "1 of 4 bands")
    assert {"cpu_of_all": 9.0, "cpu": 3.0, "sample": "1 of 4 bands"}.items() <= measured(run).items()
