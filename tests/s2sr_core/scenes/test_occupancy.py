"""What counts of a scene, the windows that hold it, and which scenes need no bands at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer
from support.independent import transformation
from support.scenes import parameters_for, pixels, product_name, run

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import composite_cell
from s2sr_core.files import read_record
from s2sr_core.geo import geometry
from s2sr_core.geo.lattice import Window
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.parameters import RunParameters
from s2sr_core.products.names import ProductName
from s2sr_core.products.safe import read_product
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.occupancy import NearbyPixels, Occupancy, kernel_reach, nearby_pixels
from s2sr_core.scenes.prepare import prepare_product
from s2sr_core.scenes.scene import Preparation, Scene
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.products import write_product

TILE = (640, 640)


def painted(parts: tuple[Window, ...], shape: tuple[int, int]) -> np.ndarray:
    """How many of ``parts`` hold each pixel."""
    found = np.zeros(shape, int)
    for part in parts:
        found[part.y0 : part.y1, part.x0 : part.x1] += 1
    return found


@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1), patch=st.sampled_from([1, 9, 64, 300]))
def test_parts_hold_all_that_counts_once_and_none_crosses_a_tile(seed: int, share: float, patch: int) -> None:
    rng, within = np.random.default_rng(seed), Window(500, 130, 1850, 1400)
    coarse = rng.random((within.height // patch + 1, within.width // patch + 1)) < share**3
    counts = np.kron(coarse, np.ones((patch, patch), bool))[: within.height, : within.width]
    found = Occupancy.of(counts, within, TILE)
    whole = np.zeros((1400, 1850), bool)
    whole[within.y0 :, within.x0 :] = counts
    times = painted(found.parts, whole.shape)
    assert times.max(initial=0) <= 1
    assert (times[whole] == 1).all()
    for part in found.parts:
        assert part
        assert part & found.window == part
        assert part.x0 // 640 == (part.x1 - 1) // 640
        assert part.y0 // 640 == (part.y1 - 1) // 640
    assert np.array_equal(found.counts, whole[found.window.y0 : found.window.y1, found.window.x0 : found.window.x1])


def test_two_far_corners_of_a_tile_are_two_parts_and_a_full_tile_is_one() -> None:
    counts = np.zeros(TILE, bool)
    counts[:20, :20] = counts[-20:, -20:] = True
    assert Occupancy.of(counts, Window(0, 0, 640, 640), TILE).parts == (
        Window(0, 0, 32, 32),
        Window(608, 608, 640, 640),
    )
    assert Occupancy.of(counts | True, Window(0, 0, 640, 640), TILE).parts == (Window(0, 0, 640, 640),)


def test_nothing_is_no_part(tmp_path: Path) -> None:
    found = Occupancy.of(np.zeros((50, 70), bool), Window(10, 20, 80, 70), TILE)
    assert not found.window
    assert found.parts == ()
    found.write(tmp_path / "o.npz")
    assert Occupancy.read(tmp_path / "o.npz").parts == ()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    counts = np.random.default_rng(1).random((77, 91)) < 0.1
    written = Occupancy.of(counts, Window(600, 610, 691, 687), TILE)
    written.write(tmp_path / "o.npz")
    found = Occupancy.read(tmp_path / "o.npz")
    assert found.window == written.window
    assert found.parts == written.parts == Occupancy.read_parts(tmp_path / "o.npz")
    assert np.array_equal(found.counts, written.counts)


def near_of(grid: Grid, *polygons: shapely.Polygon, reach: int = 4) -> NearbyPixels:
    cells = tuple(Gridcell(str(number), polygon) for number, polygon in enumerate(polygons))
    outline = geometry.of_raster(grid.crs, grid.geotransform, grid.shape)
    return nearby_pixels(cells, outline, RasterGrid(grid.crs, grid.geotransform, grid.shape), reach)


@pytest.mark.parametrize(
    ("lon", "lat", "zone"), [(-149.6, 68.6, 5), (179.99, 69.0, 60), (-179.99, 69.0, 1), (20, 83, 34)]
)
def test_nearby_pixels_are_those_in_the_cells_and_a_few_around(lon: float, lat: float, zone: int) -> None:
    """PROJ and shapely say which pixel centres lie in the polygon, pixel by pixel."""
    grid = Grid.utm(lon, lat, (300, 280), zone=zone)
    half = 0.03 / np.cos(np.radians(lat))
    boxes = [
        shapely.box(max(lon - half, -180), lat - 0.011, lon, lat + 0.013),
        shapely.box(lon, lat, min(lon + half, 180), lat + 0.02),
    ]
    boxes = [box for box in boxes if box.area]
    near = near_of(grid, *boxes)
    found = np.zeros(grid.shape, bool)
    found[near.window.y0 : near.window.y1, near.window.x0 : near.window.x1] = near.pixels
    gt, (rows, columns) = grid.geotransform, grid.shape
    x, y = np.meshgrid(gt[0] + 20 * (np.arange(columns) + 0.5), gt[3] - 20 * (np.arange(rows) + 0.5))
    longitude, latitude = Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True).transform(x, y)
    longitude = lon + (longitude - lon + 180) % 360 - 180  # no step at ±180
    inside = shapely.contains_xy(shapely.union_all(boxes), longitude, latitude)
    assert 0.01 < inside.mean() < 0.9
    # Bilinear takes a pixel on each side of one that holds a centre; two are asked for here.
    for dy in (-2, 0, 2):
        for dx in (-2, 0, 2):
            moved = np.roll(inside, (dy, dx), (0, 1))[2:-2, 2:-2]
            assert found[2:-2, 2:-2][moved].all()
    far = shapely.union_all(boxes).buffer(12 * 20 / 111_000 / np.cos(np.radians(lat)))
    assert not found[~shapely.contains_xy(far, longitude, latitude)].any()


def test_a_cell_elsewhere_is_near_nothing() -> None:
    assert not near_of(Grid.utm(-149.6, 68.6, 200), shapely.box(-140, 60, -139, 61)).window
    assert not near_of(Grid.utm(-149.6, 68.6, 200)).window


# ------------------------------------------------------------------------------------------- what cells see

GRID = Grid.utm(-149.6, 68.63, (150, 120), zone=5)


def place(grid: Grid, row: float, column: float) -> tuple[float, float]:
    """Longitude and latitude of a point of the raster, by PROJ, in the opposite direction to the code."""
    x0, dx, _, y0, _, dy = grid.geotransform
    back = transformation(grid.crs).GetInverse()
    lon, lat, _ = back.TransformPoint(x0 + column * dx, y0 + row * dy)
    return lon, lat


def cell_of_pixels(grid: Grid, rows: tuple[float, float], columns: tuple[float, float], name: str = "c") -> Gridcell:
    """The quadrilateral whose corners are these of the raster."""
    corners = [(rows[0], columns[0]), (rows[0], columns[1]), (rows[1], columns[1]), (rows[1], columns[0])]
    return Gridcell(name, shapely.Polygon([place(grid, *corner) for corner in corners]))


def scl_with(grid: Grid, *clear: tuple[int, int]) -> np.ndarray:
    scl = np.full(grid.shape, 9, np.uint8)
    for row, column in clear:
        scl[row, column] = 4
    return scl


def seen(grid: Grid, scl: np.ndarray, cells: Sequence[Gridcell], reach: int = 4) -> bool:
    near = near_of(grid, *(cell.polygon for cell in cells), reach=reach)
    window = near.window
    return bool((near.pixels & (scl[window.y0 : window.y1, window.x0 : window.x1] == 4)).any())


def test_a_clear_pixel_is_seen_from_the_cell_it_lies_in_and_from_within_reach_but_not_from_afar() -> None:
    scl = scl_with(GRID, (70, 60))
    assert seen(GRID, scl, [cell_of_pixels(GRID, (69, 72), (59, 62))])
    for distance in range(4):  # of the cell's edge from the pixel's
        assert seen(GRID, scl, [cell_of_pixels(GRID, (71 + distance, 90), (50, 70))])
        assert seen(GRID, scl, [cell_of_pixels(GRID, (40, 70 - distance), (50, 70))])
        assert seen(GRID, scl, [cell_of_pixels(GRID, (60, 80), (61 + distance, 90))])
    assert not seen(GRID, scl, [cell_of_pixels(GRID, (85, 100), (50, 70))])
    assert not seen(GRID, scl, [cell_of_pixels(GRID, (60, 80), (69, 90))])
    far = [cell_of_pixels(GRID, (85, 100), (0, 120)), cell_of_pixels(GRID, (0, 58), (0, 120))]
    assert not seen(GRID, scl, far)
    assert seen(GRID, scl, [*far, cell_of_pixels(GRID, (70, 71), (60, 61))])


def test_without_a_clear_pixel_or_a_cell_nothing_is_seen() -> None:
    cell = cell_of_pixels(GRID, (0, 150), (0, 120))
    assert not seen(GRID, scl_with(GRID), [cell])
    assert not seen(GRID, scl_with(GRID, (3, 3)), [])


def test_a_pixel_in_a_cells_hole_is_not_seen() -> None:
    outer, inner = cell_of_pixels(GRID, (0, 150), (0, 120)), cell_of_pixels(GRID, (40, 110), (30, 100))
    ring = Gridcell("ring", outer.polygon.difference(inner.polygon))
    assert not seen(GRID, scl_with(GRID, (70, 60)), [ring])
    assert seen(GRID, scl_with(GRID, (20, 60)), [ring])


@pytest.mark.parametrize(("column", "side"), [(10, "east"), (110, "west")])
def test_on_either_side_of_the_antimeridian(column: int, side: str) -> None:
    """A scene of zone 1 across 180: what lies west of it has longitudes near 180, what lies east of it near −180."""
    grid = Grid.utm(180.0, 69.3, (150, 120), zone=1)
    longitude = place(grid, 70, column)[0]
    assert (longitude > 0) == (side == "east")
    cells = {
        "east": Gridcell("east", shapely.box(179.95, 69.2, 179.99, 69.4)),
        "west": Gridcell("west", shapely.box(-179.99, 69.2, -179.95, 69.4)),
    }
    scl = scl_with(grid, (70, column))
    assert [name for name, cell in cells.items() if seen(grid, scl, [cell])] == [side]


def test_a_wide_cell_has_curved_edges() -> None:
    """A parallel of 6° bends by hundreds of pixels in UTM; a pixel just inside it is seen, one well outside is not."""
    grid = Grid.utm(-150.0, 68.6, (150, 120), zone=5)
    latitude = place(grid, 80, 60)[1]
    cell = Gridcell("wide", shapely.box(-156, latitude - 0.2, -150 + 0.2, latitude))
    assert seen(grid, scl_with(grid, (90, 60)), [cell])
    assert not seen(grid, scl_with(grid, (30, 60)), [cell])


def test_the_reach_grows_where_the_lattice_is_coarser() -> None:
    assert kernel_reach((1.0, 1.0)) == kernel_reach((2.8, 1.0)) == 4
    assert kernel_reach((1.0, 0.1)) == 22


# ------------------------------------------------------------------------------------ against what is composited


def write(folder: Path, name: ProductName, scl: np.ndarray, seed: int = 0, grid: Grid = GRID) -> None:
    dn = np.random.default_rng(seed).integers(1, 4000, grid.shape).astype(np.uint16)
    write_product(folder, name, grid, {"B04": dn}, scl)


@pytest.mark.parametrize(("resampling", "tr"), [("bilinear", 0.00018), ("nearest", 0.0004), ("cubic", 0.004)])
def test_a_cell_that_does_not_see_a_scene_has_no_pixel_of_it(tmp_path: Path, resampling: str, tr: float) -> None:
    """Cells in steps towards a clear patch: as long as nothing is seen, the composite is empty."""
    scl = np.full(GRID.shape, 9, np.uint8)
    scl[64:80, 48:64] = 5
    write(tmp_path / "archive", product_name(), scl)
    bounds = [cell_of_pixels(GRID, (80 + step, 140 + step), (20, 100)).polygon.bounds for step in range(-6, 60, 3)]
    cells = [Gridcell(f"c{number}", shapely.box(*box)) for number, box in enumerate(bounds)]
    parameters = parameters_for(tmp_path, tmp_path / "archive", cells, resampling=resampling, tr=(tr, tr))
    valid = {cell_id: outcome.valid > 0 for (cell_id, _), outcome in run(parameters).items()}
    chosen = parameters.model_copy(update={"source": None})
    not_needed = {
        cell.cell_id: prepared(chosen, tmp_path / "archive", [cell])[0].scene.is_not_needed  # type: ignore[union-attr]
        for cell in cells
    }
    assert not [cell_id for cell_id in valid if valid[cell_id] and not_needed[cell_id]]
    assert any(valid.values())
    if resampling != "cubic":  # whose kernel reaches 40 pixels here
        assert any(not_needed.values())


def prepared(parameters: RunParameters, archive: Path, cells: Sequence[Gridcell]) -> list[Preparation]:
    """Phase 1 as of a run that downloaded ``archive``."""
    context = RunContext(parameters, rank=1)
    return [prepare_product(context, read_product(path), cells) for path in sorted(archive.iterdir())]


def composited(parameters: RunParameters, archive: Path, cell: Gridcell) -> tuple[Mapping[str, object], list[Path]]:
    workspace = Workspace(parameters.work_dir)
    scenes: list[Scene] = []
    for preparation in prepared(parameters, archive, [cell]):
        assert not preparation.errors
        assert preparation.scene is not None
        scenes.append(preparation.scene)
    (outcome,) = composite_cell(RunContext(parameters, 1), cell, ["B04"], scenes)
    assert outcome.status == "written", outcome.reason
    assert outcome.scenes == len(scenes)
    record = read_record(workspace.record(cell.cell_id, "B04"))
    assert record is not None
    return record, [workspace.composite(cell.cell_id, "B04"), workspace.count(cell.cell_id, "B04")]


@pytest.mark.parametrize("seen_ones", [0, 2])
def test_with_and_without_the_scenes_not_needed_pixels_and_key_are_the_same(tmp_path: Path, seen_ones: int) -> None:
    """Also if no scene is needed; such a scene needs no band on disk, and without scl_first it does."""
    cell = cell_of_pixels(GRID, (85, 140), (20, 100))
    archive = tmp_path / "imagery"
    masked = product_name(9)
    write(archive, masked, scl_with(GRID, (70, 60)))
    for number in range(seen_ones):
        write(archive, product_name(number), np.full(GRID.shape, 4, np.uint8), seed=number)
    plain = parameters_for(tmp_path, archive, [cell], count=True).model_copy(update={"source": None})
    off = composited(plain.model_copy(update={"scl_first": False, "work_dir": tmp_path / "off"}), archive, cell)
    (band,) = (archive / masked.folder).rglob("*_B04_20m.jp2")
    size = band.stat().st_size
    band.unlink()
    on = composited(plain, archive, cell)
    assert on[0]["key"] == off[0]["key"]
    assert (on[0]["not_needed"], off[0]["not_needed"]) == ([str(masked)], [])
    for one, other in zip(on[1], off[1], strict=True):
        assert np.array_equal(pixels(one), pixels(other))
    not_needed = prepared(plain, archive, [cell])[-1].scene
    assert not_needed is not None
    assert not_needed.bytes_not_needed() == size
    missing = prepared(plain.model_copy(update={"scl_first": False}), archive, [cell])[-1]
    assert [error.band for error in missing.errors] == ["B04"]
    wider = prepared(plain, archive, [cell_of_pixels(GRID, (60, 140), (20, 100))])[-1]
    assert [error.step for error in wider.errors] == ["files"]


def test_the_classes_of_the_run_decide_and_dilation_does_not(tmp_path: Path) -> None:
    """Class 11 unmasked: seen; a cloud next to the clear pixel, widened over it: still seen."""
    cell = cell_of_pixels(GRID, (60, 80), (50, 70))
    archive = tmp_path / "imagery"
    scl = np.full(GRID.shape, 9, np.uint8)
    scl[60:80] = 11
    write(archive, product_name(), scl)
    plain = parameters_for(tmp_path, archive, [cell]).model_copy(update={"source": None})

    def is_not_needed(**changes: object) -> bool:
        scene = prepared(plain.model_copy(update=changes), archive, [cell])[0].scene
        assert scene is not None
        return scene.is_not_needed

    assert is_not_needed()
    assert not is_not_needed(scl_mask=[9])
    assert not is_not_needed(scl_mask=[9], scl_dilation={9: 400.0})
