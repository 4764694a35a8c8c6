"""What is wrong with a machine is one sentence that names the variable."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from osgeo import gdal, osr

from s2sr_core import machine, user_folders
from s2sr_core.doctor import examine
from s2sr_core.errors import InputError
from s2sr_core.sources.cdse.slots import Slots

ROOT = Path(__file__).resolve().parents[2]
#: A folder in which nobody can create anything, root included.
CLOSED = Path("/proc")


def answer(code: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a new Python process with this environment."""
    left_out = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "TMPDIR", "PROJ_DATA", "PROJ_LIB", "GDAL_DATA")
    plain = {key: value for key, value in os.environ.items() if key.upper() not in left_out}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=plain | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def doctor(*words: str, **environment: str) -> tuple[int, str]:
    code = f"import sys, s2sr_pipeline; sys.argv[1:] = ['--doctor', *{list(words)}]; sys.exit(s2sr_pipeline.main())"
    status, output, _ = answer(code, **environment)
    return status, output


@pytest.fixture
def old_proj(tmp_path: Path) -> Path:
    """A folder with the proj.db of this PROJ, but of a layout as old as PROJ 7's."""
    found = next(path for folder in osr.GetPROJSearchPaths() if (path := Path(folder) / "proj.db").exists())
    old = tmp_path / "old"
    old.mkdir()
    (old / "proj.db").write_bytes(found.read_bytes())
    with sqlite3.connect(old / "proj.db") as database:
        database.execute("UPDATE metadata SET value = '1' WHERE key = 'DATABASE.LAYOUT.VERSION.MINOR'")
    database.close()
    return old


def test_the_doctor_finds_what_the_environment_breaks(tmp_path: Path, old_proj: Path) -> None:
    """All at once; the name of each finding, its first words, and the remedy."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "gdal_Broken.so").write_text("nonsense")
    code, output = doctor(
        GDAL_DRIVER_PATH=str(tmp_path / "plugins"),
        PROJ_LIB=str(old_proj),
        GDAL_DATA=str(tmp_path),
        ALL_PROXY="gopher://me:secret@proxy.example.org:70",
        HOME=str(CLOSED),
        PREFECT_HOME=str(CLOSED / "prefect"),
        PREFECT_API_URL="http://127.0.0.1:9/api",
        TMPDIR=str(CLOSED),
    )
    assert code == 1
    assert "secret" not in output
    lines = output.splitlines()
    found = {
        lines[number][6:24].strip(): (lines[number][24:], lines[number + 1].strip())
        for number, line in enumerate(lines)
        if line.startswith("wrong")
    }
    assert "gdal_Broken.so" in found["GDAL's plugins"][0]
    assert found["GDAL's plugins"][1].startswith("-> unset GDAL_DRIVER_PATH")
    assert found["PROJ data"][0].startswith(f"PROJ_LIB={old_proj}: has no proj.db for this PROJ (")
    assert found["PROJ data"][1].startswith("-> unset it")
    assert found["GDAL data"] == (
        f"GDAL_DATA={tmp_path}: is not the folder of GDAL's data files (gdalvrt.xsd is not in it)",
        "-> unset it: a GDAL that is installed as a whole finds its own",
    )
    assert found["proxies"] == (
        "ALL_PROXY=proxy.example.org:70: is not the address of a proxy",
        "-> write http://host:port, or unset it",
    )
    assert found["home of Prefect"][0].startswith(f"PREFECT_HOME={CLOSED / 'prefect'}: cannot be written (")
    assert found["Prefect"][1].startswith("-> ")
    assert f"(TMPDIR={CLOSED} cannot be written)" in output


def test_the_doctor_blames_the_setting_that_leaves_out_drivers(tmp_path: Path) -> None:
    """And not what else fails without them; GDAL reads settings from a file, too."""
    settings = tmp_path / "gdalrc"
    settings.write_text("[configoptions]\nGDAL_SKIP=MEM COG\n")
    for environment, missing in (({"GDAL_SKIP": "GTiff"}, "GTiff"), ({"GDAL_CONFIG_FILE": str(settings)}, "COG MEM")):
        code, output = doctor(**environment)
        assert code == 1
        (wrong,) = (line for line in output.splitlines() if line.startswith("wrong") and "disk" not in line)
        assert wrong.endswith(f": leaves GDAL without {missing}")
    status, _, errors = answer("from s2sr_core.machine import check_machine; check_machine()", OGR_SKIP="GPKG")
    assert (status, "OGR_SKIP = 'GPKG': leaves GDAL without GPKG; take them out" in errors) == (1, True)


def test_the_doctor_finds_a_prefect_api_that_does_not_answer() -> None:
    code, output = doctor(PREFECT_API_URL="http://127.0.0.1:9/api")
    assert code == 1
    assert "PREFECT_API_URL=http://127.0.0.1:9/api: does not answer ([Errno 111] Connection refused)\n" in output
    assert "-> start that server, or unset the variable" in output


def test_a_setting_that_prefect_refuses_is_named() -> None:
    code = "from deployments.server.configured import check_prefect; check_prefect()"
    status, _, errors = answer(code, PREFECT_API_REQUEST_TIMEOUT="soon")
    assert status == 1
    assert "InputError: PREFECT_API_REQUEST_TIMEOUT = 'soon': is refused by Prefect (input should be a " in errors
    assert not errors.startswith("Failed to initialize")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"HTTP_PROXY": "proxy:1x"}, "HTTP_PROXY = 'proxy:1x': is not the address of a proxy; write http://host"),
        ({"https_proxy": "http://"}, "HTTPS_PROXY = 'http://': is not the address of a proxy; "),
        ({"NO_PROXY": "fe80::/10", "HTTP_PROXY": "p:1"}, "NO_PROXY = 'fe80::/10': has an entry that cannot be used ("),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sentence: str
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as caught:
        machine.check_proxies()
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    "proxy", ["http://me:secret@proxy.lan:3128", "proxy.lan:3128", "socks5://me:secret@[::1]:1080"]
)
def test_usual_proxies_are_shown_without_their_passwords(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """SOCKS, too: the packages for it belong to the installation."""
    monkeypatch.delenv("all_proxy", raising=False)
    monkeypatch.setenv("ALL_PROXY", proxy)
    shown = machine.check_proxies()
    assert shown.startswith("ALL_PROXY=")
    assert ("secret" in shown, "me" in shown, shown[-4:]) == (False, False, proxy[-4:])


def test_without_a_home_prefect_and_the_cache_get_folders_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("PREFECT_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(CLOSED))
    own = tmp_path / f"s2sr-{os.geteuid()}"
    monkeypatch.setenv("PREFECT_HOME", "")  # restored at the end
    assert user_folders.check_prefect_home().startswith(f"{own}/prefect, because ~/.prefect cannot be written (")
    assert os.environ["PREFECT_HOME"] == f"{own}/prefect"
    assert user_folders.cache_folder() == own
    assert own.stat().st_mode & 0o077 == 0
    own.chmod(0o755)  # as if somebody else had made it
    assert user_folders.cache_folder() not in (own, CLOSED)


def test_gdals_own_data_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GDAL_DATA", raising=False)
    assert machine.check_gdal_data() == "found by GDAL"
    if (file := gdal.FindFile("gdal", "gdalvrt.xsd")) is not None:  # else they are in the library
        monkeypatch.setenv("GDAL_DATA", str(Path(file).parent))
        assert machine.check_gdal_data() == str(Path(file).parent)


#: Makes its process that of a user whom no table knows and who has no HOME, with the same rights to files.
_NOBODY = """import os
uid = os.geteuid()
os.unshare(os.CLONE_NEWUSER)
with open("/proc/self/uid_map", "w") as file:
    file.write(f"54321 {uid} 1")
