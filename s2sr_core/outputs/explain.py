"""Why a pixel has its value: every product at it, the statistic of their values, and the composite's own pixel.

The tables of the folder say which products the run selected, and why not the others; the rest is computed again by the
reference rules. Nothing is written but temporary VRTs in a temporary folder.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import shapely

from s2sr_core.cells.gridcell_csv import read_gridcells
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.recorded_files import INTACT, FileState, recorded_files
from s2sr_core.composites.records import inputs_in, inputs_of, joint_scenes_in, left_out_in, scenes_in, substitutes_in
from s2sr_core.engines.stack import SceneOrder
from s2sr_core.errors import InputError, ProductError
from s2sr_core.files import read_record
from s2sr_core.geo.clip import owned_pixels
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.geometry import METRES_PER_DEGREE
from s2sr_core.geo.lattice import WGS84, Lattice, Window
from s2sr_core.geo.projection import transformed
from s2sr_core.outputs.pixel_history import History, Pixel, SceneValue, Verdict, history_of
from s2sr_core.parameters import RunParameters
from s2sr_core.periods import Period
from s2sr_core.pixels.observations import Acquisitions
from s2sr_core.pixels.rules import SCENE_NODATA
from s2sr_core.pixels.statistics import Statistic, compute_all
from s2sr_core.products.bands import ALL_BANDS
from s2sr_core.products.names import ProductName
from s2sr_core.products.safe import read_product
from s2sr_core.progress import progress
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.scene import Scene, SceneBand
from s2sr_core.selection.candidates import NOT_NEEDED

Row = Mapping[str, str]
"""A row of the scene index or of the query manifest, by column."""

#: What the statuses of products in the tables mean for a pixel; those of other products are looked at.
_VERDICTS: Mapping[str, Verdict] = {
    "duplicate": "repeated",
    "twin": "repeated",
    "filtered": "not selected",
    "offline": "not selected",
    "no cell": "not selected",
    "no bands": "not selected",
    "failed": "failed",
}
#: How far from a product's footprint a point may be and the product be listed, degrees: footprints are drawn roughly.
_NEAR = 0.01
#: How far the centre of a pixel may be from that of the composite's, pixels.
_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class StatisticValue:
    """A statistic at a pixel: as computed now, and as the composite's file has it.

    Attributes
    ----------
    path: the file.
    computed, composite: None if there is no value.
    equal: whether they are the same.
    reasons: if not, what may be why.
    """

    name: str
    path: Path
    computed: float | None
    composite: float | None
    equal: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BandExplanation:
    """A band at a pixel in a period: all products, the values in order, and each statistic of them.

    ``period`` is a label, empty in a run without periods.
    """

    period: str
    band: str
    scenes: tuple[SceneValue, ...]
    values: tuple[int, ...]
    statistics: tuple[StatisticValue, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a pixel has its values.

    Attributes
    ----------
    longitude, latitude: the point that was asked for, degrees.
    cell_id: the gridcell that owns the pixel.
    column, row: of the pixel on the lattice.
    centre: its longitude and latitude.
    file_column, file_row: of the pixel in the cell's files, from 0.
    resampling, mask: how the composite is made.
    """

    longitude: float
    latitude: float
    cell_id: str
    column: int
    row: int
    centre: tuple[float, float]
    file_column: int
    file_row: int
    resampling: str
    mask: Mapping[str, Any]
    bands: tuple[BandExplanation, ...]

    @property
    def is_equal(self) -> bool:
        """Whether every computed value is that of the composite."""
        return all(statistic.equal for band in self.bands for statistic in band.statistics)

    def as_json(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        bands = [asdict(band) for band in self.bands]
        for band in bands:
            for statistic in band["statistics"]:
                statistic["path"] = str(statistic["path"])
        return {**asdict(self), "bands": bands}


def explain(parameters: RunParameters, longitude: float, latitude: float) -> Explanation:
    """Explain the pixel at a point in the bands of ``parameters``, which are otherwise those of the folder's run.

    Of a run with periods, each that has a composite is explained.

    Raises
    ------
    InputError
        If no selected gridcell has a pixel there, a band has no composite, or the folder lacks the tables of a run.
    """
    context = RunContext(parameters)
    pixel = _pixel_at(context, longitude, latitude)
    for band in parameters.bands:
        _check_composite(context, pixel.cell.cell_id, band)
    lattice = parameters.lattice_of(pixel.cell)
    column, row = pixel.window.x0, pixel.window.y0
    centre = _moved((lattice.x_centre(column), lattice.y_centre(row)), lattice.crs, WGS84)
    rows, substitutes = list(_rows_at(context, pixel, centre)), _substitutes(context, pixel)
    with TemporaryDirectory(prefix="s2sr-explain-") as folder:
        changes = {"work_dir": Path(folder), "engine": "reference", "scl_first": False}
        elsewhere = RunContext(parameters.model_copy(update=changes))
        with progress("scenes", len(rows)) as advance:
            histories = []
            for each in rows:
                is_used = _is_selected(each) or each["product"] in substitutes
                histories.append((each, _history(elsewhere, each, _folder_of(context, each), pixel, is_used=is_used)))
                advance()
    file_column, file_row = pixel.window.offset_in(pixel.cell.window_on(lattice))
    return Explanation(
        longitude,
        latitude,
        pixel.cell.cell_id,
        column,
        row,
        centre,
        file_column,
        file_row,
        parameters.resampling,
        context.mask.record(),
        tuple(
            _explained(context, pixel, period, band, [(row, each) for row, each in histories if _is_in(period, row)])
            for period in parameters.periods
            for band in parameters.bands
            if _has_composite(context, pixel.cell.cell_id, period, band)
        ),
    )


# --------------------------------------------------------------------------------------------- which pixel, which cell


def _pixel_at(context: RunContext, longitude: float, latitude: float) -> Pixel:
    """The pixel that holds a point, of the cell that owns it; 180 and −180 are the same."""
    point = f"{longitude:g} {latitude:g}"
    if not (abs(longitude) <= 180 and abs(latitude) <= 90):  # also if not finite
        raise InputError("explain", point, "is not on the globe", "give longitude (−180 to 180) and latitude")
    table = context.workspace.selected_gridcells
    if not table.exists():
        raise InputError("work_dir", context.parameters.work_dir, f"has no {table.name}", "give the folder of a run")
    cells = read_gridcells(table)
    for x in (longitude, -longitude) if abs(longitude) == 180 else (longitude,):
        if owners := list(_owners(context, cells, x, latitude)):
            # Without a common lattice, cells that share an edge may each have a pixel there.
            return next((owner for owner in owners if _holds(owner.cell, x, latitude)), owners[0])
    raise InputError("explain", point, "is outside every selected gridcell", f"give a point in a cell of {table}")


def _owners(context: RunContext, cells: Sequence[Gridcell], x: float, y: float) -> Iterator[Pixel]:
    dx, dy = _degrees_of_a_pixel(context.parameters, y)
    west, south, east, north = shapely.bounds([cell.polygon for cell in cells]).T
    near = (west - dx <= x) & (x <= east + dx) & (south - dy <= y) & (y <= north + dy)
    for index in np.flatnonzero(near).tolist():
        cell = cells[index]
        lattice = context.parameters.lattice_of(cell)
        window = lattice.pixel_of(*_moved((x, y), WGS84, lattice.crs))
        if owned_pixels(cell.polygon, lattice, window)[0, 0]:
            yield Pixel(cell, window)


def _degrees_of_a_pixel(parameters: RunParameters, latitude: float) -> tuple[float, float]:
    """The pixel size or, if it is in units of a projected CRS, more degrees than it can have at ``latitude``."""
    if parameters.crs == WGS84:
        return parameters.pixel_size
    # The scale of a projection that is far from its place may be off by a factor.
    degrees = 4.0 * max(parameters.pixel_size) / METRES_PER_DEGREE
    return degrees / max(math.cos(math.radians(latitude)), degrees / 360.0), degrees


def _moved(point: tuple[float, float], source: str, target: str) -> tuple[float, float]:
    """A point in another CRS."""
    if source == target:
        return point
    x, y = transformed(source, target, [point[0]], [point[1]])
    return float(x[0]), float(y[0])


def _holds(cell: Gridcell, x: float, y: float) -> bool:
    """Whether a point is in a cell by the rule of pixel centres: it is that of a pixel without any size to speak of."""
    return bool(owned_pixels(cell.polygon, Lattice(1e-300, 1e-300, x, y), Window(0, 0, 1, 1))[0, 0])


def _check_composite(context: RunContext, cell_id: str, band: str) -> None:
    periods = context.parameters.periods
    others = [each for each in ALL_BANDS if any(_has_composite(context, cell_id, period, each) for period in periods)]
    if band in others:
        return
    remedy = f"choose from {' '.join(others)}" if others else "choose a cell that has one"
    raise InputError("bands", band, f"has no composite in gridcell {cell_id}", remedy)


def _has_composite(context: RunContext, cell_id: str, period: Period, band: str) -> bool:
    return context.workspace.composite(cell_id, band, context.statistics[0].name, period.label).is_file()


# --------------------------------------------------------------------------------------------------------- which scenes


def _rows_at(context: RunContext, pixel: Pixel, centre: tuple[float, float]) -> Iterator[Row]:
    """The products of the run's tables that may show the pixel, by time and name.

    Of products that were left out without being opened only the tile is known: it is where another product of that tile
    is or, if there is none, one of them. What is not named like a product is left out.
    """
    workspace = context.workspace
    if not workspace.scene_index.exists():
        problem = f"has no {workspace.scene_index.name}"
        raise InputError("work_dir", workspace.work_dir, problem, "let a run finish there first")
    rows = _read(workspace.scene_index)
    names = {row["product"] for row in rows}
    rows += [row for row in _read(workspace.query_manifest) if row["product"] not in names]
    here: dict[str, bool] = {}
    near: list[Row] = []
    unplaced: list[Row] = []
    for row in rows:
        outline = row["footprint"]
        if row["status"] in ("selected", *NOT_NEEDED) and row.get("cells"):
            is_near = pixel.cell.cell_id in row["cells"].split()
        elif outline:
            is_near = _is_near(outline, centre)
        else:
            unplaced.append(row)
            continue
        if is_near:
            near.append(row)
        here[row["tile"]] = here.get(row["tile"], False) or is_near
    for row in unplaced:
        if row["tile"] not in here and (found := _footprint_in(_folder_of(context, row))) is not None:
            here[row["tile"]] = _is_near(found, centre)
        if row["tile"] and here.get(row["tile"], row["status"] == "failed"):
            near.append(row)
    yield from sorted(near, key=lambda row: (row["sensing_time"], row["product"], row.get("path", "")))


def _is_in(period: Period, row: Row) -> bool:
    """Whether a product belongs to a period; all do if there is but one."""
    return not period.label or period.contains(datetime.fromisoformat(row["sensing_time"]))


def _read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return [{str(key): str(value) for key, value in row.items()} for row in table.to_dict("records")]


def _is_near(outline: str, centre: tuple[float, float]) -> bool:
    return bool(shapely.from_wkt(outline).distance(shapely.Point(centre)) <= _NEAR)


def _folder_of(context: RunContext, row: Row) -> Path | None:
    """Where a product is: as the table says or, if the work folder or the archive was moved, by its name."""
    if not row.get("path"):
        return None
    path = Path(row["path"])
    moved = (context.parameters.source or context.parameters.imagery_folder) / path.name
    return moved if moved.exists() and not path.exists() else path


def _footprint_in(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        outline = read_product(path).footprint
    except (ProductError, OSError):
        return None
    return None if outline is None else outline.wkt


def _is_selected(row: Row) -> bool:
    return row["status"] in ("selected", *NOT_NEEDED)


def _substitutes(context: RunContext, pixel: Pixel) -> set[str]:
    """Products that some composite of the cell was made with instead of others."""
    records = [
        read_record(_record_of(context, pixel, period, band)) or {}
        for period in context.parameters.periods
        for band in context.parameters.bands
    ]
    return {product for record in records for product in substitutes_in(record)}


def _history(context: RunContext, row: Row, path: Path | None, pixel: Pixel, *, is_used: bool) -> History:
    """A product at the pixel: looked at if it is used in some composite, else as the table says."""
    status, reason = row["status"], row["reason"]
    if is_used and path is not None:
        try:
            product = read_product(path)
        except (ProductError, OSError) as error:
            reason = error.reason if isinstance(error, ProductError) else f"cannot be read: {error}"
            return _told(context, row, "failed", reason)
        return history_of(context, product, pixel, is_not_needed=status in NOT_NEEDED, why=reason)
    return _told(context, row, _VERDICTS.get(status, "not selected"), reason or status)


def _told(context: RunContext, row: Row, verdict: Verdict, reason: str) -> History:
    value = SceneValue(row["product"], row["sensing_time"], row["baseline"], verdict, reason)
    return History(dict.fromkeys(context.parameters.bands, value))


# ------------------------------------------------------------------------------------------------------------ compared


def _explained(
    context: RunContext, pixel: Pixel, period: Period, band: str, histories: Sequence[tuple[Row, History]]
) -> BandExplanation:
    scenes = _scenes(context, pixel, period, band, histories)
    values = tuple(sorted(scene.warped for scene in scenes if scene.warped is not None))
    compared = []
    found = _computed(context, pixel, period, band, histories)
    for statistic, computed_value in zip(context.statistics, found, strict=True):
        path = context.workspace.composite(pixel.cell.cell_id, band, statistic.name, period.label)
        if not path.is_file():
            continue
        computed = _value(statistic, computed_value)
        lattice = context.parameters.lattice_of(pixel.cell)
        is_there, composite = _value_in(path, statistic, lattice, pixel.window)
        equal = is_there and composite == computed
        reasons = () if equal else tuple(_reasons(context, pixel, period, band, histories, path, is_there))
        compared.append(StatisticValue(statistic.name, path, computed, composite, equal, reasons))
    return BandExplanation(period.label, band, scenes, values, tuple(compared))


def _record_of(context: RunContext, pixel: Pixel, period: Period, band: str) -> Path:
    return context.workspace.record(pixel.cell.cell_id, band, context.statistics[0].name, period.label)


def _scenes(
    context: RunContext, pixel: Pixel, period: Period, band: str, histories: Sequence[tuple[Row, History]]
) -> tuple[SceneValue, ...]:
    """What each product gives to the band's composite."""
    record = read_record(_record_of(context, pixel, period, band)) or {}
    return tuple(
        value if (why := _unused(record, row)) is None else replace(value, verdict=why[0], reason=why[1], warped=None)
        for row, history in histories
        for value in [history.values[band]]
    )


def _computed(
    context: RunContext, pixel: Pixel, period: Period, band: str, histories: Sequence[tuple[Row, History]]
) -> Sequence[np.generic]:
    """Each statistic of the run, of the values that the products give."""
    bands: list[str] = [*context.parameters.bands] if context.is_joint else [band]
    records = [read_record(_record_of(context, pixel, period, each)) or {} for each in bands]
    numbers = {
        row["product"]: number
        for number, (row, history) in enumerate(histories)
        if history.scene is not None and any(_unused(record, row) is None for record in records)
    }
    names = {product: ProductName.parse(product) for product in numbers}
    order = SceneOrder.of_scenes({each: (name.sensing_time, context.observation(name)) for each, name in names.items()})
    stacks = []
    for each in bands:
        scenes = _scenes(context, pixel, period, each, histories)
        values = [scenes[numbers[product]].warped for product in order.products] or [None]
        stack = [SCENE_NODATA if value is None else value for value in values]
        stacks.append(np.array(stack, np.uint16).reshape(-1, 1, 1))
    acquisitions = order.acquisitions if order.products else Acquisitions((0,), (0,))
    found = compute_all(context.statistics, stacks, acquisitions)[bands.index(band)]
    return [value[0, 0] for value in found]


def _unused(record: Mapping[str, Any], row: Row) -> tuple[Verdict, str] | None:
    """Why the composite of ``record`` was made without a product that others may be made with; None if it was not."""
    product, instead = row["product"], substitutes_in(record)
    if not _is_selected(row):
        return None if product in instead else (_VERDICTS.get(row["status"], "not selected"), row["reason"])
    if (reason := left_out_in(record).get(product)) is not None:
        return "failed", reason
    used = scenes_in(inputs_in(record) or {})
    others = [name for name in instead if (found := _observation(name)) and found == _observation(product)]
    return ("repeated", f"{' and '.join(others)} is used instead") if others and product not in used else None


def _observation(product: str) -> str:
    """Sensing time and tile; empty if it is not the name of a product."""
    try:
        return ProductName.parse(product).observation
    except ProductError:
        return ""


def _value(statistic: Statistic, value: np.generic) -> float | None:
    return None if value == statistic.outside else float(value)


def _value_in(path: Path, statistic: Statistic, lattice: Lattice, pixel: Window) -> tuple[bool, float | None]:
    """Whether the file has just this pixel, and its value."""
    try:
        with gdal.OpenEx(str(path), gdal.OF_RASTER, allowed_drivers=["GTiff"]) as dataset:
            x0, dx, _, y0, _, dy = dataset.GetGeoTransform()
            column = (lattice.x_centre(pixel.x0) - x0) / dx - 0.5
            row = (lattice.y_centre(pixel.y0) - y0) / dy - 0.5
            off = max(
                abs(column - round(column)), abs(row - round(row)), abs(dx / lattice.dx - 1), abs(dy / lattice.dy + 1)
            )
            inside = 0 <= round(column) < dataset.RasterXSize and 0 <= round(row) < dataset.RasterYSize
            if off > _TOLERANCE or not inside:
                return False, None
            return True, _value(statistic, dataset.ReadAsArray(round(column), round(row), 1, 1)[0, 0])
    except RuntimeError:
        return False, None


def _reasons(
    context: RunContext,
    pixel: Pixel,
    period: Period,
    band: str,
    histories: Sequence[tuple[Row, History]],
    path: Path,
    is_there: bool,
) -> Iterator[str]:
    """What may be why a composite's pixel is not what is computed now."""
    found = False
    for reason in _differences(context, pixel, period, band, histories, path):
        found = True
        yield reason
    if not found and not is_there:
        yield "the file cannot be read, or is on another lattice"
    elif not found:
        yield "nothing that the record names has changed; compute it again with --overwrite and compare"


def _differences(
    context: RunContext,
    pixel: Pixel,
    period: Period,
    band: str,
    histories: Sequence[tuple[Row, History]],
    path: Path,
) -> Iterator[str]:
    record = read_record(_record_of(context, pixel, period, band))
    before = None if record is None else inputs_in(record)
    if record is None or before is None:
        yield "the composite has no record that can be read"
        return
    recorded = recorded_files(record).get(path.name)
    state = FileState.UNRECORDED if recorded is None else recorded.state(path, thorough=True)
    if state not in INTACT:
        yield f"the file is not the one that its record describes ({state}); see --verify"
    usable = _usable(band, histories, record)
    others: list[str] = [*context.parameters.bands] if context.is_joint else []
    scenes = {**{each: _usable(each, histories, record) for each in others}, band: usable}
    now = inputs_of(context, pixel.cell, band, scenes, period)
    for key in ("lattice", "polygon", "resolution", "resampling", "mask", "statistic", "min_count", "group_by"):
        if before.get(key) != now.get(key):
            shown = "" if key == "polygon" else f": it was {_flat(before.get(key))}, and is {_flat(now.get(key))}"
            yield f"the composite was made with another {key}{shown}"
    if (were := sorted(joint_scenes_in(before))) != (are := sorted(joint_scenes_in(now))):
        yield f"the composite was made together with other bands: they were {_flat(were)}, and are {_flat(are)}"
    if any(before.get(key) != now[key] for key in ("software", "code")):
        yield "the composite was made by another version of the program"
    yield from _differences_of_scenes(before, now, band, histories)
    yield from _changed_images(usable)


def _usable(
    band: str, histories: Sequence[tuple[Row, History]], record: Mapping[str, Any]
) -> list[tuple[Scene, SceneBand]]:
    return [
        (history.scene, scene_band)
        for row, history in histories
        if history.scene is not None and (scene_band := history.scene.band(band)) is not None
        if _unused(record, row) is None
    ]


def _differences_of_scenes(
    before: Mapping[str, Any], now: Mapping[str, Any], band: str, histories: Sequence[tuple[Row, History]]
) -> Iterator[str]:
    used, usable = scenes_in(before), scenes_in(now)
    values = {row["product"]: history.values[band] for row, history in histories}
    for product in sorted({*used, *usable}):
        value = values.get(product)
        if product not in usable:
            if value is None:
                yield f"{product} was used, and is not in the tables of the last run"
            elif value.verdict != "not needed":
                yield f"{product} was used, and now: {value.verdict} ({value.reason})"
        elif product not in used:
            yield f"{product} was not used, and is there now"
        elif used[product] != usable[product]:
            keys = sorted(key for key, entry in usable[product].items() if used[product].get(key) != entry)
            yield f"{product} is not the one that was used (other: {', '.join(keys)})"


def _changed_images(scenes: Sequence[tuple[Scene, SceneBand]]) -> Iterator[str]:
    """Images that are not what their product's manifest says; each is read once, and only if a pixel differs."""
    for scene, band in scenes:
        for file in (each for each in (band.file, scene.scl) if not each.is_partial):
            algorithm, _, digest = file.checksum.partition(":")
            try:
                with file.path.open("rb") as opened:
                    is_right = hashlib.file_digest(opened, algorithm.replace("-", "_")).hexdigest() == digest
            except (OSError, ValueError):
                continue
            if not is_right:
                yield f"{file.path.name} of {scene.product.name} is not what its manifest says: it was changed"


def _flat(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flat(entry)}" for key, entry in value.items() if entry not in ({}, []))
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
