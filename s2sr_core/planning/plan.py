"""What a run would do: its cells, its products, the bytes it would read or download, its units of work."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from s2sr_core.cells.gridcell_csv import read_gridcells
from s2sr_core.cells.gridcells import Gridcell, select_gridcells
from s2sr_core.errors import InputError
from s2sr_core.geo import geometry, projection
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.outputs.summary import counted
from s2sr_core.parameters import RunParameters
from s2sr_core.periods import span_of
from s2sr_core.planning.units import DOWNLOADS, composite_units, most_units, shares
from s2sr_core.products.bands import RESOLUTION, SCL, TILE_SIDE
from s2sr_core.products.baselines import lists_tiles
from s2sr_core.products.partial_images import MOST_SEARCHED, WHOLE_FROM
from s2sr_core.products.safe import Product, band_files
from s2sr_core.products.tiles import GRANULE, extent_of, outline_of
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.occupancy import kernel_reach, nearby_pixels
from s2sr_core.selection.candidates import Candidate, selected_products
from s2sr_core.selection.judge import find_products
from s2sr_core.selection.near_cells import CellsNear
from s2sr_core.selection.observations import observations_of
from s2sr_core.sources import source_of
from s2sr_core.sources.source import ProductDescription, RemoteProduct

#: Size of a full band at CDSE, bytes by metres per pixel: of 20 m 25 to 35 MB. And of SCL, 0.5 to 3 MB.
_BAND_BYTES, _SCL_BYTES = {20: 28e6, 10: 110e6}, 2e6


def choose_gridcells(parameters: RunParameters) -> list[Gridcell]:
    """The cells of ``grid_csv`` that share area with ``bbox``.

    Raises
    ------
    InputError
        If the file is bad, no cell meets the box, or composites cannot be in the CRS asked for.
    """
    if (problem := projection.problem_of(parameters.crs)) is not None:
        raise InputError("crs", parameters.crs, *problem)
    cells = select_gridcells(read_gridcells(parameters.grid_csv), geometry.box(parameters.bbox))
    if not cells:
        raise InputError("bbox", parameters.bbox, f"meets no gridcell of {parameters.grid_csv}", "check both")
    for cell in cells:
        try:
            cell.bounds_in(parameters.crs)
        except ValueError as error:
            remedy = "choose another crs, or a bbox without that cell"
            raise InputError("crs", parameters.crs, f"does not fit: gridcell {cell.cell_id} {error}", remedy) from error
    return cells


def outside_area_of_use(crs: str, cells: Sequence[Gridcell]) -> str:
    """Which cells lie outside the area for which ``crs`` is meant, as a sentence; empty if none does."""
    bounds = shapely.bounds([cell.polygon for cell in cells])
    outside = np.flatnonzero(~projection.is_in_area_of_use(crs, bounds))
    if not len(outside):
        return ""
    first = cells[outside[0]].cell_id
    return f"{len(outside)} of {len(cells)} gridcells ({first} …) lie outside the area of use of {crs}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do.

    Attributes
    ----------
    cells: the selected gridcells.
    found: every product that the source holds, whether it counts, and why not.
    text: cells, products by status, bytes and units of work, one line each.
    """

    cells: tuple[Gridcell, ...]
    found: tuple[Candidate[Any], ...]
    text: str

    def __str__(self) -> str:
        return self.text


def plan(parameters: RunParameters, workers: int) -> Plan:
    """What a run would do: cells, products by status, bytes, units of work. Nothing is written.

    Raises
    ------
    InputError, SourceError
        If the input is bad, or the source of products cannot be asked.
    """
    cells, bands, source = choose_gridcells(parameters), parameters.bands, source_of(parameters)
    found = find_products(source, parameters, cells)
    statuses = Counter(candidate.status for candidate in found)
    products = selected_products(found)
    observations = observations_of(found, keep_duplicates=parameters.keep_duplicates)
    units = len(shares(observations, DOWNLOADS if source.fetches else most_units(workers)))
    if source.fetches:
        amount = _to_download(products, cells, parameters)
    else:
        there = [source.open(product) for product in products]
        size = bytes_to_read(there, bands, parameters.resolution)
        amount = f"to read     {size / 1e6:.1f} MB of {' '.join(bands)} and SCL"
    copies = bytes_of_copies(products, cells, bands, parameters.resolution)
    periods = parameters.periods
    in_periods = f" in {counted(len(periods), 'period')} ({span_of(periods)})" if parameters.every else ""
    left_out = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()) if status != "selected")
    together = RunContext(parameters).is_joint
    composites = composite_units(cells, [], bands, workers, periods, together=together)
    outside = outside_area_of_use(parameters.crs, cells)
    text = "\n".join(
        [
            f"gridcells   {len(cells)}",
            *([f"crs         {outside}"] if outside else []),
            f"products    {len(products)} of {len(found)} found" + (f" ({left_out})" if left_out else ""),
            amount,
            f"decoded     at most {copies / 1e9:.2g} GB in tmp/, each copy until its last cell is done",
            f"composites  {len(cells) * len(bands) * len(periods)}" + in_periods,
            f"units       {units} of phase 1, {len(composites)} of phase 2, on {workers} workers",
        ]
    )
    return Plan(tuple(cells), tuple(found), text)


