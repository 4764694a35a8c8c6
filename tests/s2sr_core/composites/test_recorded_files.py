"""Files compared with their record: by size and time, and by checksum if the time is another."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from s2sr_core.composites.recorded_files import FileState, RecordedFile, recorded_files, sha256_of

BYTES = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "a.tif").write_bytes(BYTES)
    return tmp_path / "a.tif"


def touch(path: Path, later: int = 1) -> None:
    """Give the file a time of its own, ``later`` nanoseconds from now."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + later))


def test_a_checksum_is_that_of_the_bytes(path: Path) -> None:
    assert sha256_of(path) == DIGEST


def test_what_nobody_touched_is_not_read(path: Path) -> None:
    """By day-to-day runs; a thorough check reads it. Here the recorded checksum is one that no file has."""
    recorded = RecordedFile.of(path, "0" * 64)
    assert recorded.state(path) == FileState.SAME
    assert recorded.state(path, thorough=True) == FileState.CHANGED


def test_another_time_and_the_same_bytes_is_a_copy(path: Path) -> None:
    recorded = RecordedFile.of(path, DIGEST)
    for later in (-(10**9), 1, 10**12):
        touch(path, later)
        assert recorded.state(path) == recorded.state(path, thorough=True) == FileState.COPIED


def test_other_bytes_of_the_same_size_are_a_change(path: Path) -> None:
    recorded = RecordedFile.of(path, DIGEST)
    path.write_bytes(bytes(len(BYTES)))
    touch(path)
    assert recorded.state(path) == FileState.CHANGED
    os.utime(path, ns=(0, recorded.mtime_ns or 0))  # and somebody set the clock back
    assert recorded.state(path, thorough=True) == FileState.CHANGED


@pytest.mark.parametrize("size", [0, 100, len(BYTES) + 1])
def test_another_size_is_a_change_whatever_the_record_knows(path: Path, size: int) -> None:
    recorded = RecordedFile.of(path, DIGEST)
    os.truncate(path, size)
    assert recorded.state(path) == RecordedFile(recorded.size).state(path) == FileState.CHANGED


def test_what_is_not_a_file_is_missing(path: Path) -> None:
    recorded = RecordedFile.of(path, DIGEST)
    path.unlink()
    assert recorded.state(path) == FileState.MISSING
    path.mkdir()
    assert recorded.state(path) == FileState.MISSING
    path.rmdir()
    os.mkfifo(path)
    assert recorded.state(path, thorough=True) == FileState.MISSING  # and nobody waits for its writer
    assert recorded.state(path / "below.tif") == FileState.MISSING


def test_a_record_without_a_checksum_is_compared_by_size(path: Path) -> None:
    touch(path)
    assert RecordedFile(len(BYTES)).state(path, thorough=True) == FileState.SAME


@pytest.mark.parametrize(
    ("record", "files"),
    [
        ({}, {}),
        ({"bytes": {"a.tif": 7}}, {"a.tif": RecordedFile(7)}),
        (
            {"files": {"a.tif": {"size": 7, "mtime_ns": 5, "sha256": DIGEST}}},
            {"a.tif": RecordedFile(7, 5, DIGEST)},
        ),
        ({"files": {"a.tif": {"size": 7}}}, {"a.tif": RecordedFile(7)}),
        ({"files": {"a.tif": {"size": 7, "mtime_ns": "x", "sha256": 3}}}, {"a.tif": RecordedFile(7)}),
        ({"files": {"a.tif": {"size": "7"}, "b.tif": None, "c.tif": []}}, {}),
        ({"files": ["a.tif"]}, {}),
    ],
)
def test_records_of_all_versions_and_of_none_can_be_read(
    record: dict[str, Any], files: dict[str, RecordedFile]
) -> None:
    assert recorded_files(record) == files
