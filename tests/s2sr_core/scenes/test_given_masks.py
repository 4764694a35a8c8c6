"""Masks of the user's own: which file is whose, onto which grid, what is refused; and composites against numpy."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from osgeo import gdal, osr
from support.independent import RawScene, composite
from support.scenes import noisy_dn, parameters_for, patchy_scl, pixels, prepare, product_name, run

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.records import inputs_in
from s2sr_core.files import read_record
from s2sr_core.geo.lattice import Lattice
from s2sr_core.outputs.pixel_history import Pixel, history_of
from s2sr_core.parameters import RunParameters
from s2sr_core.products.safe import read_product
from s2sr_core.run_context import RunContext
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.products import write_product

GRID = Grid.utm(-149.6, 68.63, 96, zone=5)
CELL = Gridcell("c", shapely.box(-149.615, 68.624, -149.585, 68.636))


def write_mask(
    path: Path,
    values: np.ndarray,
    geotransform: tuple[float, ...] = GRID.geotransform,
    crs: str | None = GRID.crs,
    nodata: float | None = None,
) -> Path:
    path.parent.mkdir(exist_ok=True)
    kinds = {np.uint8: gdal.GDT_Byte, np.int16: gdal.GDT_Int16, np.float32: gdal.GDT_Float32}
    kind = kinds[values.dtype.type]
    raster = gdal.GetDriverByName("GTiff").Create(str(path), values.shape[1], values.shape[0], 1, kind)
    raster.SetGeoTransform(geotransform)
    if crs is not None:
        raster.SetProjection(crs)
    if nodata is not None:
        raster.GetRasterBand(1).SetNoDataValue(nodata)
    raster.GetRasterBand(1).WriteArray(values)
    raster.Close()
    return path


class Scenes:
    """Three scenes of noise, with SCL and a mask of other patches."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(3)
        self.folder, self.archive, self.masks = folder, folder / "archive", folder / "masks"
        self.names = [product_name(number) for number in range(3)]
        self.dn = [noisy_dn(rng, GRID.shape) for _ in self.names]
        self.scl = [patchy_scl(rng, GRID.shape) for _ in self.names]
        #: As OmniCloudMask: 0 clear, 1 thick cloud, 2 thin cloud, 3 cloud shadow.
        self.given = [np.minimum(patchy_scl(rng, GRID.shape, patch=5) % 6, 3).astype(np.uint8) for _ in self.names]
        for name, dn, scl, given in zip(self.names, self.dn, self.scl, self.given, strict=True):
            write_product(self.archive, name, GRID, {"B04": dn}, scl)
            write_mask(self.masks / f"{name}_OCM_v1.tif", given)

    def parameters(self, **changes: Any) -> RunParameters:
        return parameters_for(self.folder, self.archive, [CELL], mask_dir=self.masks, **changes)

    def expected(self, parameters: RunParameters, masked: list[np.ndarray]) -> np.ndarray:
        raw = [
            RawScene(dn, np.where(mask, 9, 4), GRID.crs, GRID.geotransform, 0)
            for dn, mask in zip(self.dn, masked, strict=True)
        ]
        window = Lattice(*parameters.pixel_size).owned(CELL.bounds)
        return composite(CELL.polygon, raw, (window.x0, window.y0, window.x1, window.y1), parameters.pixel_size)[0]


@pytest.fixture
def scenes(tmp_path: Path) -> Scenes:
    return Scenes(tmp_path)


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize(
    ("changes", "clear"), [({}, [0]), ({"scl_mask": ["none"], "mask_clear": [0, 2]}, [0, 2])], ids=["or", "in place"]
)
def test_composites_hold_what_neither_scl_nor_the_mask_rules_out(
    scenes: Scenes, engine: str, changes: dict[str, Any], clear: list[int]
) -> None:
    parameters = scenes.parameters(engine=engine, **changes)
    found = pixels(run(parameters)["c", "B04"].path)
    by_scl = [np.isin(scl, [4, 5, 6]) if not changes else scl < 12 for scl in scenes.scl]
    masked = [~(free & np.isin(given, clear)) for free, given in zip(by_scl, scenes.given, strict=True)]
    expected = scenes.expected(parameters, masked)
    valid = expected != -9999
    assert 0.2 < valid.mean() < 0.999
    assert np.array_equal(found != -9999, valid)
    assert np.abs(found[valid] - expected[valid]).max() <= 1