def _to_download(products: Sequence[RemoteProduct], cells: Sequence[Gridcell], parameters: RunParameters) -> str:
    bands, scl = parameters.bands, len(products) * _SCL_BYTES
    whole, in_ranges = bytes_of_bands(products, cells, parameters.resolution)
    text = f"to download about {_amount(len(bands) * whole + scl)} of {' '.join(bands)} and SCL"
    if not parameters.scl_first:
        return text
    text += f", less the bands that are not needed once SCL is there (first, {_amount(scl)})"
    if parameters.stage == "download":
        return text
    option = " with --download auto" if parameters.download == "whole" else ""
    return f"{text}\nin ranges   about {_amount(len(bands) * in_ranges + scl)}, if CDSE gives ranges of bytes{option}"


def _amount(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def bytes_of_bands(
    products: Sequence[ProductDescription], cells: Sequence[Gridcell], resolution: int = RESOLUTION
) -> tuple[float, float]:
    """Bytes of an image of each product, whole, and in ranges: those JPEG 2000 tiles that meet a cell.

    Nothing is known of clouds yet. If tiles are not listed, about as many bytes come in vain. Of an image of which too
    much is wanted for ranges, the whole counts.
    """
    size = _BAND_BYTES[resolution]
    counts = Counter((product.name.tile, lists_tiles(product.name.baseline)) for product in products)
    tiles = sorted({tile for tile, _ in counts})
    near = CellsNear(cells).footprints([outline_of(tile) for tile in tiles])
    shares = {tile: share_of_tiles(tile, some, resolution) for tile, some in zip(tiles, near, strict=True)}
    saved = 0.0
    for (tile, is_listed), count in counts.items():
        if shares[tile] <= (WHOLE_FROM if is_listed else MOST_SEARCHED):
            saved += count * (1.0 - (1 if is_listed else 2) * shares[tile])
    return size * len(products), size * (len(products) - saved)


def share_of_tiles(tile: str, cells: Sequence[Gridcell], resolution: int = RESOLUTION) -> float:
    """The share of the pixels of whole granules of the MGRS tile ``tile`` that is in JPEG 2000 tiles near ``cells``."""
    extent, metres = extent_of(tile), TILE_SIDE[resolution] * resolution
    count = math.ceil(GRANULE / metres)
    grid = RasterGrid(f"EPSG:{extent.epsg}", (extent.west, metres, 0.0, extent.north, 0.0, -metres), (count, count))
    nearby = nearby_pixels(tuple(cells), outline_of(tile), grid, kernel_reach((1.0, 1.0)) * resolution / metres)
    sides = np.minimum(np.arange(1, count + 1) * metres, GRANULE) - np.arange(count) * metres
    window = nearby.window
    areas = np.outer(sides[window.y0 : window.y1], sides[window.x0 : window.x1])
    return float(areas[nearby.pixels].sum() / GRANULE**2)


def bytes_to_read(products: Sequence[Product], bands: Sequence[str], resolution: int = RESOLUTION) -> int:
    """Size of the images of ``bands`` and SCL that are there."""
    files = (band_files(product, (SCL, *bands), resolution, hashed=False) for product in products)
    return sum(file.size for each in files for file in each.found.values())


def bytes_of_copies(
    products: Sequence[ProductDescription],
    cells: Sequence[Gridcell],
    bands: Sequence[str],
    resolution: int = RESOLUTION,
) -> float:
    """Size of all decoded copies without any cloud and if none were removed: two bytes per pixel of each band."""
    polygons = [cell.polygon for cell in cells]
    latitudes = shapely.bounds(polygons)[:, [1, 3]].mean(axis=1)
    pixels = shapely.area(polygons) * (geometry.METRES_PER_DEGREE / resolution) ** 2 * np.cos(np.radians(latitudes))
    stops, near = CellsNear(cells).indices([product.footprint for product in products])
    sums = np.concatenate([[0.0], np.cumsum(pixels[near])])
    return float(2 * len(bands) * np.minimum(sums[stops[1:]] - sums[stops[:-1]], (GRANULE / resolution) ** 2).sum())
