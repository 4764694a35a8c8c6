from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from s2sr_core import files
from s2sr_core.files import locked, open_to_append, read_bytes, read_record, write_record, written_atomically

HOLDER = """
import sys
from pathlib import Path
from s2sr_core.files import locked
with locked(Path(sys.argv[1]), wait=False) as file:
    print("held" if file else "busy", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_one_processs_until_its_block_ends_or_it_dies(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with locked(path, wait=False) as file:
            assert file is None
        other.kill()
    with locked(path, wait=True) as file:
        assert file is not None
        file.write("me")
        file.flush()
        assert path.read_text() == "me"
        with locked(path, wait=False) as again:  # another open file of the same process
            assert again is None
    with locked(path, wait=False) as file:
        assert file is not None


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOSYS])
def test_a_filesystem_without_locks_stops_nobody_and_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr(files, "_unlocked", set())
    with caplog.at_level("WARNING", "s2sr_core"):
        for name in ("lock", "other"):
            with locked(tmp_path / name, wait=False) as file:
                assert file is not None
    [record] = caplog.records
    assert f"the filesystem of {tmp_path} has no locks ({os.strerror(error)})" in record.getMessage()


def test_what_ends_badly_leaves_what_was_there(tmp_path: Path) -> None:
    final = tmp_path / "a" / "b.txt"
    with written_atomically(final) as temporary:
        temporary.write_text("first")

    def fail() -> None:
        with written_atomically(final) as temporary:
            temporary.write_text("half of the sec")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert final.read_text() == "first"
    assert [path.name for path in final.parent.iterdir()] == ["b.txt"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b"\x00\xff"])
def test_a_broken_record_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "record.json"
    assert read_record(path) is None
    path.write_bytes(content)
    assert read_record(path) is None
    write_record(path, {"a": [1, "°"]})
    assert read_record(path) == {"a": [1, "°"]}


def test_what_a_link_leads_to_is_not_written(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("somebody's")
    (tmp_path / "link").symlink_to(other)
    with pytest.raises(OSError, match="link is a symbolic link"):
        open_to_append(tmp_path / "link")
    with pytest.raises(OSError, match="symbolic link"), locked(tmp_path / "link", wait=True):
        pass
    with written_atomically(tmp_path / "final") as temporary:
        temporary.touch()
    with written_atomically(tmp_path / "final") as again:
        again.touch()
        assert again == temporary  # so somebody can know its name
    temporary.symlink_to(other)
    (tmp_path / "final").unlink()
    (tmp_path / "final").symlink_to(other)
    with written_atomically(tmp_path / "final") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "final").read_text() == "whole"
    assert not (tmp_path / "final").is_symlink()
    assert other.read_text() == "somebody's"


def test_nothing_is_waited_for_that_is_not_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match="is not a regular file"):
            read_bytes(path, 10)
        assert read_record(path) is None
    with pytest.raises(OSError, match="is not a regular file"):
        open_to_append(pipe)


def test_a_file_has_a_largest_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"1234567890")
    assert read_bytes(path, 10) == b"1234567890"
    with pytest.raises(OSError, match="has more than 0 MB"):
        read_bytes(path, 9)
    os.truncate(path, 10**12)  # a sparse file; nothing of it is read beyond the limit
    assert read_record(path) is None


def test_a_record_of_endless_depth_is_none(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text('{"a":' * 200_000)
    assert read_record(path) is None
