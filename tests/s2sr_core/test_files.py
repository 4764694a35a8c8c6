from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from s2sr_core.files import locked, read_record, write_record, written_atomically

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


def test_a_filesystem_without_locks_stops_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(tmp_path / "lock", wait=True) as file:
        assert file is not None


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