def test_engines_agree_with_openings_dilations_and_masks(scenes: Scenes) -> None:
    chosen = {"scl_opening": {"8": 45, "9": 60, "10": 30}, "scl_min_size": 8000, "scl_dilation": {"9": 90, "3": 45}}
    composites = []
    for engine in ("fast", "reference"):
        parameters = scenes.parameters(engine=engine, work_dir=scenes.folder / engine, **chosen)
        composites.append(run(parameters)["c", "B04"].path.read_bytes())
    assert composites[0] == composites[1]


def raster_of(scenes: Scenes, **changes: Any) -> np.ndarray:
    """What the first scene's mask becomes on its grid."""
    preparation = prepare(scenes.parameters(**changes))[0]
    assert not preparation.errors
    return pixels(preparation.scene.given_mask.raster)


def test_a_mask_of_10_m_masks_a_pixel_of_20_m_if_any_of_its_four_is(scenes: Scenes) -> None:
    rng = np.random.default_rng(1)
    fine = (rng.random((192, 192)) < 0.1).astype(np.uint8)
    fine[7, 9] = 255
    left, dx, _, top, _, dy = GRID.geotransform
    path = next(scenes.masks.glob(f"{scenes.names[0]}*"))
    write_mask(path, fine, (left, dx / 2, 0, top, 0, dy / 2), nodata=255)
    quads = fine[::2, ::2] + fine[1::2, ::2].astype(int) + fine[::2, 1::2] + fine[1::2, 1::2]
    assert np.array_equal(raster_of(scenes), quads > 0)


def test_a_mask_on_another_grid_is_read_at_the_pixels_centres_and_masks_what_it_does_not_cover(scenes: Scenes) -> None:
    """Against PROJ: a mask in degrees, which covers the west of the scene and has nodata that is among the clear."""
    rng = np.random.default_rng(1)
    values = rng.choice(np.array([0, 1, -5], np.int16), (80, 60), p=[0.6, 0.3, 0.1])
    west, north, step_x, step_y = -149.63, 68.66, 0.0005, 0.0005
    path = next(scenes.masks.glob(f"{scenes.names[0]}*"))
    write_mask(path, values, (west, step_x, 0, north, 0, -step_y), "EPSG:4326", nodata=-5)
    systems = [osr.SpatialReference(), osr.SpatialReference()]
    for system, text in zip(systems, (GRID.crs, "EPSG:4326"), strict=True):
        system.SetFromUserInput(text)
        system.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    left, dx, _, top, _, dy = GRID.geotransform
    column, row = np.meshgrid(np.arange(96) + 0.5, np.arange(96) + 0.5)
    points = np.column_stack([(left + column * dx).ravel(), (top + row * dy).ravel()])
    places = np.array(osr.CoordinateTransformation(*systems).TransformPoints(points))
    i, j = np.floor((places[:, 0] - west) / step_x).astype(int), np.floor((north - places[:, 1]) / step_y).astype(int)
    there = (i >= 0) & (i < 60) & (j >= 0) & (j < 80)
    expected = np.ones(i.size, bool)
    expected[there] = values[j[there], i[there]] != 0
    assert 0.1 < there.mean() < 0.9
    assert np.array_equal(raster_of(scenes, mask_clear=[0, -5]), expected.reshape(96, 96))


# ------------------------------------------------------------------------------------------------- what is refused


def reason_for(scenes: Scenes) -> str:
    """Why the first product is not used; the others are."""
    first, *others = prepare(scenes.parameters())
    assert all(other.scene is not None and not other.errors for other in others)
    assert first.scene is None
    (error,) = first.errors
    assert error.step == "mask"
    return error.reason


def test_a_product_without_a_mask_is_not_used(scenes: Scenes) -> None:
    next(scenes.masks.glob(f"{scenes.names[0]}*")).unlink()
    (scenes.masks / "a.tif").write_bytes(b"")  # shorter than a product's name
    assert reason_for(scenes) == f"{scenes.masks} holds no mask of it, such as {scenes.names[0]}.tif"


