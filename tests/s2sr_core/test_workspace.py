from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2sr_core.errors import InputError
from s2sr_core.files import write_text, written_atomically
from s2sr_core.workspace import Workspace

HOLD = """
import sys
from pathlib import Path
from s2sr_core.workspace import Workspace
with Workspace(Path(sys.argv[1])).opened():
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(work_dir: Path) -> subprocess.Popen[str]:
    """Another process that holds the folder until its stdin closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(work_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


# ------------------------------------------------------------------------------------------------------------ paths


def test_the_folder_is_laid_out_as_the_specification_says() -> None:
    workspace = Workspace(Path("w"))
    paths = {
        workspace.selected_gridcells: "w/indices/selected_gridcells.csv",
        workspace.scene_index: "w/indices/scene_index.csv",
        workspace.phase1_errors: "w/indices/phase1_errors.csv",
        workspace.phase2_errors: "w/logs/phase2_errors.csv",
        workspace.log(3): "w/logs/pipeline_rank3.log",
        workspace.scratch(3): "w/tmp/rank_3",
        workspace.composite("c1", "B8A"): "w/composites/c1/cell_c1_B8A_median_clip.tif",
        workspace.count("c1", "B8A"): "w/composites/c1/cell_c1_B8A_count_clip.tif",
        workspace.composite("c1", "B8A", period="2019"): "w/composites/c1/2019/cell_c1_2019_B8A_median_clip.tif",
        workspace.quicklook("c1", "2019-06"): "w/composites/c1/2019-06/cell_c1_2019-06_quicklook.png",
    }
    assert {path.as_posix(): text for path, text in paths.items()} == {text: text for text in paths.values()}


@given(
    st.from_regex(r"[A-Za-z0-9._-]{1,128}", fullmatch=True).filter(lambda text: text not in (".", "..")),
    st.sampled_from(["B02", "B8A"]),
    st.sampled_from(["", "2019", "2019-06-01", "2019-1-DJF"]),
)
def test_all_of_a_cell_lies_in_its_folder_and_no_two_files_have_one_name(cell_id: str, band: str, period: str) -> None:
    workspace = Workspace(Path("/w"))
    files = [
        workspace.composite(cell_id, band, period=period),
        workspace.count(cell_id, band, period),
        workspace.record(cell_id, band, period=period),
        workspace.quicklook(cell_id, period),
    ]
    assert {file.parent for file in files} == {Path(os.path.normpath(f"/w/composites/{cell_id}/{period}"))}
    assert len(set(files)) == 4
    assert all(len(file.name) + len(f"..{socket.gethostname()}.4194304.part") <= 255 for file in files)


def test_the_folder_of_vrts_is_made_on_demand(tmp_path: Path) -> None:
    folder = Workspace(tmp_path / "run").vrts(2)
    assert folder == tmp_path / "run" / "tmp" / "rank_2" / "wgs84_vrt"
    assert folder.is_dir()


# ------------------------------------------------------------------------------------------------------------- lock


def test_opening_makes_the_folders(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "deep" / "run")
    with workspace.opened():
        made = sorted(path.name for path in workspace.work_dir.iterdir() if path.is_dir())
    assert made == ["composites", "indices", "logs", "tmp"]


def test_vrts_of_an_earlier_run_go_and_nothing_else_does(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with workspace.opened():
        (workspace.vrts(1) / "old.vrt").write_text("x")
    (workspace.scratch(1) / "decoded").write_text("kept")
    keep = workspace.composite("c", "B02")
    keep.parent.mkdir(parents=True)
    keep.write_text("x")
    with workspace.opened():
        assert not (workspace.scratch(1) / "wgs84_vrt").exists()
        assert (workspace.scratch(1) / "decoded").read_text() == "kept"
        assert keep.exists()


@pytest.mark.parametrize("name", ["tmp/keys", "tmp/decoded/mine", "tmp/rank_1/wgs84_vrt/mine", "report.html"])
def test_what_is_there_before_the_first_run_is_not_removed(tmp_path: Path, name: str) -> None:
    """Folders of these names, or a file, that somebody has; a copy of a run without its hidden files is a run."""
    thing = tmp_path / name / "mine" if name == "tmp/keys" else tmp_path / name
    write_text(thing, "mine")
    refusal = pytest.raises(InputError, match=f"is not the folder of a run, and holds {name}")
    with refusal as caught, Workspace(tmp_path).opened():
        pass
    assert caught.value.remedy == f"give another folder, or move {name} away"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [thing]
    write_text(Workspace(tmp_path).run_record, "{}")
    with Workspace(tmp_path).opened():
        assert thing.exists() == (name == "report.html")


def test_one_run_at_a_time_holds_a_folder(tmp_path: Path) -> None:
    """Another process holds it: this one is refused, told by whom, and gets it when that one ends."""
    other = holder(tmp_path)
    try:
        with pytest.raises(InputError) as caught, Workspace(tmp_path).opened():
            pass
        assert caught.value.field == "work_dir"
        assert caught.value.problem == (f"is in use by another run (process {other.pid} on {socket.gethostname()})")
        assert caught.value.remedy == "wait until it ends, or give another folder"
    finally:
        other.communicate("")
    with Workspace(tmp_path).opened():
        assert (tmp_path / ".lock").read_text() == f"process {os.getpid()} on {socket.gethostname()}"


def test_a_refused_run_removes_nothing_of_the_one_that_holds(tmp_path: Path) -> None:
    other = holder(tmp_path)
    try:
        vrt = Workspace(tmp_path).vrts(1) / "in_use.vrt"
        vrt.write_text("x")
        with pytest.raises(InputError, match="in use"), Workspace(tmp_path).opened():
            pass
        assert vrt.exists()
    finally:
        other.communicate("")


def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    other = holder(tmp_path)
    other.send_signal(signal.SIGKILL)
    other.communicate()
    with Workspace(tmp_path).opened():
        pass


def test_a_run_that_fails_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Workspace(tmp_path).opened():
        raise ZeroDivisionError
    with Workspace(tmp_path).opened():
        pass


def test_two_folders_are_two_runs(tmp_path: Path) -> None:
    with Workspace(tmp_path / "a").opened(), Workspace(tmp_path / "b").opened():
        pass


@pytest.mark.parametrize("place", ["file", "file/run", "run"])
def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, place: str) -> None:
    """A file in its place, above it, or where one of its folders must be."""
    (tmp_path / "file").write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "indices").write_text("")
    with (
        pytest.raises(InputError, match=r"^work_dir = '.*': cannot be written \(.*\); give a folder"),
        Workspace(tmp_path / place).opened(),
    ):
        pass


