"""Nothing is recomputed when nothing changed, and exactly what changed is recomputed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from support.scenes import noisy_dn, parameters_for, patchy_scl, pixels, prepare, product_name, run, write_scene

import s2sr_core
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites import cog, records
from s2sr_core.composites.composite import composite_cell
from s2sr_core.parameters import RunParameters
from s2sr_core.run_context import RunContext
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.products import write_product

WEST = Gridcell("west", shapely.box(-149.615, 68.625, -149.60, 68.635))
EAST = Gridcell("east", shapely.box(-149.60, 68.625, -149.585, 68.635))
GRID = Grid.utm(-149.6, 68.63, 120, zone=5)
WEST_ONLY = Grid.utm(-149.63, 68.63, 100, zone=5)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    for number in range(2):
        write_scene(tmp_path / "archive", product_name(number), GRID, rng, ("B04", "B11"))
    return tmp_path / "archive"


def go(tmp_path: Path, archive: Path, cells: list[Gridcell] | None = None, **changes: Any) -> dict[str, str]:
    """Status by ``cell band`` of a run over B04 and B11."""
    parameters = parameters_for(tmp_path, archive, cells or [WEST, EAST], **({"bands": ["B04", "B11"]} | changes))
    return {f"{cell} {band}": outcome.status for (cell, band), outcome in run(parameters).items()}


def all_of(status: str) -> dict[str, str]:
    return {f"{cell} {band}": status for cell in ("west", "east") for band in ("B04", "B11")}


def test_an_identical_run_keeps_every_byte(tmp_path: Path, archive: Path) -> None:
    assert go(tmp_path, archive) == all_of("written")
    files = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in (tmp_path / "run/composites").rglob("*") if p.is_file()}
    assert go(tmp_path, archive) == all_of("kept")
    assert files == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


def test_a_new_scene_recomputes_the_cells_it_touches(tmp_path: Path, archive: Path) -> None:
    go(tmp_path, archive)
    write_scene(archive, product_name(2), WEST_ONLY, np.random.default_rng(5), ("B04", "B11"))
    assert go(tmp_path, archive) == all_of("kept") | {"west B04": "written", "west B11": "written"}


def test_a_changed_band_recomputes_that_band_alone(tmp_path: Path, archive: Path) -> None:
    """The product is made again with another B11; its B04 and SCL are the same to the byte."""
    go(tmp_path, archive)
    rng = np.random.default_rng(2)
    scl = patchy_scl(rng, GRID.shape)
    arrays = {band: noisy_dn(rng, GRID.shape) for band in ("B04", "B11")}
    arrays["B11"] = np.roll(arrays["B11"], 1, axis=0)
    write_product(archive, product_name(0), GRID, arrays, scl)
    assert go(tmp_path, archive) == all_of("kept") | {"west B11": "written", "east B11": "written"}


def test_a_lost_scene_recomputes(tmp_path: Path, archive: Path) -> None:
    go(tmp_path, archive)
    shutil.rmtree(archive / product_name(1).folder)
    assert go(tmp_path, archive) == all_of("written")


def test_a_changed_polygon_recomputes_that_cell(tmp_path: Path, archive: Path) -> None:
    go(tmp_path, archive)
    smaller = replace(WEST, polygon=shapely.box(-149.615, 68.625, -149.60, 68.634))
    assert go(tmp_path, archive, [smaller, EAST]) == all_of("kept") | {"west B04": "written", "west B11": "written"}


@pytest.mark.parametrize(
    "change",
    [
        {"tr": (0.0002, 0.0002)},
        {"tr": (0.000179663056824, 0.0002)},
        {"tap": False},
        {"resampling": "nearest"},
        {"scl_mask": [0, 1, 2, 3, 8, 9, 10, 11]},
        {"scl_dilation": {9: 40.0}},
        {"overwrite": True},
    ],
    ids=str,
)
def test_a_changed_parameter_or_lattice_recomputes_all(tmp_path: Path, archive: Path, change: dict[str, Any]) -> None:
    go(tmp_path, archive)
    assert go(tmp_path, archive, **change) == all_of("written")


@pytest.mark.parametrize("change", [{"keep_tmp": True}, {"workers": 3}, {"quicklook": True}], ids=str)
def test_a_parameter_that_changes_no_pixel_recomputes_nothing(
    tmp_path: Path, archive: Path, change: dict[str, Any]
) -> None:
    go(tmp_path, archive)
    assert go(tmp_path, archive, **change) == all_of("kept")


def test_another_version_of_the_software_recomputes(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path, archive)
    monkeypatch.setattr(records, "__version__", f"{s2sr_core.__version__}.post1")
    assert go(tmp_path, archive) == all_of("written")


def test_other_code_of_the_same_version_recomputes(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path, archive)
    monkeypatch.setattr(records, "code_digest", lambda package: "another")
    assert go(tmp_path, archive) == all_of("written")


def test_moving_the_archive_recomputes_nothing(tmp_path: Path, archive: Path) -> None:
    go(tmp_path, archive)
    moved = archive.rename(tmp_path / "elsewhere")
    assert go(tmp_path, moved) == all_of("kept")


def test_counts_asked_for_later_are_written_with_the_same_composites(tmp_path: Path, archive: Path) -> None:
    go(tmp_path, archive)
    path = Workspace(tmp_path / "run").composite("west", "B04")
    before = path.read_bytes()
    assert go(tmp_path, archive, count=True) == all_of("written")
    assert path.read_bytes() == before
    assert go(tmp_path, archive, count=True) == all_of("kept")


@pytest.mark.parametrize("lost", ["composite", "record"])
def test_a_composite_without_its_record_or_a_record_without_its_composite_is_computed_again(
    tmp_path: Path, archive: Path, lost: str
) -> None:
    go(tmp_path, archive)
    getattr(Workspace(tmp_path / "run"), lost)("east", "B04").unlink()
    assert go(tmp_path, archive) == all_of("kept") | {"east B04": "written"}


@pytest.mark.parametrize("text", ["{", '{"key": 1}'])
def test_a_broken_record_is_none(tmp_path: Path, archive: Path, text: str) -> None:
    go(tmp_path, archive)
    Workspace(tmp_path / "run").record("east", "B04").write_text(text)
    assert go(tmp_path, archive) == all_of("kept") | {"east B04": "written"}


def test_when_no_scene_is_left_the_old_composite_is_removed(tmp_path: Path, archive: Path) -> None:
    write_scene(archive, product_name(2), WEST_ONLY, np.random.default_rng(5), ("B04", "B11"))
    far = Gridcell("west", shapely.box(-149.66, 68.625, -149.645, 68.635))
    assert set(go(tmp_path, archive, [far]).values()) == {"written"}
    shutil.rmtree(archive / product_name(2).folder)
    parameters = parameters_for(tmp_path, archive, [far])
    outcome = run(parameters)["west", "B04"]
    assert (outcome.status, outcome.path) == ("no scene", None)
    assert "removed" in outcome.reason
    assert not Workspace(parameters.work_dir).composite("west", "B04").exists()
    assert not Workspace(parameters.work_dir).record("west", "B04").exists()


def test_the_record_tells_what_a_composite_was_made_of(tmp_path: Path, archive: Path) -> None:
    go(tmp_path, archive)
    workspace = Workspace(tmp_path / "run")
    record = json.loads(workspace.record("west", "B04").read_text())
    manifest = (archive / product_name(0).folder / "manifest.safe").read_text()
    scenes = record["inputs"]["scenes"]
    assert [entry["product"] for entry in scenes] == [str(product_name(0)), str(product_name(1))]
    for band in ("B04", "SCL"):
        assert scenes[0][band].partition(":")[2] in manifest.lower()
    found = pixels(workspace.composite("west", "B04"))
    assert record["pixels"]["valid"] == (found != -9999).sum()


def test_a_failure_while_writing_leaves_no_half_written_composite(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills while the second band is written: it fails with its reason, what was there before stays."""
    go(tmp_path, archive)
    workspace = Workspace(tmp_path / "run")
    before = workspace.composite("west", "B11").read_bytes()
    original = cog.ScratchRaster.finish

    def full(self: Any, target: Path, tags: Any) -> str:
        if "B11" in target.name:
            target.write_bytes(b"half of it")
            raise OSError(28, "No space left on device")
        return original(self, target, tags)

    monkeypatch.setattr(cog.ScratchRaster, "finish", full)
    parameters = parameters_for(tmp_path, archive, [WEST], bands=["B04", "B11"], resampling="nearest")
    outcomes = run(parameters)
    assert outcomes["west", "B04"].status == "written"
    failed = outcomes["west", "B11"]
    assert (failed.status, failed.step) == ("failed", "write")
    assert failed.reason.startswith("no space left on ")
    assert workspace.composite("west", "B11").read_bytes() == before
    assert [path.name for path in workspace.cell_folder("west").iterdir() if path.name.startswith(".")] == []


