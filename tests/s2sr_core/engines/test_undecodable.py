"""An image that cannot be decoded leaves its scene out of that band, where a cell needs what is damaged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from support.scenes import break_tiles, noisy_dn, parameters_for, patchy_scl, pixels, prepare, product_name

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import Outcome, composite_cell
from s2sr_core.engines import decoded
from s2sr_core.files import read_record
from s2sr_core.geo.lattice import Window
from s2sr_core.jpeg2000 import openjpeg
from s2sr_core.jpeg2000.windows import window_reader
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.run_context import RunContext
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.products import write_product

SIZE = (120, 1280)
GRID = Grid.utm(-149.6, 68.63, SIZE, zone=5)
#: One on the left tile of the images, one on the right, each 640 pixels wide.
CELLS = [
    Gridcell("west", shapely.box(-149.78, 68.625, -149.75, 68.635)),
    Gridcell("east", shapely.box(-149.45, 68.625, -149.42, 68.635)),
]
BANDS = ["B04", "B11"]
BROKEN = str(product_name(1))


def archive_of(folder: Path, count: int = 3, *, clear: bool = True) -> Path:
    """Scenes of noise."""
    rng = np.random.default_rng(count)
    for number in range(count):
        scl = patchy_scl(rng, SIZE, 40)
        if number == 1 and not clear:
            scl[:, : SIZE[1] // 2] = 9
        write_product(folder, product_name(number), GRID, {band: noisy_dn(rng, SIZE) for band in BANDS}, scl)
    return folder


def image_of(archive: Path, number: int, band: str) -> Path:
    (image,) = (archive / product_name(number).folder).rglob(f"*_{band}_20m.jp2")
    return image


def damaged(name: str) -> Callable[[Path], None]:
    def truncated(image: Path) -> None:
        os.truncate(image, image.stat().st_size // 10)

    def zeros(image: Path) -> None:
        content = image.read_bytes()
        first = content.index(b"\xff\x90")
        image.write_bytes(content[: first + 12] + bytes(len(content) - first - 12))

    def another_kind(image: Path) -> None:
        image.write_text("<VRTDataset/>")

    return {"truncated": truncated, "zeros": zeros, "another kind": another_kind, "gone": Path.unlink}[name]


def parameters_of(tmp_path: Path, archive: Path, chosen: Sequence[Gridcell] = CELLS, **changes: Any) -> RunParameters:
    """Of a run that does not compare images with the checksums of the manifest, which would tell before."""
    return parameters_for(
        tmp_path, archive, chosen, **({"bands": BANDS, "count": True, "check_files": "never"} | changes)
    )


def run(parameters: RunParameters, damage: Callable[[], object] = lambda: None) -> dict[tuple[str, str], Outcome]:
    """Both phases; ``damage`` happens between them, when only phase 2 can meet it."""
    context = RunContext(parameters, rank=1)
    preparations = prepare(parameters, context)
    damage()
    scenes = [preparation.scene for preparation in preparations if preparation.scene]
    return {
        (outcome.cell_id, outcome.band): outcome
        for cell in choose_gridcells(parameters)
        for outcome in composite_cell(context, cell, parameters.bands, scenes)
    }


def rasters_of(parameters: RunParameters) -> dict[str, np.ndarray]:
    composites = RunContext(parameters).workspace.composites
    return {path.name: pixels(path) for path in sorted(composites.rglob("*.tif"))}


def assert_same(found: RunParameters, expected: RunParameters) -> None:
    left, right = rasters_of(found), rasters_of(expected)
    assert left.keys() == right.keys()
    for name, raster in right.items():
        assert np.array_equal(left[name], raster), name


def without(archive: Path, folder: Path, number: int, band: str) -> Path:
    """The archive without one image."""
    shutil.copytree(archive, folder)
    image_of(folder, number, band).unlink()
    return folder


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        ("fast", "truncated"),
        ("fast", "zeros"),
        ("fast", "another kind"),
        ("fast", "gone"),
        ("reference", "truncated"),
        ("reference", "gone"),
    ],
)
def test_the_composite_is_made_of_the_others(tmp_path: Path, engine: str, kind: str) -> None:
    archive = archive_of(tmp_path / "archive")
    image = image_of(archive, 1, "B11")
    others = parameters_of(tmp_path, without(archive, tmp_path / "others", 1, "B11"), work_dir=tmp_path / "expected")
    run(others)
    parameters = parameters_of(tmp_path, archive, engine=engine)
    outcomes = run(parameters, lambda: damaged(kind)(image))
    assert {outcome.status for outcome in outcomes.values()} == {"written"}
    assert_same(parameters, others)
    for (_, band), outcome in outcomes.items():
        found = [(error.product, error.band, error.step) for error in outcome.left_out]
        assert found == ([(BROKEN, "B11", "decode")] if band == "B11" else [])
        assert outcome.scenes == (2 if band == "B11" else 3)
        if band == "B11":
            assert image.name in outcome.left_out[0].reason
            assert BROKEN in outcome.reason
    assert not list(RunContext(parameters).workspace.vrts(1).glob("tmp*"))


@pytest.mark.parametrize("changes", [{}, {"resampling": "nearest"}, {"tr": (0.0011, 0.0011)}], ids=str)
def test_only_cells_that_need_what_is_damaged_are_made_without_it(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Whichever engine reads, and whichever other cells are selected."""
    archive = archive_of(tmp_path / "archive")
    break_tiles(image_of(archive, 1, "B04"), 1)
    both = {
        engine: parameters_of(tmp_path, archive, engine=engine, work_dir=tmp_path / engine, **changes)
        for engine in ("fast", "reference")
    }
    for parameters in both.values():
        outcomes = run(parameters)
        left_out = {key for key, outcome in outcomes.items() if outcome.left_out}
        assert left_out == {("east", "B04")}
        assert {outcome.status for outcome in outcomes.values()} == {"written"}
    assert_same(both["fast"], both["reference"])
    alone = parameters_of(tmp_path, archive, CELLS[:1], work_dir=tmp_path / "alone", **changes)
    run(alone)
    whole = rasters_of(both["fast"])
    for name, raster in rasters_of(alone).items():
        assert np.array_equal(raster, whole[name]), name


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_a_damaged_tile_that_scl_masks_costs_nothing(tmp_path: Path, engine: str) -> None:
    """The reference meets it, and reads the scene from a copy of what counts."""
    archive = archive_of(tmp_path / "archive", clear=False)
    whole = parameters_of(tmp_path, archive, work_dir=tmp_path / "whole")
    run(whole)
    break_tiles(image_of(archive, 1, "B04"), 0)
    parameters = parameters_of(tmp_path, archive, engine=engine)
    assert not [outcome for outcome in run(parameters).values() if outcome.left_out]
    assert_same(parameters, whole)


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_later_runs_try_that_image_again_and_nothing_else(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archive_of(tmp_path / "archive")
    image = image_of(archive, 1, "B11")
    good = image.read_bytes()
    whole = parameters_of(tmp_path, archive, work_dir=tmp_path / "whole")
    run(whole)
    parameters = parameters_of(tmp_path, archive, engine=engine)
    break_tiles(image, 0, 1)
    first = run(parameters)
    record = read_record(RunContext(parameters).workspace.record("east", "B11"))
    assert record is not None
    assert list(record["left_out"]) == [BROKEN]
    assert BROKEN not in {scene["product"] for scene in record["inputs"]["scenes"]}
    opened: set[Path] = set()
    monkeypatch.setattr(decoded, "window_reader", _watched(opened, window_reader))
    again = run(parameters)
    assert {outcome.status for outcome in again.values()} == {"kept"}
    assert {key: str(outcome.left_out) for key, outcome in again.items()} == {
        key: str(outcome.left_out) for key, outcome in first.items()
    }
    assert opened == {image}
    image.write_bytes(good)
    repaired = run(parameters)
    assert {key: outcome.status for key, outcome in repaired.items()} == {
        ("west", "B04"): "kept",
        ("east", "B04"): "kept",
        ("west", "B11"): "written",
        ("east", "B11"): "written",
    }
    assert not [outcome for outcome in repaired.values() if outcome.left_out]
    assert_same(parameters, whole)


def _watched(opened: set[Path], reader: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def watch(image: Path) -> Any:
        opened.add(image)
        return reader(image)

    return watch


def test_a_composite_made_with_an_image_that_is_damaged_now_is_kept(tmp_path: Path) -> None:
    """A scene more would have it computed again, of fewer scenes than before: what was made of all of them stays."""
    archive = archive_of(tmp_path / "archive", 2)
    parameters = parameters_of(tmp_path, archive)
    run(parameters)
    before = rasters_of(parameters)
    break_tiles(image_of(archive, 1, "B11"), 0, 1)
    assert {outcome.status for outcome in run(parameters).values()} == {"kept"}
    rng = np.random.default_rng(9)
    arrays = {band: noisy_dn(rng, SIZE) for band in BANDS}
    write_product(archive, product_name(5), GRID, arrays, patchy_scl(rng, SIZE, 40))
    outcomes = run(parameters)
    assert {key: outcome.status for key, outcome in outcomes.items() if key[1] == "B04"} == {
        ("west", "B04"): "written",
        ("east", "B04"): "written",
    }
    for cell in ("west", "east"):
        outcome = outcomes[cell, "B11"]
        assert (outcome.status, outcome.step) == ("failed", "scenes")
        assert [error.product for error in outcome.left_out] == [BROKEN]
    for name, raster in rasters_of(parameters).items():
        assert np.array_equal(raster, before[name]) == ("B11" in name), name


def test_without_any_image_that_can_be_decoded_there_is_no_scene(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", 2)
    for number in range(2):
        break_tiles(image_of(archive, number, "B11"), 0, 1)
    outcomes = run(parameters_of(tmp_path, archive))
    assert {key: outcome.status for key, outcome in outcomes.items()} == {
        ("west", "B04"): "written",
        ("east", "B04"): "written",
        ("west", "B11"): "no scene",
        ("east", "B11"): "no scene",
    }
    assert len(outcomes["west", "B11"].left_out) == 2
    assert "no scene that can be used" in outcomes["west", "B11"].reason


def test_what_openjpeg_cannot_read_gdal_can(tmp_path: Path) -> None:
    """OpenJPEG does not get past the damaged tile to tell that the one before it is complete."""
    if not openjpeg.is_available():
        pytest.skip("GDAL is not linked to an OpenJPEG 2.x")
    archive = archive_of(tmp_path / "archive", 1)
    image = image_of(archive, 0, "B04")
    counts = np.ones(GRID_TILE.shape, bool)
    with window_reader(image) as read:
        expected = read(GRID_TILE, counts)
    break_tiles(image, 1)
    with window_reader(image) as read:
        assert np.array_equal(read(GRID_TILE, counts), expected)


GRID_TILE = Window(0, 0, 600, 100)
