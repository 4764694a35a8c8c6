"""``python -m benchmarks.workload [quick|full]``: make the products for the measurements, if they are missing.

Twelve full granules (5490 × 5490 pixels of 20 m, JPEG 2000 tiles of 640 × 640) of the sandbox's landscape at 69° N,
under the clouds of :mod:`benchmarks.clouds`. To save the time of encoding, a band holds pixels only in the tiles that
the selected cells touch; the others are nodata, and are never read. SCL is complete.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import clouds, tiles
from benchmarks.cases import GRID, REPEATED, SCENES, SIZES, Size
from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.parameters import RunParameters
from s2sr_core.products.bands import SCL
from s2sr_core.products.baselines import implied_offset
from s2sr_core.products.names import ProductName
from s2sr_core.products.safe import band_files, read_product
from s2sr_sandbox.archive import acquisitions, summer_dates
from s2sr_sandbox.grid import mgrs_tile
from s2sr_sandbox.jp2 import MAX_DN
from s2sr_sandbox.landscape import Landscape
from s2sr_sandbox.products import write_product

#: Share of each granule that is masked: fair weather and overcast, as in a season in the north.
MASKED = (0.83, 0.35, 0.25, 0.60, 0.40, 0.95, 0.30, 0.70, 0.20, 0.45, 0.83, 0.35)
#: Standard deviation of the noise in DN, with which a band has about 8.9 bits per pixel.
NOISE = 50.0
_CLOUD_DN, _CLOUD_SLOPE = 6_500.0, 1.5
#: Increase it when pixels change: products of an older version are then made again.
_VERSION = 2


def make(size: Size) -> None:
    """Make what ``size`` needs and does not have yet."""
    recipe = {"version": _VERSION, "cells": list(size.cells), "bands": list(size.bands), "masked": list(MASKED)}
    mark = size.folder / "workload.json"
    if mark.exists() and json.loads(mark.read_text(encoding="utf-8")) == recipe:
        return
    shutil.rmtree(size.folder, ignore_errors=True)
    size.granules.mkdir(parents=True)
    context = get_context("spawn")
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=context) as pool:
        blocks = list(GRID.blocks(1 << 19))
        for _ in pool.map(partial(_ground, size), blocks, range(len(blocks))):
            pass
        parts = range(len(blocks))
        truth = {
            band: np.concatenate([np.load(size.folder / f"{band}_{part}.npy") for part in parts])
            for band in (*size.bands, SCL)
        }
        for band, array in truth.items():
            np.save(size.folder / f"{band}.npy", array)
        for made in pool.map(partial(_scene, size), range(SCENES)):
            print(f"  {made}", flush=True)
    for leftover in size.folder.glob("*.npy"):
        leftover.unlink()
    many = size.case("c").source
    for path in sorted(size.granules.glob("*.SAFE")):
        for name in _repeated(ProductName.parse(path.name)):
            link_as(path, many / name.folder)
    for source in (size.granules, many):
        write_gridcells(SIZES["full"].case("b").cells, source / "gridcells.csv")
    mark.write_text(json.dumps(recipe), encoding="utf-8")


def block_statistics(size: Size) -> list[dict[str, float]]:
    """For each granule: the share masked, and the shares of tiles and of blocks of 64² without a valid pixel."""
    masked = RunParameters.model_fields["scl_mask"].default
    statistics = []
    for path in sorted(size.granules.glob("*.SAFE")):
        file = band_files(read_product(path), (SCL,))[SCL]
        valid = ~np.isin(gdal.Open(str(file.path)).ReadAsArray(), masked)
        empty = {f"empty_{block}": float(clouds.blocks_without(valid, block).mean()) for block in (tiles.TILE, 64)}
        statistics.append({"masked": float(1 - valid.mean()), **empty})
    return statistics


def bits_a_pixel(size: Size) -> float:
    """Mean size of the bands' files over the pixels of the tiles that hold any."""
    written = tiles.touched(GRID, size.case("b").cells)
    pixels = sum(
        w * h for _, _, w, h in (tiles.pixels_of((r, c), GRID.shape) for r, c in np.argwhere(written).tolist())
    )
    files = [path for band in size.bands for path in size.granules.rglob(f"*_{band}_20m.jp2")]
    return 8.0 * sum(path.stat().st_size for path in files) / (pixels * len(files))


