"""A pan-Arctic season through planner and chunking: how many task runs, how much is sent, how long a worker waits."""

from __future__ import annotations

import heapq
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from support.scenes import parameters_for, prepare, product_name, write_scene

from s2sr_core.cells.gridcells import Gridcell, make_gridcells
from s2sr_core.planning.units import CompositeUnit, composite_units
from s2sr_core.scenes.scene import Scene
from s2sr_core.selection.near_cells import CellsNear
from s2sr_sandbox.grid import Grid

CELLS = 50_000
SCENES = 12_000
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12")


@pytest.fixture(scope="module")
def cells() -> list[Gridcell]:
    """Those of a 0.25° grid from 60° N on, in the order of the file."""
    made = make_gridcells((-180, 60, 180, 84), 0.25)
    assert len(made) == 138_240
    return made[:CELLS]


@pytest.fixture(scope="module")
def scenes(cells: list[Gridcell], tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    """One real scene told of the cells of twelve thousand places: each 1.6° × 1° of longitude and latitude."""
    folder = tmp_path_factory.mktemp("scene")
    write_scene(folder / "archive", product_name(), Grid.utm(-149.6, 68.63, 64), np.random.default_rng(0), BANDS)
    here = Gridcell("a", shapely.box(-149.61, 68.625, -149.59, 68.635))
    [preparation] = prepare(parameters_for(folder, folder / "archive", [here], bands=list(BANDS)))
    assert preparation.scene is not None
    near, rng = CellsNear(cells), np.random.default_rng(1)
    top = max(cell.bounds[3] for cell in cells)
    corners = zip(rng.uniform(-180, 178.3, SCENES), rng.uniform(60, top - 1, SCENES), strict=True)
    return [
        replace(
            preparation.scene,
            product=replace(preparation.scene.product, path=Path(f"/archive/{number}")),
            cells=tuple(cell.cell_id for cell in near.footprint(shapely.box(west, south, west + 1.6, south + 1))),
        )
        for number, (west, south) in enumerate(corners)
    ]


def seconds_of(unit: CompositeUnit, rng: np.random.Generator) -> float:
    """A made-up cost: so much for each scene of each cell and band, and half as much again at random."""
    return float(sum(len(found) for _, found in unit.cells) * len(unit.bands) * rng.uniform(0.75, 1.25))


def waits(costs: list[float], workers: int) -> tuple[list[float], float]:
    """How long each worker has nothing to do before the last is done, and when that is; units go out in their order."""
    free = [0.0] * workers
    for cost in costs:
        heapq.heappush(free, heapq.heappop(free) + cost)
    return [max(free) - end for end in free], max(free)


@pytest.mark.parametrize("workers", [8, 48, 100, 128, 200, 256])
def test_a_season_is_a_few_hundred_task_runs_and_keeps_the_workers_busy(
    workers: int, cells: list[Gridcell], scenes: list[Scene]
) -> None:
    units = composite_units(cells, scenes, BANDS, workers)
    assert sum(len(unit.cells) for unit in units) == CELLS
    assert workers <= len(units) <= 350

    rng = np.random.default_rng(workers)
    costs = [seconds_of(unit, rng) for unit in units]
    idle, end = waits(costs, workers)
    assert max(idle) <= max(costs)  # as long as a unit waits, no worker does
    lost = sum(idle) / (workers * end)
    print(f"{workers} workers: {len(units)} units, longest wait {max(idle) / end:.0%}, {lost:.0%} of all time idle")
    assert lost < 0.5


def test_what_goes_through_the_scheduler_fits_into_memory(cells: list[Gridcell], scenes: list[Scene]) -> None:
    """Each unit is sent once, with the scenes of its cells."""
    sizes = [len(pickle.dumps(unit)) for unit in composite_units(cells, scenes, BANDS, 128)]
    print(f"{sum(sizes) / 1e6:.0f} MB in {len(sizes)} units, the largest {max(sizes) / 1e6:.1f} MB")
    assert max(sizes) < 10e6
    assert sum(sizes) < 1e9
