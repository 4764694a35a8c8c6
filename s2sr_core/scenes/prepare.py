"""Phase 1: one product → its masked and warped VRTs.

The images are opened here for the first time, only with the raster drivers of the formats that products come in: GDAL
recognises a format by its content, and a "JP2" that is really a VRT would read or run whatever its author likes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from s2sr_core.cells.gridcells import Gridcell, select_gridcells
from s2sr_core.disk_space import explained
from s2sr_core.errors import ProductError, Step
from s2sr_core.geo import geometry
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.geometry import spatial_reference
from s2sr_core.geo.jp2_check import image_drivers
from s2sr_core.geo.lattice import WGS84, Bounds, Lattice, Window
from s2sr_core.geo.projection import raster_bounds
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.parameters import RunParameters
from s2sr_core.pixels import vrt
from s2sr_core.pixels.masks import Mask
from s2sr_core.products.bands import SCL, TILE_SIDE
from s2sr_core.products.partial_images import PartialImage, image_path
from s2sr_core.products.safe import BandFile, Product, band_files
from s2sr_core.products.tile_metadata import TILE_METADATA, read_tile_grid
from s2sr_core.run_context import RunContext
from s2sr_core.scenes import checked_files, given_masks, plausible
from s2sr_core.scenes.classes import read_classes
from s2sr_core.scenes.occupancy import BoolArray, NearbyPixels, Occupancy, kernel_reach, nearby_pixels
from s2sr_core.scenes.scene import NOT_CHECKED, Preparation, Scene, SceneBand, WarpedPiece

#: Pixels added around a scene's outline on the lattice: the outline is drawn with straight lines between points.
_MARGIN = 8

#: Suffix of a warped VRT's name, lattice and window.
_Target = tuple[str, Lattice, Window]


def classify_product(
    context: RunContext, product: Product, cells: Sequence[Gridcell], doubtful: Collection[Gridcell] = ()
) -> Preparation:
    """Look at SCL alone: the scene without its bands, or the complete scene if its bands are not needed.

    ``doubtful`` are those of ``cells`` that count only if SCL holds data in or next to them: nothing but the tile says
    that the product may show them. The result names what is wrong with the product.
    """
    try:
        scene = _classified(context, product, cells, doubtful)
        if scene.is_not_needed:
            return _not_needed(context, scene, cells)
    except ProductError as error:
        return Preparation(str(product.name), None, (error,))
    except (RuntimeError, OSError) as error:  # RuntimeError is what GDAL raises
        return Preparation(str(product.name), None, (_open_error(context, product, SCL, error),))
    return Preparation(str(product.name), scene, ())


def prepare_product(
    context: RunContext,
    product: Product,
    cells: Sequence[Gridcell],
    scene: Scene | None = None,
    *,
    has_substitute: bool = False,
) -> Preparation:
    """Open the images of ``product``, write its VRTs and say which of ``cells`` it touches.

    ``scene`` is what :func:`classify_product` made of it, if it did. The result names each fault of the product; a
    band that fails leaves the others usable. If it touches no cell, its bands are not looked at. If the product
    ``has_substitute``, images that no manifest vouches for are decoded: later it could not be replaced any more.
    """
    if scene is None:
        classified = classify_product(context, product, cells)
        if classified.scene is None or not _needs_bands(classified.scene):
            return classified
        scene = classified.scene
    if not _needs_bands(scene):
        return Preparation(str(product.name), scene, ())
    parameters, folder = context.parameters, context.workspace.vrts(context.rank)
    name, grid, scl = str(product.name), scene.grid, scene.scl
    try:
        targets = _targets(scene, cells, parameters)
        mask = context.mask.on_grid(grid.pixel_metres())
    except RuntimeError as error:
        return Preparation(name, None, (_open_error(context, product, SCL, error),))
    files = band_files(product, tuple(parameters.bands), parameters.resolution, partial=not parameters.is_in_place)
    bands, errors, notes = [], [], [*scene.notes]
    for band in parameters.bands:
        try:
            file = files[band]
            band_grid, note = _placed(product, file)
            notes.append(note)
            if not band_grid.same_as(grid):
                of_scl = "SCL" if scene.scl_factor == 1 else f"SCL with pixels {scene.scl_factor} times finer"
                reason = f"its grid (CRS, geotransform, size) is not that of {of_scl}"
                raise ProductError(name, reason, step=Step.OPEN, band=band)
            if scene.cells and not checked_files.check(context, name, file):
                notes.append(NOT_CHECKED)
            with _open(name, file) as dataset:
                plausible.check_values(name, band, dataset)
                if has_substitute:
                    checked_files.check_decodes(context, name, file, dataset)
            planned = _planned(scene, file, targets, folder)
            vrt.masked(
                planned.masked,
                band=_readable(scene, file, folder),
                scl=scl.path,
                scl_factor=scene.scl_factor,
                grid=grid,
                offset=planned.offset,
                mask=mask,
                given=None if scene.given_mask is None else scene.given_mask.raster,
            )
            for piece in planned.pieces:
                vrt.warped(
                    piece.path,
                    source=planned.masked,
                    grid=grid,
                    lattice=piece.lattice,
                    window=piece.window,
                    resampling=parameters.resampling,
                    scale=scene.scale,
                )
            bands.append(planned)
        except ProductError as error:
            errors.append(error)
        except (RuntimeError, OSError) as error:
            errors.append(_open_error(context, product, band, error))
    noted = tuple(note for note in dict.fromkeys(notes) if note)
    return Preparation(name, replace(scene, bands=tuple(bands), notes=noted) if bands else None, tuple(errors))


def _readable(scene: Scene, file: BandFile, folder: Path) -> Path:
    """The image or, if some tiles of it are there, a VRT of these: nothing may ask for another.

    Raises
    ------
    ProductError
        If a tile with a pixel that counts is not there.
    """
    if not file.is_partial:
        return file.path
    name, image = str(scene.product.name), image_path(file.path)
    partial = PartialImage.read(image, file.size, file.checksum)
    wanted = [scene.grid.window] if scene.occupancy is None else Occupancy.read_parts(scene.occupancy)
    if partial is None or (missing := partial.lacks(wanted)):
        numbers = "" if partial is None else ", ".join(map(str, sorted(missing)))
        lacks = f"tiles that count were not downloaded ({numbers})" if numbers else "what came of it is gone"
        reason = f"only some tiles of {image.name} are there, and {lacks}; run the stage download again"
        raise ProductError(name, reason, step=Step.FILES, band=file.band)
    return vrt.partial(
        folder / f"{name}_{file.band}_tiles.vrt", image=file.path, windows=partial.windows, grid=scene.grid
    )


def _needs_bands(scene: Scene) -> bool:
    return bool(scene.cells) and not scene.is_not_needed


def _classified(
    context: RunContext, product: Product, cells: Sequence[Gridcell], doubtful: Collection[Gridcell]
) -> Scene:
    """The scene by SCL alone: grid, outline, cells, which pixels count, whether its bands are needed."""
    parameters, workspace, name = context.parameters, context.workspace, str(product.name)
    scl = band_files(product, (SCL,))[SCL]
    scl_grid, note = _placed(product, scl)
    outline = geometry.of_raster(scl_grid.crs, scl_grid.geotransform, scl_grid.shape)
    notes = plausible.check_place(product.name, scl_grid, outline)
    factor = scl.resolution // parameters.resolution
    grid = scl_grid.refined(factor)
    touched = select_gridcells(cells, outline)
    if touched and not checked_files.check(context, name, scl):
        notes += (NOT_CHECKED,)
    scale = scene_scale(grid, parameters.lattice)
    reach = kernel_reach(scale)
    if unsure := [cell for cell in touched if cell in doubtful]:
        empty = set(_without_data(name, scl, factor, unsure, outline, grid, reach))
        touched = [cell for cell in touched if cell not in empty]
    nearby = nearby_pixels(tuple(touched), outline, grid, reach)
    counts, clear = _counts(name, scl, factor, nearby, context.mask.on_grid(grid.pixel_metres()))
    given = None
    if parameters.mask_dir is not None and parameters.stage != "download":  # masks may be made of downloads
        given = given_masks.of_scene(context, name, grid, outline, is_needed=bool(counts.any()))
        if given is not None and given.raster is not None:
            free = ~given_masks.read(given.raster, nearby.window)
            counts, clear = counts & free, clear & free
    near = np.count_nonzero(nearby.pixels)
    valid_share = float(np.count_nonzero(clear) / near) if near else 0.0
    occupancy = None
    if parameters.stage != "download":
        occupancy = workspace.occupancy(name)
        for suffix in ("u16", "failed"):  # of other cells or another mask
            for outdated in workspace.decoded.glob(f"{name}_B*.{suffix}"):
                outdated.unlink()
        side = TILE_SIDE[parameters.resolution]
        Occupancy.of(counts, nearby.window, (side, side)).write(occupancy)
    return Scene(
        product,
        grid,
        outline,
        scale,
        occupancy,
        scl,
        valid_share,
        cells=tuple(cell.cell_id for cell in touched),
        bands=(),
        is_not_needed=parameters.may_lack_bands and valid_share == 0 and not counts.any(),
        notes=tuple(filter(None, (note, *notes))),
        given_mask=given,
        scl_factor=factor,
    )


def _counts(name: str, scl: BandFile, factor: int, nearby: NearbyPixels, mask: Mask) -> tuple[BoolArray, BoolArray]:
    """Which pixels of ``nearby.window`` are nearby and not masked; and which of those nearby are clear.

    Clear counts by class alone, so that it says something of the scene.
    """
    window, reach = nearby.window, mask.reach
    if not window:
        return nearby.pixels, nearby.pixels
    with _open(name, scl) as dataset:
        buffered = Window(0, 0, dataset.RasterXSize * factor, dataset.RasterYSize * factor) & Window(
            window.x0 - reach, window.y0 - reach, window.x1 + reach, window.y1 + reach
        )
        classes = read_classes(dataset, buffered, factor)
    x, y = window.offset_in(buffered)
    inner = (slice(y, y + window.height), slice(x, x + window.width))
    clear = nearby.pixels & ~mask.masked_by_class(classes[inner])
    return (nearby.pixels & ~mask.masked(classes)[inner] if reach else clear), clear


def _without_data(
    name: str,
    scl: BandFile,
    factor: int,
    cells: Sequence[Gridcell],
    outline: BaseGeometry,
    grid: RasterGrid,
    reach: int,
) -> list[Gridcell]:
    """Those of ``cells`` in and next to which SCL holds no data."""
    with _open(name, scl) as dataset:

        def has_data(some: tuple[Gridcell, ...]) -> bool:
            nearby = nearby_pixels(some, outline, grid, reach)
            window = nearby.window
            if not window:
                return False
            classes = read_classes(dataset, window, factor)
            return bool((nearby.pixels & (classes != 0)).any())

        if not has_data(tuple(cells)):  # as it is if the footprint is right
            return list(cells)
        return [cell for cell in cells if not has_data((cell,))]


def _not_needed(context: RunContext, scene: Scene, cells: Sequence[Gridcell]) -> Preparation:
    """A scene that is not needed: its bands, as the manifest lists them, are inputs without any valid pixel."""
    parameters, folder = context.parameters, context.workspace.vrts(context.rank)
    files = band_files(scene.product, tuple(parameters.bands), parameters.resolution, there=False)
    targets = _targets(scene, cells, parameters)
    errors = tuple(files.errors.values())
    bands = tuple(_planned(scene, file, targets, folder) for file in files.found.values())
    return Preparation(str(scene.product.name), replace(scene, bands=bands) if bands else None, errors)


def _planned(scene: Scene, file: BandFile, targets: Sequence[_Target], folder: Path) -> SceneBand:
    """A band and the paths of its VRTs."""
    name = f"{scene.product.name}_{file.band}"
    pieces = tuple(WarpedPiece(folder / f"{name}{suffix}.vrt", lattice, window) for suffix, lattice, window in targets)
    return SceneBand(file, scene.product.offset(file.band).dn, folder / f"{name}_masked.vrt", pieces)


def scene_scale(grid: RasterGrid, lattice: Lattice) -> tuple[float, float]:
    """Lattice pixels per scene pixel, along x and along y, at the scene's centre.

    Below 1 the lattice is coarser and GDAL's kernels widen by it (warp options XSCALE and YSCALE).
    """
    rows, columns = grid.shape
    inverse = gdal.InvGeoTransform(grid.geotransform)
    x, y = gdal.ApplyGeoTransform(grid.geotransform, columns / 2, rows / 2)
    x, y, _ = geometry.transformation(grid.crs, lattice.crs).TransformPoint(x, y)
    back = geometry.transformation(lattice.crs, grid.crs)

    def pixel(x: float, y: float) -> np.ndarray:
        projected = back.TransformPoint(x, y)
        return np.array(gdal.ApplyGeoTransform(inverse, projected[0], projected[1]))

    half_x, half_y = lattice.dx / 2, lattice.dy / 2
    step_x = pixel(x + half_x, y) - pixel(x - half_x, y)
    step_y = pixel(x, y + half_y) - pixel(x, y - half_y)
    return float(1 / np.hypot(*step_x)), float(1 / np.hypot(*step_y))


def _targets(scene: Scene, cells: Sequence[Gridcell], parameters: RunParameters) -> list[_Target]:
    """The windows to warp onto.

    On a common lattice (``tap``) that is the whole scene, in EPSG:4326 on each side of the antimeridian: the same
    window whichever cells were asked for, so that a pixel is computed from the same numbers in every run. Without it,
    each cell has its own lattice.
    """
    targets = []
    touched = set(scene.cells)
    for side, bounds in _places(scene, parameters.crs):
        if parameters.tap:
            lattice = parameters.lattice
            targets.append((side, lattice, _with_margin(lattice.covering(bounds), lattice)))
        else:
            for cell in (cell for cell in cells if cell.cell_id in touched):
                lattice = parameters.lattice_of(cell)
                window = cell.window_on(lattice) & _with_margin(lattice.covering(bounds), lattice)
                if window:
                    targets.append((f"{_name_of(lattice.crs)}_{cell.cell_id}", lattice, window))
    return targets


def _places(scene: Scene, crs: str) -> Iterator[tuple[str, Bounds]]:
    """Where a scene lies in ``crs``: a suffix for names, and bounds; two of them if it is cut at ±180."""
    name = _name_of(crs)
    if crs != WGS84:
        if (bounds := raster_bounds(scene.grid, crs)) is not None:
            yield name, bounds
        return
    for part in _sides(scene.outline):
        west, south, east, north = part.bounds
        side = "_west" if west == -180.0 else "_east" if east == 180.0 else ""
        yield f"{name}{side}", (west, south, east, north)


def _name_of(crs: str) -> str:
    """A CRS as part of the names of VRTs: ``_wgs84``, ``_epsg3413``."""
    return "_wgs84" if crs == WGS84 else f"_{crs.replace(':', '').lower()}"


def _sides(outline: BaseGeometry) -> Iterator[BaseGeometry]:
    """The parts of ``outline`` west and east of ±180 if it crosses it, else all of it."""
    parts = shapely.get_parts(outline)
    if outline.bounds[2] - outline.bounds[0] <= 180.0:
        yield outline
        return
    for side in (shapely.box(-180, -90, 0, 90), shapely.box(0, -90, 180, 90)):
        yield shapely.union_all([part for part in parts if side.covers(part)])


def _with_margin(window: Window, lattice: Lattice) -> Window:
    wider = Window(window.x0 - _MARGIN, window.y0 - _MARGIN, window.x1 + _MARGIN, window.y1 + _MARGIN)
    return lattice.covering((-180.0, -90.0, 180.0, 90.0)) & wider if lattice.is_geographic else wider


def _open(name: str, file: BandFile) -> gdal.Dataset:
    """Open an image as what it must be: one band of unsigned integers, no larger than a granule."""
    try:
        dataset = gdal.OpenEx(str(file.path), gdal.OF_RASTER | gdal.OF_READONLY, allowed_drivers=image_drivers())
    except RuntimeError as error:
        reason = f"{file.path.name} is not a JPEG 2000 or GeoTIFF image that GDAL can read ({_one_line(error)})"
        raise ProductError(name, reason, step=Step.OPEN, band=file.band) from error
    bits, kind = (8, gdal.GDT_Byte) if file.band == SCL else (16, gdal.GDT_UInt16)
    if dataset.RasterCount != 1 or dataset.GetRasterBand(1).DataType != kind:
        reason = f"{file.path.name} is not one band of unsigned integers of {bits} bits"
        raise ProductError(name, reason, step=Step.OPEN, band=file.band)
    plausible.check_size(name, file.band, dataset)
    return dataset


def _placed(product: Product, file: BandFile) -> tuple[RasterGrid, str]:
    """The grid of an image, and a note if the image does not say it and the granule's metadata does.

    Raises
    ------
    ProductError
        If the image cannot be opened, neither says where it is, or the two disagree.
    """
    name = str(product.name)
    with _open(name, file) as dataset:
        plausible.check_complete(name, file.band, file.path)
        reference, geotransform = dataset.GetSpatialRef(), dataset.GetGeoTransform(can_return_null=True)
        shape = (dataset.RasterYSize, dataset.RasterXSize)
    if reference is not None and geotransform is not None:
        return RasterGrid(reference.ExportToWkt(), geotransform, shape), ""
    lacks = "coordinate system" if reference is None else "geotransform"

    def fail(reason: str) -> ProductError:
        return ProductError(name, f"{file.path.name} has no {lacks}, and {reason}", step=Step.OPEN, band=file.band)

    stated = read_tile_grid(product.name, file.path, file.resolution)
    if stated is None:
        raise fail(f"there is no {TILE_METADATA} that says where it is")
    crs = spatial_reference(stated.crs).ExportToWkt() if reference is None else reference.ExportToWkt()
    grid = RasterGrid(crs, geotransform or stated.geotransform, shape)
    if not grid.same_as(stated):
        raise fail(f"what it says of its place or size is not what {TILE_METADATA} says")
    return grid, f"images have no {lacks} of their own; {TILE_METADATA} says {stated.crs} and the corner"


def _open_error(context: RunContext, product: Product, band: str, error: RuntimeError | OSError) -> ProductError:
    reason = explained(error, context.workspace.tmp)
    if reason.startswith("no space left"):
        return ProductError(str(product.name), reason, step=Step.PREPARE, band=band)
    return ProductError(str(product.name), _one_line(error), step=Step.OPEN, band=band)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