def link_as(product: Path, target: Path) -> None:
    """The same images as the product of another day, whose metadata say so."""
    sensed, other = product.name.split("_")[2], target.name.split("_")[2]
    for path in (path for path in product.rglob("*") if path.is_file()):
        copy = target / str(path.relative_to(product)).replace(sensed, other)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jp2":
            os.link(path, copy)
        else:
            text = path.read_text(encoding="utf-8")
            copy.write_text(text.replace(product.name, target.name).replace(sensed, other), encoding="utf-8")


def _repeated(name: ProductName) -> Iterator[ProductName]:
    """``name`` sensed on this and the following days; the passes are further apart than that."""
    for days in map(timedelta, range(REPEATED)):
        yield replace(name, sensing_time=name.sensing_time + days, discriminator=name.discriminator + days)


def _ground(size: Size, rows: slice, part: int) -> None:
    """Write DN of the clear ground and its SCL for some rows of the granule."""
    lon, lat = GRID.centres(rows)
    pieces: dict[str, list[NDArray[np.uint16]]] = {band: [] for band in (*size.bands, SCL)}
    for x, y in zip(lon, lat, strict=True):  # a row at a time stays in the processor's cache
        ground = Landscape().ground(x, y)
        for band in size.bands:
            pieces[band].append(np.rint(10_000 * ground.reflectance(band)).astype(np.uint16))
        pieces[SCL].append(ground.classes().astype(np.uint16))
    for key, lines in pieces.items():
        np.save(size.folder / f"{key}_{part}.npy", np.stack(lines))


def _scene(size: Size, number: int) -> str:
    """Write the product ``number``; returns its name."""
    lon, lat = GRID.centre
    name = acquisitions(lon, mgrs_tile(lon, lat, zone=5), [summer_dates(SCENES)[number]])[0].name
    field = clouds.field(number + 1, GRID.shape)
    above = field - np.float32(clouds.exceeded_by(field, MASKED[number]))
    scl = _classes(np.load(size.folder / f"{SCL}.npy").astype(np.uint8), above)
    opacity = np.clip(_CLOUD_SLOPE * above, 0.0, 0.95)
    shade = np.where(scl == 3, np.float32(0.4), np.float32(1.0))
    written = np.kron(tiles.touched(GRID, size.case("b").cells), np.ones((tiles.TILE, tiles.TILE), bool))
    written = written[: GRID.shape[0], : GRID.shape[1]]
    random = np.random.default_rng(number)
    offset = -(implied_offset(name.baseline) or 0)
    arrays: dict[str, NDArray[np.uint16]] = {}
    for band in size.bands:
        ground = np.load(size.folder / f"{band}.npy")[written]
        seen = ground * shade[written] * (1 - opacity[written]) + _CLOUD_DN * opacity[written]
        seen += NOISE * random.standard_normal(len(seen), dtype=np.float32) + offset
        arrays[band] = np.zeros(GRID.shape, np.uint16)
        arrays[band][written] = np.clip(np.rint(seen), 1, MAX_DN).astype(np.uint16)
    return write_product(size.granules, name, GRID, arrays, scl).name


def _classes(ground: NDArray[np.uint8], above: NDArray[np.float32]) -> NDArray[np.uint8]:
    """SCL: thick clouds inside, thin ones, shadows and unclassified pixels along their edges."""
    shadow = np.roll(above, (-75, -50), (0, 1)) > 0.2
    edge = np.where(shadow, np.uint8(3), np.where(above > 0.05, np.uint8(10), np.uint8(7)))
    cloud = np.where(above > 0.4, np.uint8(9), np.uint8(8))
    return np.where(above > 0.15, cloud, np.where(above > 0, edge, ground)).astype(np.uint8)


def main() -> int:
    """Make the size named on the command line, ``quick`` by default."""
    gdal.SetConfigOption("GDAL_NUM_THREADS", "1")
    size = SIZES[sys.argv[1] if len(sys.argv) > 1 else "quick"]
    make(size)
    print(f"{size.granules}: {bits_a_pixel(size):.2f} bits per pixel")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
