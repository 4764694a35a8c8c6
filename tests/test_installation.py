"""The program as pip installs it: from a wheel, in environments outside of any checkout."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from support.waiting import until

import s2sr_core
from s2sr_core.geo.gdal_runtime import gdal

ROOT = Path(__file__).resolve().parents[1]
BOX = ("-149.63", "68.62", "-149.57", "68.64")
#: Variables of the test process that could lead a program to this checkout, or to somebody's Prefect or CDSE.
OURS = ("PYTHON", "VIRTUAL_ENV", "PREFECT_", "DASK_", "GDAL_", "PROJ_", "S2SR_", "CDSE_", "UV_")

pytestmark = pytest.mark.slow


class Environment:
    """A virtual environment; its programs have a Prefect home of their own, and no variable that leads here."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        self.variables = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
        self.variables |= {"PREFECT_HOME": str(home / "prefect"), "PIP_NO_INPUT": "1"}

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        (found,) = self.folder.glob("lib/python3.*/site-packages")
        return found

    def run(
        self, program: str, *words: object, folder: Path, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / "bin" / program, *map(str, words)],
            cwd=folder,
            env=self.variables | dict(variables or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def pip(self, *words: object) -> str:
        done = self.run("python", "-m", "pip", "--disable-pip-version-check", *words, folder=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Source distribution and wheel; the wheel is made from the source distribution, not from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--outdir", folder, ROOT]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A fresh environment with the wheel and its extra ``gdal-wheel``, all of it from wheels: nothing is compiled."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    environment = Environment(folder / "venv", folder)
    environment.pip("install", "--quiet", "--only-binary", ":all:", f"{distributions[1]}[gdal-wheel]")
    return environment


@pytest.fixture(scope="module")
def plain(installed: Environment, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What pip installs without an extra: the same files, except those of the package ``gdal-wheel``."""
    folder = tmp_path_factory.mktemp("plain")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    environment = Environment(folder / "venv", folder)
    (info,) = installed.site_packages.glob("gdal_wheel-*.dist-info")
    record = (info / "RECORD").read_text(encoding="utf-8").splitlines()
    inside = {PurePosixPath(line.split(",")[0]).parts[0] for line in record} - {".."}
    assert {"osgeo", info.name} <= inside
    shutil.copytree(
        installed.site_packages,
        environment.site_packages,
        copy_function=os.link,
        ignore=lambda path, _: inside if Path(path) == installed.site_packages else (),
        dirs_exist_ok=True,
    )
    for program in ("s2sr-pipeline", "s2sr-make-grid"):
        script = (installed.folder / "bin" / program).read_text(encoding="utf-8")
        target = environment.folder / "bin" / program
        target.write_text(script.replace(str(installed.folder), str(environment.folder)), encoding="utf-8")
        target.chmod(0o755)
    return environment


def in_checkout(*paths: str) -> set[str]:
    """The files that git tracks, below ``paths``."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: git cannot list its files")
    words = ["git", "ls-files", "-z", *paths]
    listed = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return {path for path in listed.split("\0") if path}


# ------------------------------------------------------------------------------------------------------ what is packed


def test_the_wheel_holds_every_file_of_the_program(distributions: tuple[Path, Path]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    with zipfile.ZipFile(distributions[1]) as wheel:
        names = set(wheel.namelist())
    needed = in_checkout(*project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"])
    assert {"deployments/sites/slurm-modules.yaml", "s2sr_core/py.typed", "s2sr_sandbox/py.typed"} <= needed
    assert needed <= names
    assert not {name for name in names if name.startswith(("tests/", "benchmarks/", "docs/"))}


def test_the_source_distribution_holds_every_file_of_the_checkout(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert in_checkout() <= names


# -------------------------------------------------------------------------------------------------------- with GDAL


def test_pip_finds_nothing_missing(installed: Environment) -> None:
    assert installed.pip("check") == "No broken requirements found.\n"


def test_the_version_is_that_of_the_checkout(installed: Environment, tmp_path: Path) -> None:
    done = installed.run("s2sr-pipeline", "--version", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"s2sr-pipeline {s2sr_core.__version__}\n")
    assert f"\nVersion: {s2sr_core.__version__}\n" in installed.pip("show", "s2sr")


def test_the_doctor_is_content(installed: Environment, tmp_path: Path) -> None:
    done = installed.run("s2sr-pipeline", "--doctor", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wrong" not in done.stdout


@contextmanager
def sandbox(environment: Environment, folder: Path) -> Iterator[dict[str, str]]:
    """The sandbox CDSE as its own process, with products of two dates; gives the variables that it prints."""
    folder.mkdir()
    words = ["--out", "cdse", "--serve", "--size", "300", "--dates", "2", "--bands", "B04"]
    with (folder / "sandbox.txt").open("w+", encoding="utf-8") as output:
        process = subprocess.Popen(
            [environment.python, "-m", "s2sr_sandbox", *words],
            cwd=folder,
            env=environment.variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )

        def printed() -> str:
            text = (folder / "sandbox.txt").read_text(encoding="utf-8")
            assert process.poll() is None, text
            return text if " products of cdse on loopback" in text else ""

        try:
            lines = until(printed, what="the sandbox").splitlines()
            exports = [shlex.split(line)[1] for line in lines if line.startswith("export ")]
            yield dict(export.split("=", 1) for export in exports)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0


def test_it_composites_outside_of_any_checkout(installed: Environment, tmp_path: Path) -> None:
    """From a grid to composites of downloaded products, in a folder whose Python files must not be imported."""
    folder = tmp_path / "empty"
    folder.mkdir()
    for name in ("s2sr_core", "flows", "tasks", "deployments", "osgeo", "queue", "numba"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} is imported from the current folder')\n")
    grid = installed.run("s2sr-make-grid", "--bbox", *BOX, "--cell-size", "0.02", "--out", "cells.csv", folder=folder)
    assert grid.returncode == 0, grid.stdout + grid.stderr
    window = ("--start", "2019-01-01", "--end", "2026-01-01", "--bands", "B04")
    lattice = ("--tap", "--tr", "0.0005", "0.00018")
    words = ("--bbox", *BOX, "--grid-csv", "cells.csv", *window, *lattice, "--work-dir", "run")
    with sandbox(installed, tmp_path / "sandbox") as variables:
        done = installed.run("s2sr-pipeline", *words, folder=folder, variables=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    composites = sorted((folder / "run" / "composites").glob("*/cell_*_B04_median_clip.tif"))
    assert len(composites) == 4  # from -149.64 to -149.56
    for path in composites:
        with gdal.Open(str(path)) as dataset:
            pixels = dataset.ReadAsArray()
        assert pixels.shape == (111, 40)  # 0.02 degrees each way
        valid = pixels[pixels != -9999]
        assert valid.size > 0.9 * pixels.size
        assert np.unique(valid).size > 100
        assert 0 <= valid.min() <= valid.max() <= 10_000


# ----------------------------------------------------------------------------------------------------- without GDAL


def test_pip_finds_nothing_missing_without_an_extra(plain: Environment) -> None:
    assert plain.pip("check") == "No broken requirements found.\n"


PROGRAMS = [
    ("s2sr-pipeline",),
    ("s2sr-pipeline", "--doctor"),
    ("s2sr-make-grid", "--bbox", *BOX, "--out", "cells.csv"),
    ("python", "-m", "s2sr_sandbox"),
    ("python", "-m", "deployments.demo"),
    ("python", "-m", "deployments.serve"),
]


@pytest.mark.parametrize("words", PROGRAMS, ids=" ".join)
def test_without_an_extra_a_program_says_in_one_sentence_which_to_add(
    plain: Environment, words: tuple[str, ...], tmp_path: Path
) -> None:
    done = plain.run(*words, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert re.fullmatch(r"[\w-]+: GDAL's Python bindings \(osgeo\) are not installed; .*\.\n", done.stderr)
    assert "pip install 's2sr[gdal-wheel]'" in done.stderr
    assert "pip install 's2sr[gdal]'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_sentence_is_right(plain: Environment, tmp_path: Path) -> None:
    """Its first command, as it stands, makes the installation complete."""
    environment = Environment(tmp_path / "venv", tmp_path)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment.folder], check=True)
    shutil.copytree(plain.site_packages, environment.site_packages, copy_function=os.link, dirs_exist_ok=True)
    said = environment.run("python", "-m", "s2sr_pipeline", folder=tmp_path).stderr
    command = shlex.split(re.findall(r"\((pip install [^)]*)\)", said)[0])
    environment.pip(*command[1:])
    done = environment.run("python", "-m", "s2sr_pipeline", "--doctor", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
