"""Images of the right size with wrong bytes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import shapely
from support.scenes import parameters_for, prepare, product_name, write_scene

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.products.safe import band_files, read_product
from s2sr_core.scenes.scene import NOT_CHECKED, Preparation
from s2sr_sandbox.grid import Grid

GRID = Grid.utm(-149.6, 68.63, 60, zone=5)
CELL = Gridcell("c", shapely.box(-149.61, 68.625, -149.59, 68.635))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    write_scene(tmp_path / "archive", product_name(), GRID, np.random.default_rng(0), ("B04", "B11"))
    return tmp_path / "archive"


def prepared(tmp_path: Path, archive: Path, **changes: object) -> Preparation:
    parameters = parameters_for(tmp_path, archive, [CELL], bands=["B04", "B11"])
    (preparation,) = prepare(parameters.model_copy(update=changes))
    return preparation


def flip(archive: Path, band: str, *, keep_time: bool = False) -> None:
    """One bit of the last byte but 100, and perhaps the time that the file had."""
    (path,) = archive.rglob(f"*_{band}_20m.jp2")
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(-100, 2)
        byte = file.read(1)[0]
        file.seek(-100, 2)
        file.write(bytes([byte ^ 1]))
    moment = status.st_mtime_ns + (0 if keep_time else 1_000_000_000)
    os.utime(path, ns=(moment, moment))


@pytest.mark.parametrize("band", ["B04", "SCL"])
@pytest.mark.parametrize("when", ["once", "always"])
@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("is_downloaded", [False, True])
def test_wrong_bytes_are_refused(
    tmp_path: Path, archive: Path, band: str, when: str, is_known: bool, is_downloaded: bool
) -> None:
    """The first time, and after the file was found to be right and then changed; also of an earlier run's downloads."""
    changes = {"source": None, "imagery": archive, "stage": "composite"} if is_downloaded else {}
    if is_known:
        assert not prepared(tmp_path, archive, check_files=when, **changes).errors
    flip(archive, band)
    preparation = prepared(tmp_path, archive, check_files=when, **changes)
    (error,) = preparation.errors
    assert (error.band, error.step) == (band, "files")
    assert error.reason.endswith("has not the MD5 that the manifest says: its bytes have changed")
    assert (preparation.scene is None) == (band == "SCL")


@pytest.mark.parametrize(("when", "is_seen"), [("once", False), ("always", True)])
def test_a_file_is_read_again_only_if_its_state_changed(
    tmp_path: Path, archive: Path, when: str, is_seen: bool
) -> None:
    """A change that hides its time is what only ``always`` finds."""
    assert not prepared(tmp_path, archive, check_files=when).errors
    flip(archive, "B04", keep_time=True)
    assert bool(prepared(tmp_path, archive, check_files=when).errors) == is_seen


def test_what_was_not_compared_is_noted(tmp_path: Path, archive: Path) -> None:
    flip(archive, "B04")
    scene = prepared(tmp_path, archive, check_files="never").scene
    assert scene is not None
    assert scene.notes == (NOT_CHECKED,)
    assert scene.is_not_checked
    (tmp_path / "run/indices/checked_files").mkdir(parents=True, exist_ok=True)
    assert not list((tmp_path / "run/indices/checked_files").iterdir())


def test_nothing_is_written_into_the_archive(tmp_path: Path, archive: Path) -> None:
    before = sorted(archive.rglob("*"))
    scene = prepared(tmp_path, archive).scene
    assert scene is not None
    assert not scene.is_not_checked
    assert sorted(archive.rglob("*")) == before
    (record,) = (tmp_path / "run/indices/checked_files").iterdir()
    assert record.name == f"{product_name()}.json"


def test_a_checksum_of_a_kind_that_manifests_do_not_have_vouches_for_nothing(archive: Path) -> None:
    """The record states the checksum of the file's own bytes then, not what the manifest claims."""
    (manifest,) = archive.rglob("manifest.safe")
    manifest.write_text(manifest.read_text().replace('"MD5"', '"SHA256"'))
    file = band_files(read_product(manifest.parent), ("B04",)).found["B04"]
    assert file.checksum == f"sha256:{hashlib.sha256(file.path.read_bytes()).hexdigest()}"
