"""``python -m benchmarks.plan_run``: the plan alone, of 50,000 gridcells and 100,000 products, metered.

From a CSV of gridcells and the answers of a catalogue to the units of work of both phases: read and select cells,
judge each product by name and footprint, drop repetitions, give each product the cells near it, cut both phases into
units. No network, no image: the catalogue has its answers, as bytes of JSON, before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import batched
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from shapely import Polygon

from benchmarks.cases import WORK
from benchmarks.meter import metered, peak, report
from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell, make_gridcells, select_gridcells
from s2sr_core.geo import geometry
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.planning.schedule import Schedule
from s2sr_core.planning.units import DOWNLOADS, cell_groups, shares
from s2sr_core.products.names import ProductName
from s2sr_core.products.safe import BandFile, Product
from s2sr_core.scenes.scene import Scene
from s2sr_core.selection.candidates import selected_products
from s2sr_core.selection.judge import find_products
from s2sr_core.selection.observations import Observation, observations_of
from s2sr_core.selection.query_manifest import read_query_manifest, write_query_manifest
from s2sr_core.sources.cdse.catalogue import Catalogue, parse_entries
from s2sr_core.sources.cdse.http import Http
from s2sr_core.sources.cdse.query import found_in
from s2sr_core.sources.cdse.source import Cdse
from s2sr_core.sources.source import FoundProduct, RemoteProduct, UnusableEntry
from s2sr_sandbox.grid import mgrs_tile

CELLS, FOOTPRINTS = 50_000, 100_000
#: Cells lie in 35 rows from 62° to 70.75° N, from 180° W as far east as there are; after the last column around the
#: globe, in the same rows of the south. So twice as many have the same latitudes, and as many neighbours each.
_CELL_SIZE, _ROWS, _ROWS_FROM, _COLUMNS = 0.25, 35, 62.0, 1440
#: Footprints of whole granules, degrees of latitude; as wide on the ground as high.
_GRANULE = 0.99
#: Products of each tile.
_VISITS = 50
#: No two footprints are the same, not even those of one tile: they differ by up to this many degrees, less than 250 m.
_SHIFT = 0.002
_WORKERS = 8


@dataclass(frozen=True)
class RecordedCatalogue(Catalogue):
    """A catalogue that has its answers ready, page by page, as they would come."""

    answers: tuple[bytes, ...] = ()

    def search(self, area: Polygon, start: datetime, end: datetime) -> Iterator[RemoteProduct | UnusableEntry]:
        """All entries, as a catalogue returns them."""
        for answer in self.answers:
            yield from parse_entries(json.loads(answer)["value"])


@dataclass(frozen=True)
class RecordedSource(Cdse):
    """Copernicus Data Space, whose catalogue answers from memory."""

    catalogue: RecordedCatalogue = field(kw_only=True)

    def find(
        self, cells: Sequence[Gridcell], start: datetime, end: datetime
    ) -> Iterator[FoundProduct[RemoteProduct] | UnusableEntry]:
        """All entries of the recorded catalogue."""
        return found_in(self.catalogue, cells, start, end)


def cells_csv(folder: Path, count: int) -> Path:
    """``count`` cells of 0.25°, as a CSV."""
    columns, north = _columns(count), _ROWS_FROM + _ROWS * _CELL_SIZE
    east = -180.0 + min(columns, _COLUMNS) * _CELL_SIZE
    cells = make_gridcells((-180.0, _ROWS_FROM, east, north), _CELL_SIZE)
    if columns > _COLUMNS:
        east = -180.0 + (columns - _COLUMNS) * _CELL_SIZE
        cells += make_gridcells((-180.0, -north, east, -_ROWS_FROM), _CELL_SIZE)
    write_gridcells(cells[:count], folder / "gridcells.csv")
    return folder / "gridcells.csv"


def _columns(cell_count: int) -> int:
    return -(-cell_count // _ROWS)


def answers(count: int, cell_count: int) -> tuple[bytes, ...]:
    """Pages of :func:`entries`."""
    pages = batched(entries(count, cell_count), RecordedCatalogue.page)
    return tuple(json.dumps({"value": page}).encode() for page in pages)


def entries(count: int, cell_count: int) -> Iterator[dict[str, Any]]:
    """``count`` catalogue entries: tiles where the cells lie, seen again and again, each tenth a reprocessing."""
    random = np.random.default_rng(0)
    places = -(-count // _VISITS)
    along = random.uniform(1.0, _columns(cell_count) * _CELL_SIZE - 1.0, places)
    lat = random.uniform(_ROWS_FROM, _ROWS_FROM + _ROWS * _CELL_SIZE, places)
    lon, lat = along % 360.0 - 180.0, np.where(along < 360.0, lat, -lat)
    tiles = [mgrs_tile(*place) for place in zip(lon.tolist(), lat.tolist(), strict=True)]
    shifts = random.uniform(-_SHIFT, _SHIFT, (count, 2)).tolist()
    first = datetime(2019, 6, 1, 21, tzinfo=UTC)
    for number, (eastward, northward) in enumerate(shifts):
        place, visit = number % places, number // places
        again = visit % 10 == 9
        sensed = first + timedelta(days=5 * (visit - again), seconds=place)
        published = sensed + timedelta(days=1 + 900 * again)
        name = ProductName("S2A", sensed, "05.00" if again else "02.12", 1 + place % 143, tiles[place], published)
        x, y = lon[place] + eastward, lat[place] + northward
        half = _GRANULE / 2 / np.cos(np.radians(y))
        west, east = ((edge + 180) % 360 - 180 for edge in (x - half, x + half))
        south, up = y - _GRANULE / 2, y + _GRANULE / 2
        ring = f"{west:.7f} {south:.7f},{east:.7f} {south:.7f},{east:.7f} {up:.7f},{west:.7f} {up:.7f}"
        yield {
            "Id": str(uuid.UUID(int=number)),
            "Name": name.folder,
            "ContentLength": 800_000_000,
            "Online": True,
            "Footprint": f"geography'SRID=4326;POLYGON (({ring},{west:.7f} {south:.7f}))'",
            "Attributes": [{"Name": "cloudCover", "Value": float(visit % 100)}],
        }


def main() -> int:
    """Plan once."""
    parser = argparse.ArgumentParser(description="What planning a large run costs.")
    parser.add_argument("--cells", type=int, default=CELLS, help="number of gridcells; default: %(default)s")
    parser.add_argument("--footprints", type=int, default=FOOTPRINTS, help="number of products; default: %(default)s")
    given = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    folder = Path(mkdtemp(prefix="plan-", dir=WORK))
    try:
        report(plan(folder, given.cells, given.footprints))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def plan(folder: Path, cell_count: int, footprint_count: int) -> dict[str, Any]:
    """Plan a made-up run in ``folder``; returns figures and counts."""
    pages = answers(footprint_count, cell_count)
    source = RecordedSource(folder, 1, catalogue=RecordedCatalogue(Http(()), "", answers=pages))
    parameters = RunParameters(
        bbox=(-180.0, -90.0, 180.0, 90.0),
        grid_csv=cells_csv(folder, cell_count),
        start="2015-01-01",
        end="2100-01-01",
        work_dir=folder,
    )
    steps: dict[str, dict[str, float]] = {}

    @contextmanager
    def step(name: str) -> Iterator[None]:
        with metered() as steps[name]:
            yield

    before = peak()
    with step("cells"):
        cells = choose_gridcells(parameters)
    with step("query"):
        candidates = find_products(source, parameters, cells)
    with step("manifest"):
        write_query_manifest(folder / "query_manifest.csv", candidates)
        kept = read_query_manifest(folder / "query_manifest.csv")
    with step("units of phase 1"):
        observations = observations_of(kept)
        schedule = Schedule(cell_groups(cells, parameters.bands, _WORKERS, parameters.periods), observations)
        downloads = shares(schedule.observations, DOWNLOADS)
    # Not metered: the workers do this when they open each scene.
    scenes = {
        each.key: [_scene(product, each, schedule) for product in selected_products(each.candidates)]
        for each in observations
    }
    with step("units of phase 2"):
        for observation in observations:
            schedule.settle(observation, scenes[observation.key])
        composites = schedule.units_ready([])
    return {
        **{key: sum(used[key] for used in steps.values()) for key in ("cpu", "wall", "read")},
        "peak": peak(),
        "peak_before": before,
        "steps": {name: used["cpu"] for name, used in steps.items()},
        "cells": len(cells),
        "footprints": len(candidates),
        "selected": len(selected_products(kept)),
        "units": [len(downloads), len(composites)],
        "pairs": sum(len(schedule.cells_near(observation)) for observation in observations),
    }


def _scene(described: RemoteProduct, observation: Observation, schedule: Schedule) -> Scene:
    """A scene as phase 1 would hand it over: here from the footprint, not from the raster's outline."""
    product = Product(described.name, Path(described.id), (), described.cloud_cover, described.footprint, ())
    outline = product.footprint or geometry.box((-180.0, -90.0, 180.0, 90.0))
    cells = tuple(cell.cell_id for cell in select_gridcells(schedule.cells_near(observation), outline))
    grid = RasterGrid("EPSG:4326", (0.0, 1.0, 0.0, 0.0, 0.0, -1.0), (1, 1))
    return Scene(product, grid, outline, (1.0, 1.0), None, BandFile("SCL", product.path, 0, ""), 1.0, cells, ())


if __name__ == "__main__":
    raise SystemExit(main())