for name in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME", "PREFECT_HOME"):
    os.environ.pop(name, None)
"""


def test_a_user_without_home_and_name_gets_a_folder_among_the_temporary_files(tmp_path: Path) -> None:
    """Also Prefect, which asks for the home folder when it is imported."""
    status, _, errors = answer(_NOBODY)
    if status:
        pytest.skip(f"no namespace of users can be made here: {errors.splitlines()[-1]}")
    code = f"{_NOBODY}import sys, s2sr_pipeline; sys.argv[1:] = ['--doctor']; sys.exit(s2sr_pipeline.main())"
    status, output, errors = answer(code, TMPDIR=str(tmp_path))
    assert (status, errors) == (0, ""), output
    home = tmp_path / "s2sr-54321"
    assert f" {home}/.prefect, because this user has no home folder\n" in output


def test_a_home_that_can_be_written_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PREFECT_HOME", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert user_folders.check_prefect_home() == "~/.prefect"
    assert (tmp_path / ".prefect").is_dir()
    assert user_folders.cache_folder() == tmp_path / ".cache" / "s2sr"
    monkeypatch.setenv("PREFECT_HOME", str(CLOSED / "x"))
    with pytest.raises(InputError, match=r"^PREFECT_HOME = '/proc/x': cannot be written \(.*\); give a folder that "):
        user_folders.check_prefect_home()


def test_a_folder_without_locks_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert machine.check_locks(tmp_path) == str(tmp_path)
    assert list(tmp_path.iterdir()) == []

    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    (finding,) = [each for each in examine(tmp_path, {}) if each.name == "locks"]
    assert finding.detail == f"{tmp_path}: {os.strerror(errno.ENOLCK)}"
    assert "give a --work-dir on another filesystem" in finding.remedy
    with Slots(tmp_path / "slots", 1).taken():
        pass
