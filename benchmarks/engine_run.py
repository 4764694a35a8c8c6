"""``python -m benchmarks.engine_run --case b [--size quick] [--engine fast] …``: one engine on one case, metered.

It calls the functions that the pipeline's tasks call, in the flow's order, without Prefect: select cells
and products, prepare each product, composite each unit. With ``--workers N`` the units are done by N processes, which
have imported everything before the clock starts. The last line of the output is JSON.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain
from multiprocessing import current_process, get_context
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

from benchmarks.cases import SIZES
from benchmarks.meter import metered, peak, report
from s2sr_core.composites.composite import Outcome, composite_cell
from s2sr_core.engines import ENGINES
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.planning.schedule import Schedule
from s2sr_core.planning.units import (
    CompositeUnit,
    SceneUnit,
    cell_groups,
    composite_units,
    most_units,
    scene_unit,
    shares,
)
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.scene import Preparation
from s2sr_core.selection.judge import find_products
from s2sr_core.selection.line import Line
from s2sr_core.selection.observations import observations_of, stand
from s2sr_core.sources import source_of

#: gdalwarp's default, pixels.
_DEFAULT_THRESHOLD = 0.125


def main() -> int:
    """Run one engine once."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.engine_run", description="One engine on one case, metered."
    )
    parser.add_argument("--size", choices=SIZES, default="quick", help="size of the workload; default: %(default)s")
    parser.add_argument(
        "--case",
        choices=("a", "b", "c"),
        required=True,
        help="a: one cell; b: adjacent cells; c: many scenes on one cell",
    )
    parser.add_argument("--engine", choices=ENGINES, help="engine; by default that of a run")
    parser.add_argument("--cells", nargs="+", help="only these cells; a sample")
    parser.add_argument("--bands", nargs="+", help="only these bands; a sample")
    parser.add_argument("--scenes", type=int, help="only this many products; a sample")
    parser.add_argument("--check-files", choices=("once", "never"), default="once", help="default: %(default)s")
    parser.add_argument("--default-threshold", action="store_true", help="warp at gdalwarp's default error threshold")
    parser.add_argument(
        "--workers", type=int, default=0, help="number of worker processes; by default this process does everything"
    )
    parser.add_argument("--keep", type=Path, help="folder for the run, which is kept; by default a temporary folder")
    given = parser.parse_args()
    if given.default_threshold:
        _warp_as_gdalwarp()
    case = SIZES[given.size].case(given.case)
    work_dir = given.keep or Path(mkdtemp(prefix="run-", dir=SIZES[given.size].folder))
    parameters = case.parameters(work_dir, given.engine).model_copy(update={"check_files": given.check_files})
    if given.bands:
        parameters = parameters.model_copy(update={"bands": given.bands})
    try:
        result = _run(parameters, given.cells, given.scenes, given.workers)
    finally:
        if given.keep is None:
            shutil.rmtree(work_dir, ignore_errors=True)
    report({"engine": parameters.engine, **result})
    return 0


def _run(
    parameters: RunParameters, only: Sequence[str] | None, scenes_at_most: int | None, workers: int
) -> dict[str, Any]:
    with Pool(workers) as pool, metered() as used:
        cells = [cell for cell in choose_gridcells(parameters) if only is None or cell.cell_id in only]
        found = find_products(source_of(parameters), parameters, cells)
        observations = observations_of(found, keep_duplicates=parameters.keep_duplicates)[:scenes_at_most]
        schedule = Schedule(cell_groups(cells, parameters.bands, max(workers, 1), parameters.periods), observations)
        units = [
            scene_unit(
                [(Line(each, fetches=False).contenders(bands=True), schedule.cells_near(each)) for each in share]
            )
            for share in shares(observations, most_units(max(workers, 1)))
        ]
        preparations = list(chain(*pool.map(partial(_prepare, parameters), units)))
        phase_1 = time.perf_counter()
        errors = [error for preparation in preparations for error in preparation.errors]
        if errors:
            raise RuntimeError(f"{errors[0]}")
        scenes = [preparation.scene for preparation in preparations if preparation.scene is not None]
        work = composite_units(cells, scenes, parameters.bands, max(workers, 1), parameters.periods)
        outcomes = list(chain(*pool.map(partial(_composite, parameters), work)))
        phase_2 = time.perf_counter() - phase_1
        RunContext(parameters).workspace.clear_tmp()
        peaks = pool.peaks()
        pool.close()  # inside, so that the CPU of the workers is counted
    if failed := [outcome for outcome in outcomes if outcome.status != "written"]:
        raise RuntimeError(f"{failed[0]}")
    return {
        **used,
        "wall_phase_2": phase_2,
        "peak_of_a_worker": max(peaks, default=used["peak"]),
        "workers": workers,
        "cells": len(cells),
        "bands": len(parameters.bands),
        "scenes": len(scenes),
        "units": len(work),
        "valid": sum(outcome.valid for outcome in outcomes),
        "owned": sum(outcome.owned for outcome in outcomes),
    }


class Pool:
    """Processes that do units of work, or this process if there are to be none."""

    def __init__(self, workers: int) -> None:
        self._pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn")) if workers else None
        self._workers = workers

    def __enter__(self) -> Self:
        if self._pool is not None:  # each imports this module before it answers
            list(self._pool.map(_wait, [1.0] * self._workers))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def map(self, function: Any, units: Sequence[Any]) -> Any:
        """The results of all units, in their order."""
        return map(function, units) if self._pool is None else self._pool.map(function, units)

    def peaks(self) -> list[int]:
        """The largest resident memory of each worker, bytes."""
        if self._pool is None:
            return []
        return list(self._pool.map(_peak, [0.2] * self._workers))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def _wait(seconds: float) -> None:
    time.sleep(seconds)


def _peak(seconds: float) -> int:
    time.sleep(seconds)  # so that each worker answers once
    return peak()


def _rank() -> int:
    return int((current_process()._identity or (1,))[0])


def _prepare(parameters: RunParameters, unit: SceneUnit) -> list[Preparation]:
    context = RunContext(parameters, _rank())
    standings = [stand(context, contenders, cells) for contenders, cells in unit.observations]
    return [standing.preparation for some in standings for standing in some if standing.preparation is not None]


def _composite(parameters: RunParameters, unit: CompositeUnit) -> list[Outcome]:
    context = RunContext(parameters, _rank())
    return [
        outcome
        for cell, scenes in unit.cells
        for outcome in composite_cell(context, cell, unit.bands, scenes, unit.failed_products, unit.periods)
    ]


def _warp_as_gdalwarp() -> None:
    """Give warped VRTs GDAL's default error threshold. The program itself has no such option, on purpose."""
    exact = gdal.WarpOptions

    def roughly(*args: Any, **kwargs: Any) -> Any:
        return exact(*args, **{**kwargs, "errorThreshold": _DEFAULT_THRESHOLD})

    gdal.WarpOptions = roughly


if __name__ == "__main__":
    raise SystemExit(main())
