"""Verification of a folder's composites: each kind of damage, done by hand."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import shapely
from support.scenes import parameters_for, product_name, run, write_scene

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.records import key_of
from s2sr_core.composites.verify import Verification, verify
from s2sr_core.outputs import indices
from s2sr_core.run_context import RunContext
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid

CELLS = [
    Gridcell("west", shapely.box(-149.61, 68.628, -149.605, 68.632)),
    Gridcell("east", shapely.box(-149.60, 68.628, -149.595, 68.632)),
]
WEST, EAST = "west/cell_west_B04_median_clip", "east/cell_east_B04_median_clip"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run over two cells, with counts, its index and its record."""
    folder = tmp_path_factory.mktemp("verify")
    write_scene(folder / "archive", product_name(), Grid.utm(-149.6, 68.63, 60, zone=5), np.random.default_rng(3))
    parameters = parameters_for(folder, folder / "archive", CELLS, count=True)
    context, outcomes = RunContext(parameters), list(run(parameters).values())
    context.workspace.indices.mkdir(exist_ok=True)
    indices.update_composite_index(context, outcomes)
    indices.write_run_record(context, {}, [])
    return parameters.work_dir


@pytest.fixture
def workspace(original: Path, tmp_path: Path) -> Workspace:
    """A copy to damage, with the times of the original."""
    shutil.copytree(original, tmp_path / "run")
    return Workspace(tmp_path / "run")


def found(workspace: Workspace) -> dict[str, str]:
    """Condition by path."""
    verification = verify(workspace)
    assert len({finding.path for finding in verification.findings}) == len(verification.findings)
    return {finding.path: str(finding.condition) for finding in verification.findings}


def test_what_nobody_touched_is_as_recorded(workspace: Workspace) -> None:
    before = {path: path.stat().st_mtime_ns for path in workspace.work_dir.rglob("*")}
    assert verify(workspace) == Verification((), composites=2, files=4, intact=4, by_size=0)
    assert verify(workspace).text() == "2 composites, 4 files: 4 as recorded"
    assert {path: path.stat().st_mtime_ns for path in workspace.work_dir.rglob("*")} == before, "nothing is written"


def test_another_time_alone_is_no_damage(workspace: Workspace) -> None:
    for path in workspace.composites.rglob("*.tif"):
        os.utime(path, ns=(1, 1))
    assert found(workspace) == {}


def test_one_byte_is_found_though_size_and_time_are_the_same(workspace: Workspace) -> None:
    path = workspace.composites / f"{WEST}.tif"
    status, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert found(workspace) == {f"{WEST}.tif": "changed"}
    assert verify(workspace).text().splitlines() == [
        f"changed       {WEST}.tif  has the recorded size, and other bytes: its checksum differs",
        "2 composites, 4 files: 3 as recorded, 1 changed",
    ]


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def retold(path: Path, **inputs: object) -> None:
    """Change inputs in a record, and its key with them."""
    record = json.loads(path.read_text(encoding="utf-8"))
    record["inputs"] |= inputs
    path.write_text(json.dumps({**record, "key": key_of(record["inputs"])}), encoding="utf-8")


def aged(path: Path) -> None:
    """As earlier versions wrote it: sizes alone."""
    record = json.loads(path.read_text(encoding="utf-8"))
    record["bytes"] = {name: file["size"] for name, file in record.pop("files").items()}
    path.write_text(json.dumps(record), encoding="utf-8")