def test_parameters_travel_as_they_are(tmp_path: Path, archive: Path) -> None:
    """What the flow is called with gives the same parameters again, also by JSON, as an API would send it."""
    parameters = parameters_for(tmp_path, archive, [WEST], scl_dilation={9: 40.0}, months="6-8", tiles=["T05WPS"])
    assert RunParameters(**dict(parameters)) == parameters
    assert RunParameters.model_validate_json(parameters.model_dump_json()) == parameters


def test_a_file_that_is_shorter_than_what_was_written_is_a_failure_and_not_a_composite(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk may lose bytes without an error: here the last ones, before the file is closed."""
    go(tmp_path, archive)
    workspace = Workspace(tmp_path / "run")
    before = workspace.composite("west", "B04").read_bytes()
    monkeypatch.setattr(cog.os, "fsync", lambda fd: os.truncate(f"/proc/self/fd/{fd}", os.fstat(fd).st_size // 2))
    outcome = run(parameters_for(tmp_path, archive, [WEST], resampling="nearest"))["west", "B04"]
    assert (outcome.status, outcome.step) == ("failed", "write")
    assert workspace.composite("west", "B04").read_bytes() == before


def test_a_composite_that_was_cut_is_computed_again(tmp_path: Path, archive: Path) -> None:
    go(tmp_path, archive)
    path = Workspace(tmp_path / "run").composite("east", "B04")
    path.write_bytes(path.read_bytes()[:100])
    assert go(tmp_path, archive) == all_of("kept") | {"east B04": "written"}


@pytest.mark.parametrize("usable", [0, 1])
def test_a_product_that_fails_today_does_not_cost_the_composite_it_was_part_of(
    tmp_path: Path, archive: Path, usable: int
) -> None:
    """Both scenes or one of them cannot be used: the old composite stays, and the outcome says why it failed."""
    parameters = parameters_for(tmp_path, archive, [WEST])
    run(parameters)
    workspace = Workspace(parameters.work_dir)
    before = workspace.composite("west", "B04").read_bytes()
    scenes = [preparation.scene for preparation in prepare(parameters) if preparation.scene]
    lost = {str(scene.product.name) for scene in scenes[usable:]}
    (outcome,) = composite_cell(RunContext(parameters, 1), WEST, ["B04"], scenes[:usable], lost)
    assert (outcome.status, outcome.step) == ("failed", "scenes")
    assert min(lost) in outcome.reason
    assert workspace.composite("west", "B04").read_bytes() == before
    changed = parameters.model_copy(update={"resampling": "nearest"})
    (outcome,) = composite_cell(RunContext(changed, 1), WEST, ["B04"], scenes[:usable], lost)
    assert outcome.status == ("written" if usable else "no scene")


def test_a_small_cell_without_any_valid_pixel_is_written(tmp_path: Path) -> None:
    scl = np.full(GRID.shape, 9, np.uint8)
    write_product(tmp_path / "archive", product_name(0), GRID, {"B04": np.full(GRID.shape, 500, np.uint16)}, scl)
    tiny = Gridcell("tiny", shapely.box(-149.601, 68.6295, -149.6, 68.63))
    outcomes = run(parameters_for(tmp_path, tmp_path / "archive", [WEST, tiny]))
    for cell_id in ("west", "tiny"):
        assert (outcomes[cell_id, "B04"].status, outcomes[cell_id, "B04"].valid) == ("written", 0)
        assert (pixels(outcomes[cell_id, "B04"].path) == -9999).all()


@pytest.mark.parametrize("scenes_now", [2, 1])
def test_zeros_of_the_same_size_are_computed_again(tmp_path: Path, archive: Path, scenes_now: int) -> None:
    """Also if a scene cannot be used now: what there is is not the composite that was made with it."""
    parameters = parameters_for(tmp_path, archive, [WEST])
    path = run(parameters)["west", "B04"].path
    assert path is not None
    before = path.read_bytes()
    path.write_bytes(bytes(len(before)))
    scenes = [preparation.scene for preparation in prepare(parameters) if preparation.scene]
    lost = {str(scene.product.name) for scene in scenes[scenes_now:]}
    (outcome,) = composite_cell(RunContext(parameters, 1), WEST, ["B04"], scenes[:scenes_now], lost)
    assert outcome.status == "written"
    assert (path.read_bytes() == before) == (scenes_now == 2)


@pytest.mark.parametrize("count", [False, True])
def test_a_copied_folder_is_kept_and_its_new_times_are_recorded(tmp_path: Path, archive: Path, count: bool) -> None:
    """As ``cp -r`` makes it. The run after the next reads no file: here it would find other bytes."""
    assert go(tmp_path, archive, count=count) == all_of("written")
    work_dir = tmp_path / "run"
    work_dir.rename(tmp_path / "original")
    shutil.copytree(tmp_path / "original", work_dir, copy_function=shutil.copy)
    workspace = Workspace(work_dir)
    record = json.loads(workspace.record("west", "B04").read_text(encoding="utf-8"))
    rasters = [workspace.composite("west", "B04"), *([workspace.count("west", "B04")] if count else [])]
    assert sorted(record["files"]) == sorted(path.name for path in rasters)
    for path in rasters:
        os.utime(path, ns=(1, 1))  # a time that is surely another
    assert go(tmp_path, archive, count=count) == all_of("kept")
    noted = json.loads(workspace.record("west", "B04").read_text(encoding="utf-8"))
    assert noted == {**record, "files": {name: {**file, "mtime_ns": 1} for name, file in record["files"].items()}}
    for path in rasters:
        path.write_bytes(bytes(path.stat().st_size))
        os.utime(path, ns=(1, 1))
    assert go(tmp_path, archive, count=count) == all_of("kept")


def test_a_record_holds_the_checksum_of_each_raster(tmp_path: Path, archive: Path) -> None:
    go(tmp_path, archive, count=True)
    workspace = Workspace(tmp_path / "run")
    record = json.loads(workspace.record("west", "B04").read_text(encoding="utf-8"))
    assert record["files"] == {
        path.name: {
            "size": path.stat().st_size,
            "mtime_ns": path.stat().st_mtime_ns,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in (workspace.composite("west", "B04"), workspace.count("west", "B04"))
    }
