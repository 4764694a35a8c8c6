"""One pixel of a composite in one product: which source pixels it is made of, and whether they count.

The values are those of the reference rules: the product is prepared as phase 1 prepares it, in a folder of its own, and
the warped VRT is read for this one pixel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.engines.coordinates import Warp, source_coordinates
from s2sr_core.errors import ProductError
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.jp2_check import image_drivers
from s2sr_core.geo.lattice import Window
from s2sr_core.pixels.masks import Mask, SclMask
from s2sr_core.pixels.rules import SCENE_NODATA, harmonised
from s2sr_core.pixels.scl import CLASS_NAMES, SCL_CLASSES
from s2sr_core.products.partial_images import PartialImage, image_path
from s2sr_core.products.safe import BandFile, Product
from s2sr_core.run_context import RunContext
from s2sr_core.scenes import given_masks
from s2sr_core.scenes.classes import read_classes
from s2sr_core.scenes.prepare import classify_product, prepare_product
from s2sr_core.scenes.scene import Scene, SceneBand

Verdict = Literal["used", "masked", "nodata", "outside", "repeated", "not selected", "not needed", "failed"]
#: How far beyond a pixel's edge a centre may fall and still be in it (GDALWarpKernel's).
_EDGE = 1e-10


@dataclass(frozen=True, slots=True)
class SourcePixel:
    """A pixel of a product's images.

    Attributes
    ----------
    column, row: on the images, from 0.
    dn, scl: as stored; None beyond the images, and ``dn`` also if the band is not there.
    harmonised: DN plus offset; None if the pixel does not count.
    reason: why it does not count; empty if it does.
    """

    column: int
    row: int
    dn: int | None
    scl: int | None
    harmonised: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class SceneValue:
    """What a product gives to a pixel of a composite.

    Attributes
    ----------
    product, sensing_time, baseline: of its name.
    verdict, reason: whether it counts, and why not.
    offset: DN added to harmonise the band.
    column, row: where the pixel's centre is on the images, in pixels from the upper left corner of the upper left one.
    source: the four pixels around the centre, which bilinear takes its value from: upper left, upper right, lower left,
        lower right. Nearest takes that which holds the centre; cubic, and a lattice coarser than the scene, take more.
    harmonised: of the source pixel that holds the centre; None if that does not count.
    warped: the value that the composite is made of; None if there is none.
    """

    product: str
    sensing_time: str
    baseline: str
    verdict: Verdict
    reason: str = ""
    offset: int | None = None
    column: float | None = None
    row: float | None = None
    source: tuple[SourcePixel, ...] = ()
    harmonised: int | None = None
    warped: int | None = None


@dataclass(frozen=True, slots=True)
class Pixel:
    """A pixel of a cell's composites, one by one on the cell's lattice."""

    cell: Gridcell
    window: Window


@dataclass(frozen=True, slots=True)
class History:
    """A product at a pixel: the value of each band, and the scene if it could be prepared."""

    values: Mapping[str, SceneValue]
    scene: Scene | None = None


def history_of(context: RunContext, product: Product, pixel: Pixel, *, is_not_needed: bool, why: str = "") -> History:
    """Look at ``product`` at ``pixel``, in each of the context's bands; VRTs are written into the context's folder.

    A product whose bands are not needed may lack them: SCL alone is looked at, and ``why`` says why.
    """
    name = product.name
    blank = SceneValue(str(name), f"{name.sensing_time:%Y-%m-%dT%H:%M:%SZ}", name.baseline, "outside")
    read = classify_product if is_not_needed else prepare_product
    preparation = read(context, product, [pixel.cell])
    problems = {error.band: error.reason for error in preparation.errors}
    scene = preparation.scene
    values: dict[str, SceneValue] = {}
    for band in context.parameters.bands:
        value = replace(blank, offset=product.offset(band).dn)
        try:
            if is_not_needed and scene is not None:
                values[band] = _by_scl(context, scene, value, pixel, why)
            elif scene is not None and (scene_band := scene.band(band)) is not None:
                values[band] = _by_band(context, scene, scene_band, value, pixel)
            else:
                reason = problems.get(band) or next(iter(problems.values()), "has no such band")
                values[band] = replace(value, verdict="failed", reason=reason)
        except (ProductError, RuntimeError) as error:
            reason = error.reason if isinstance(error, ProductError) else " ".join(str(error).split())
            values[band] = replace(value, verdict="failed", reason=reason)
    return History(values, scene)


def _by_band(context: RunContext, scene: Scene, band: SceneBand, value: SceneValue, pixel: Pixel) -> SceneValue:
    lattice = context.parameters.lattice_of(pixel.cell)
    piece = band.piece_for(lattice, pixel.window)
    if piece is None:
        return value
    value = _placed(context, scene, band.file, value, Warp(scene.grid, lattice, piece.window), pixel)
    if value.verdict == "outside":
        return value
    with gdal.Open(str(piece.path)) as dataset:
        warped = int(dataset.ReadAsArray(*pixel.window.offset_in(piece.window), 1, 1)[0, 0])
    if warped != SCENE_NODATA:
        return replace(value, verdict="used", reason="", warped=warped)
    return value


def _by_scl(context: RunContext, scene: Scene, value: SceneValue, pixel: Pixel, why: str) -> SceneValue:
    lattice = context.parameters.lattice_of(pixel.cell)
    value = _placed(context, scene, None, value, Warp(scene.grid, lattice, pixel.window), pixel)
    return value if value.verdict == "outside" else replace(value, verdict="not needed", reason=why)


def _placed(
    context: RunContext, scene: Scene, band: BandFile | None, value: SceneValue, warp: Warp, pixel: Pixel
) -> SceneValue:
    """The value with its source pixels, and the verdict on that which holds the centre, for a pixel without a value."""
    x, y = (float(array[0, 0]) for array in source_coordinates(warp, pixel.window))
    rows, columns = scene.grid.shape
    if not (x >= 0.0 and y >= 0.0 and x + _EDGE <= columns and y + _EDGE <= rows):  # also if not finite
        return value
    offset = value.offset or 0
    left, top = math.floor(x - 0.5), math.floor(y - 0.5)
    places = [(left + i, top + j) for j in (0, 1) for i in (0, 1)]
    centre = (min(int(x + _EDGE), columns - 1), min(int(y + _EDGE), rows - 1))
    pixels = {place: _source_pixel(context, scene, band, offset, place) for place in {*places, centre}}
    holder = pixels[centre]
    is_nodata = holder.dn in (0, SCENE_NODATA)
    return replace(
        value,
        verdict="masked" if holder.reason and not is_nodata else "nodata",
        reason=holder.reason or "its kernel finds no valid pixel",
        column=x,
        row=y,
        source=tuple(pixels[place] for place in places),
        harmonised=holder.harmonised,
    )


def _source_pixel(
    context: RunContext, scene: Scene, band: BandFile | None, offset: int, place: tuple[int, int]
) -> SourcePixel:
    column, row = place
    here = scene.grid.window & Window(column, row, column + 1, row + 1)
    if not here:
        return SourcePixel(column, row, None, None, None, "beyond the images")
    mask = context.mask.on_grid(scene.grid.pixel_metres())
    around = scene.grid.window & Window(
        column - mask.reach, row - mask.reach, column + mask.reach + 1, row + mask.reach + 1
    )
    with _open(scene.scl) as dataset:
        classes = read_classes(dataset, around, scene.scl_factor)
    x, y = here.offset_in(around)
    masked, scl = mask.masked(classes), int(classes[y, x])
    reason = _why_masked(mask, classes, (y, x)) if masked[y, x] else ""
    if scene.given_mask is not None and scene.given_mask.raster is not None:
        masked[y, x] |= given_masks.read(scene.given_mask.raster, here)[0, 0]
        if masked[y, x] and not reason:
            reason = f"by {scene.given_mask.file.name}"
    if band is None:
        return SourcePixel(column, row, None, scl, None, reason)
    if not _is_there(band, here):
        return SourcePixel(column, row, None, scl, None, reason or "its tile was not downloaded")
    dn = _read(band, here)
    value = int(harmonised(dn, masked[y : y + 1, x : x + 1], offset)[0, 0])
    if dn[0, 0] in (0, SCENE_NODATA):
        reason = f"DN {dn[0, 0]} ({'saturated' if dn[0, 0] else 'no data'})"
    return SourcePixel(column, row, int(dn[0, 0]), scl, None if value == SCENE_NODATA else value, reason)


def _is_there(file: BandFile, window: Window) -> bool:
    """Whether the pixels of ``window`` are among those that were downloaded."""
    if not file.is_partial:
        return True
    partial = PartialImage.read(image_path(file.path), file.size, file.checksum)
    return partial is not None and not partial.lacks([window])


def _open(file: BandFile) -> gdal.Dataset:
    return gdal.OpenEx(str(file.path), gdal.OF_RASTER | gdal.OF_READONLY, allowed_drivers=image_drivers())


def _read(file: BandFile, window: Window) -> np.ndarray[Any, Any]:
    with _open(file) as dataset:
        pixels: np.ndarray[Any, Any] = dataset.ReadAsArray(window.x0, window.y0, window.width, window.height)
        return pixels


def _why_masked(mask: Mask, classes: np.ndarray[Any, Any], at: tuple[int, int]) -> str:
    """Which class masks the pixel ``at`` (row, column) of ``classes``: its own, or those that are dilated over it."""
    own = int(classes[at])
    undilated = replace(mask, dilation={}) if isinstance(mask, SclMask) else mask
    if mask.masked_by_class(classes)[at] and undilated.masked(classes)[at]:
        return f"class {own} ({CLASS_NAMES[own]})" if own < len(CLASS_NAMES) else f"{own} is not a class"
    if isinstance(mask, SclMask):
        kept = undilated.masked(classes)
        values = [value for value in sorted(mask.dilation) if _dilated_over(mask, kept & (classes == value), value)[at]]
        return f"dilation of {' and '.join(f'class {value} ({CLASS_NAMES[value]})' for value in values)}"
    return f"rule {mask.name}"


def _dilated_over(mask: SclMask, seeds: np.ndarray[Any, Any], value: int) -> np.ndarray[Any, Any]:
    """What ``mask`` masks around those pixels of a class that it masks for themselves."""
    clear = next(other for other in SCL_CLASSES if other != value)
    return SclMask((value,), {value: mask.dilation[value]}).masked(np.where(seeds, value, clear))