def test_two_masks_of_a_product_are_one_too_many(scenes: Scenes) -> None:
    write_mask(scenes.masks / f"{scenes.names[0]}.TIFF", scenes.given[0])
    assert "holds several masks of it: " in reason_for(scenes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"values": np.zeros((96, 96), np.float32)}, "is not one band of whole numbers of 8 or 16 bits"),
        ({"crs": None}, "has no coordinate system"),
        ({"geotransform": (400_000.0, 20.0, 0.0, 7_000_000.0, 0.0, -20.0)}, "lies outside the product's images"),
        ({"values": np.zeros((1, 21_961), np.uint8)}, "has 21961 x 1 pixels; 21960 x 21960 is the most"),
        ({"geotransform": (float("nan"), 20.0, 0.0, 7e6, 0.0, -20.0)}, "has no geotransform"),
    ],
)
def test_what_cannot_be_a_mask_is_refused(scenes: Scenes, changes: dict[str, Any], reason: str) -> None:
    path = next(scenes.masks.glob(f"{scenes.names[0]}*"))
    write_mask(path, **({"values": scenes.given[0]} | changes))
    assert reason in reason_for(scenes)


def test_a_mask_that_is_another_format_is_not_opened(scenes: Scenes) -> None:
    path = next(scenes.masks.glob(f"{scenes.names[0]}*"))
    path.write_text(f'<VRTDataset rasterXSize="96" rasterYSize="96"><SRS>{GRID.crs}</SRS></VRTDataset>')
    assert "is not a GeoTIFF that GDAL can read" in reason_for(scenes)


def test_a_pipe_is_not_waited_for(scenes: Scenes) -> None:
    path = next(scenes.masks.glob(f"{scenes.names[0]}*"))
    path.unlink()
    os.mkfifo(path)
    assert reason_for(scenes) == f"{path.name} is not a regular file"


def test_a_truncated_mask_is_refused(scenes: Scenes) -> None:
    path = next(scenes.masks.glob(f"{scenes.names[0]}*"))
    path.write_bytes(path.read_bytes()[:4000])
    assert "is not a GeoTIFF that GDAL can read" in reason_for(scenes)


# ---------------------------------------------------------------------------------------- re-runs, and what is said


def test_another_mask_makes_another_composite_and_its_record_names_it(scenes: Scenes) -> None:
    parameters = scenes.parameters()
    assert run(parameters)["c", "B04"].status == "written"
    assert run(parameters)["c", "B04"].status == "kept"
    path = next(scenes.masks.glob(f"{scenes.names[1]}*"))
    inputs = inputs_in(read_record(Workspace(parameters.work_dir).record("c", "B04")))
    digest = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    assert inputs["scenes"][1]["mask"] == f"sha256:{digest}"
    assert inputs["mask"]["given_clear"] == [0]
    write_mask(path, np.zeros_like(scenes.given[1]))
    assert run(parameters)["c", "B04"].status == "written"
    assert run(parameters.model_copy(update={"mask_dir": None}))["c", "B04"].status == "written"
    record = read_record(Workspace(parameters.work_dir).record("c", "B04"))
    assert "mask" not in inputs_in(record)["scenes"][1]


def test_a_scene_that_scl_masks_completely_needs_no_mask(scenes: Scenes) -> None:
    name = scenes.names[0]
    write_product(scenes.archive, name, GRID, {"B04": scenes.dn[0]}, np.full(GRID.shape, 9, np.uint8))
    next(scenes.masks.glob(f"{name}*")).unlink()
    first = prepare(scenes.parameters())[0]
    assert not first.errors
    assert first.scene.given_mask is None
    assert first.scene.valid_share == 0


def test_the_share_of_clear_pixels_is_that_of_scl_and_mask(scenes: Scenes) -> None:
    next_to_cell = [prepare(scenes.parameters(mask_clear=clear))[0].scene.valid_share for clear in ([0], [0, 1, 2, 3])]
    assert 0 < next_to_cell[0] < next_to_cell[1] - 0.1


def test_explain_names_the_mask(scenes: Scenes) -> None:
    parameters = scenes.parameters()
    context = RunContext(parameters, rank=1)
    product = read_product(scenes.archive / f"{scenes.names[0]}.SAFE")
    lattice = Lattice(*parameters.pixel_size)
    reasons = set()
    for longitude in np.linspace(-149.614, -149.586, 12):
        values = history_of(context, product, Pixel(CELL, lattice.pixel_of(longitude, 68.63)), is_not_needed=False)
        reasons.add(values.values["B04"].reason)
    assert f"by {scenes.names[0]}_OCM_v1.tif" in reasons
    assert "" in reasons  # and one is used