def test_looking_whether_a_folder_can_be_written_writes_nothing(tmp_path: Path) -> None:
    Workspace(tmp_path / "deep" / "run").check_writable()
    Workspace(tmp_path).check_writable()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    for place in ("file", "file/run"):
        with pytest.raises(InputError, match=r"^work_dir = '.*': cannot be written \(Not a directory\); give a folder"):
            Workspace(tmp_path / place).check_writable()


def test_clearing_tmp_removes_tmp_alone(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with workspace.opened():
        workspace.vrts(1)
        workspace.clear_tmp()
        assert not workspace.tmp.exists()
        assert workspace.composites.exists()
        workspace.clear_tmp()


# ---------------------------------------------------------------------------------------------------------- writing


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    final = tmp_path / "new" / "file.txt"
    with written_atomically(final) as temporary:
        assert temporary.parent == final.parent
        assert temporary.name.startswith(".")
        temporary.write_text("half")
        assert not final.exists()
        temporary.write_text("whole")
        written = temporary.stat().st_ino
    assert final.read_text() == "whole"
    assert final.stat().st_ino == written  # the same file by another name: no reader sees it grow
    assert [path.name for path in final.parent.iterdir()] == ["file.txt"]


def test_a_file_that_fails_leaves_the_old_one_and_no_trace(tmp_path: Path) -> None:
    final = tmp_path / "file.txt"
    final.write_text("old")

    def fail_halfway() -> None:
        with written_atomically(final) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert final.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_a_block_that_wrote_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), written_atomically(tmp_path / "file.txt"):
        pass


def test_text_is_utf_8_and_replaces_what_was(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "long, old and plain")
    write_text(tmp_path / "a.txt", "−9999 °")
    assert (tmp_path / "a.txt").read_bytes() == b"\xe2\x88\x929999 \xc2\xb0"


def test_clearing_leaves_what_is_not_a_ranks(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.vrts(1)
    (workspace.tmp / "notes.txt").write_text("mine")
    workspace.clear_tmp()
    assert [path.name for path in workspace.tmp.iterdir()] == ["notes.txt"]
    (workspace.tmp / "notes.txt").unlink()
    workspace.clear_tmp()
    assert not workspace.tmp.exists()


# ------------------------------------------------------------------------------------------------------------- links


def test_a_lock_that_is_a_link_is_refused_and_its_target_stays(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("somebody's")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(other)
    with (
        pytest.raises(InputError, match=r"cannot be written \(.lock is a symbolic link\)"),
        Workspace(tmp_path / "run").opened(),
    ):
        pass
    assert other.read_text() == "somebody's"


@pytest.mark.parametrize("name", ["tmp", "composites", "logs", "indices", "imagery_raw"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link away")
def test_another_users_link_is_not_followed(tmp_path: Path, name: str) -> None:
    mine = tmp_path / "mine"
    (mine / "rank_1" / "wgs84_vrt").mkdir(parents=True)
    (mine / "decoded").mkdir()
    (tmp_path / "run").mkdir()
    link = tmp_path / "run" / name
    link.symlink_to(mine)
    os.chown(link, 12345, -1, follow_symlinks=False)
    with pytest.raises(InputError, match=f"has a link {name}/ of another user"), Workspace(tmp_path / "run").opened():
        pass
    assert (mine / "rank_1" / "wgs84_vrt").is_dir()
    assert (mine / "decoded").is_dir()


def test_a_link_in_tmp_is_not_removed_through(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").touch()
    workspace = Workspace(tmp_path / "run")
    (workspace.tmp / "rank_1").mkdir(parents=True)
    for link in (workspace.decoded, workspace.tmp / "rank_2", workspace.tmp / "rank_1" / "wgs84_vrt"):
        link.symlink_to(other)
    with workspace.opened():
        workspace.clear_tmp()
    assert (other / "mine").exists()