def lattice_of(path: Path, **changes: object) -> dict[str, object]:
    return {**json.loads(path.read_text(encoding="utf-8"))["inputs"]["lattice"], **changes}


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda c: (c / f"{WEST}.tif").unlink(), {f"{WEST}.tif": "missing"}),
        (lambda c: shutil.rmtree(c / "west"), {f"{WEST}.tif": "missing"}),
        (
            lambda c: (c / "west/cell_west_B04_count_clip.tif").unlink(),
            {"west/cell_west_B04_count_clip.tif": "missing"},
        ),
        (lambda c: os.truncate(c / f"{WEST}.tif", 100), {f"{WEST}.tif": "changed"}),
        (lambda c: (c / f"{WEST}.tif").write_bytes(b""), {f"{WEST}.tif": "changed"}),
        (lambda c: replace(c / f"{WEST}.json", '"bilinear"', '"nearest"'), {f"{WEST}.json": "changed"}),
        (lambda c: shutil.copy(c / f"{WEST}.tif", c / "west/mine.tif"), {"west/mine.tif": "foreign"}),
        (lambda c: shutil.copy(c / f"{WEST}.tif", c / "mine.TIFF"), {"mine.TIFF": "foreign"}),
        (
            lambda c: shutil.copytree(c / "west", c / "new"),
            {
                f"new/{path.name}": "foreign"
                for path in [Path(f"{WEST}.tif"), Path("west/cell_west_B04_count_clip.tif")]
            },
        ),
        (
            lambda c: shutil.copy(c / f"{WEST}.tif", c / "west/cell_west_B04_extra_clip.tif"),
            {"west/cell_west_B04_extra_clip.tif": "foreign"},
        ),
        (
            lambda c: (c / f"{WEST}.json").unlink(),
            {f"{WEST}.tif": "incomplete", "west/cell_west_B04_count_clip.tif": "incomplete"},
        ),
        (
            lambda c: (c / f"{WEST}.json").write_text("{"),
            {
                f"{WEST}.json": "incomplete",
                f"{WEST}.tif": "incomplete",
                "west/cell_west_B04_count_clip.tif": "incomplete",
            },
        ),
        (
            lambda c: (c / "west/.cell_west_B04_median_clip.tif.node.1.2.part").touch(),
            {"west/.cell_west_B04_median_clip.tif.node.1.2.part": "incomplete"},
        ),
        (
            lambda c: retold(c / f"{WEST}.json", lattice=lattice_of(c / f"{WEST}.json", dx=0.001)),
            {f"{WEST}.tif": "other lattice"},
        ),
        (
            lambda c: retold(c / f"{WEST}.json", lattice=lattice_of(c / f"{WEST}.json", tap=False)),
            {f"{WEST}.tif": "other lattice"},
        ),
        (
            lambda c: retold(c / f"{WEST}.json", cell_id="east"),
            {
                f"{WEST}.json": "foreign",
                f"{WEST}.tif": "foreign",
                "west/cell_west_B04_count_clip.tif": "foreign",
            },
        ),
        (lambda c: (c / "notes.json").write_text("{"), {}),
        (lambda c: (c / "mosaic_B04_median.vrt").touch(), {}),
        (lambda c: (c / "west/cell_west_quicklook.png").touch(), {}),
        (lambda c: aged(c / f"{WEST}.json"), {}),
    ],
)
def test_each_kind_of_damage_is_named(
    workspace: Workspace, damage: Callable[[Path], object], expected: dict[str, str]
) -> None:
    damage(workspace.composites)
    assert found(workspace) == expected


def test_records_without_checksums_are_compared_by_size_and_it_is_said(workspace: Workspace) -> None:
    aged(workspace.composites / f"{WEST}.json")
    assert verify(workspace).text() == (
        "2 composites, 4 files: 4 as recorded (2 by size alone: records of earlier versions hold no checksum)"
    )
    os.truncate(workspace.composites / f"{WEST}.tif", 100)
    assert found(workspace) == {f"{WEST}.tif": "changed"}


def test_two_cells_that_were_swapped_are_found(workspace: Workspace) -> None:
    """Whole folders, renamed with all that is in them: files and records agree, and the folder's names do not."""
    (workspace.composites / "west").rename(workspace.composites / "north")
    for path in (workspace.composites / "north").iterdir():
        path.rename(path.with_name(path.name.replace("west", "north")))
    assert found(workspace) == {
        "north/cell_north_B04_count_clip.tif": "foreign",
        "north/cell_north_B04_median_clip.json": "foreign",
        "north/cell_north_B04_median_clip.tif": "foreign",
        f"{WEST}.tif": "missing",
    }


def test_a_record_names_only_files_of_its_own_folder(workspace: Workspace) -> None:
    (workspace.work_dir / "elsewhere").write_text("secret")
    path = workspace.composites / f"{WEST}.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["files"] = {"../../elsewhere": {"size": 1}, str(workspace.work_dir / "elsewhere"): {"size": 1}}
    path.write_text(json.dumps(record), encoding="utf-8")
    verification = verify(workspace)
    assert not any("elsewhere" in finding.path for finding in verification.findings)
    assert verification.files == 2, "those of the other cell"


def test_composites_alone_are_compared_with_one_another(workspace: Workspace) -> None:
    """Copied somewhere without indices/: the lattice of most of them is the folder's."""
    shutil.rmtree(workspace.indices)
    assert found(workspace) == {}
    retold(workspace.composites / f"{EAST}.json", lattice=lattice_of(workspace.composites / f"{EAST}.json", dy=0.5))
    assert list(found(workspace).values()) == ["other lattice"], "one of the two"


def test_cells_behind_links_are_read_once(workspace: Workspace, tmp_path: Path) -> None:
    (workspace.composites / "west").rename(tmp_path / "west")
    (workspace.composites / "west").symlink_to(tmp_path / "west", target_is_directory=True)
    (tmp_path / "west" / "again").symlink_to(workspace.composites, target_is_directory=True)
    assert verify(workspace) == Verification((), composites=2, files=4, intact=4, by_size=0)
