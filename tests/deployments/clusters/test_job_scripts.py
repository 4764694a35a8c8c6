"""What is submitted to each batch system, by its text."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import shapely
import yaml
from support.scenes import parameters_for

from deployments.clusters import CLUSTERS, cluster_of
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError
from s2sr_core.parameters import RunParameters

ROOT = Path(__file__).resolve().parents[3]
CELL = Gridcell("a", shapely.box(0, 0, 1, 1))
SITE = {
    "queue": "night",
    "account": "geo1",
    "walltime": "02:30:00",
    "ranks": 3,
    "threads": 2,
    "memory": "2 GiB",
    "launcher": "mpiexec -n {ranks} --bind-to none",
    "python": "/opt/s2sr/bin/python",
    "prologue": ["module load gdal"],
    "interface": "lo",
    "scratch": "/local scratch",
}


def parameters(tmp_path: Path, name: str, work_dir: str = "run", **changes: Any) -> RunParameters:
    """Parameters of a run on a batch system; keywords change the site file."""
    site = tmp_path / "site.yaml"
    site.write_text(yaml.safe_dump(SITE | changes))
    return parameters_for(tmp_path, tmp_path, [CELL], cluster=name, site=site, work_dir=tmp_path / work_dir)


def script_of(tmp_path: Path, name: str, **changes: Any) -> str:
    return cluster_of(parameters(tmp_path, name, **changes)).job_script()


#: Lines that the script of a system must hold, by its manual.
DIRECTIVES = {
    "slurm": [
        "#SBATCH -J s2sr",
        "#SBATCH -p night",
        "#SBATCH -A geo1",
        "#SBATCH -t 02:30:00",
        "#SBATCH --ntasks=3",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --mem=6G",
        "#SBATCH --export=NONE",
        "export SLURM_EXPORT_ENV=ALL",
    ],
    "pbs": [
        "#PBS -N s2sr",
        "#PBS -q night",
        "#PBS -A geo1",
        "#PBS -l select=1:ncpus=6:mpiprocs=3:ompthreads=2:mem=6144mb",
        "#PBS -l walltime=02:30:00",
    ],
    "lsf": ["#BSUB -J s2sr", "#BSUB -q night", '#BSUB -P "geo1"', "#BSUB -n 6", "#BSUB -W 02:30", '#BSUB -env "none"'],
    "sge": ["#$ -N s2sr", "#$ -q night", "#$ -P geo1", "#$ -l h_rt=02:30:00"],
    "oar": ["#OAR -n s2sr", "#OAR -q night", "#OAR --project geo1", "#OAR -l /nodes=1/core=6,walltime=02:30:00"],
    "htcondor": ["MY.DaskWorkerCores = 6", "+MaxRuntime = 9000", "accounting_group = geo1", "getenv = false"],
}


@pytest.mark.parametrize("name", DIRECTIVES)
def test_a_script_holds_its_directives_and_starts_the_ranks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDSE_PASSWORD", "hunter2")
    script = script_of(tmp_path, name)
    lines = script.splitlines()
    for directive in DIRECTIVES[name]:
        assert directive in lines, script
    assert "module load gdal" in script
    assert "hunter2" not in script
    command = next(line for line in lines if "deployments.mpi.worker" in line).replace("''", "'")
    wanted = "mpiexec -n 3 --bind-to none /opt/s2sr/bin/python -P -m deployments.mpi.worker tls://<scheduler>"
    assert wanted in command
    for option in (f"--work-dir {tmp_path}/run", "--ranks 3", "--lifetime 6750", "--local-directory '/local scratch'"):
        assert option in command


@pytest.mark.parametrize("name", sorted(set(DIRECTIVES) - {"htcondor"}))
def test_a_script_is_one_that_the_shell_can_read(name: str, tmp_path: Path) -> None:
    script = script_of(tmp_path, name).replace("<", "").replace(">", "")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    (command,) = (line for line in script.splitlines() if "deployments.mpi.worker" in line)
    words = shlex.split(command)
    assert words[words.index("--local-directory") + 1] == "/local scratch"


def test_the_sites_own_directives_come_last_and_others_can_be_left_out(tmp_path: Path) -> None:
    lines = script_of(tmp_path, "slurm", directives=["--qos=low"], directives_skip=["--mem"]).splitlines()
    assert [line for line in lines if line.startswith("#SBATCH")][-1] == "#SBATCH --qos=low"
    assert not any("--mem" in line for line in lines if line.startswith("#SBATCH"))


def test_without_tls_no_key_is_named(tmp_path: Path) -> None:
    script = script_of(tmp_path, "slurm", tls=False)
    assert "tcp://<scheduler>" in script
    assert "--tls-" not in script


def test_a_work_folder_that_no_directive_can_name_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot stand in a job script"):
        cluster_of(parameters(tmp_path, "slurm", work_dir="my run")).job_script()


def test_ctrl_c_stays_the_programs_own() -> None:
    """dask_jobqueue takes over SIGINT and SIGTERM when it is imported."""
    code = (
        "import signal; before = [signal.getsignal(n) for n in (2, 15)]\n"
        "from deployments.clusters.slurm import Slurm; Slurm.jobqueue()\n"
        "import sys; assert 'dask_jobqueue' in sys.modules\n"
        "print(before == [signal.getsignal(n) for n in (2, 15)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_every_value_of_the_parameter_is_a_cluster() -> None:
    assert list(CLUSTERS) == list(get_args(RunParameters.model_fields["cluster"].annotation))


@pytest.mark.parametrize("name", sorted(set(DIRECTIVES) - {"htcondor"}))
@pytest.mark.parametrize("inherited", ["", ":/apps/gdal/python", "/apps/gdal/python::.:lib", None])
def test_a_job_imports_nothing_from_the_folder_it_was_submitted_in(
    name: str, inherited: str | None, tmp_path: Path
) -> None:
    """The lines before the launcher are run by a real shell, with a PYTHONPATH that modules or profiles have set."""
    lines = script_of(tmp_path, name, prologue=[]).splitlines()
    end = next(number for number, line in enumerate(lines) if "deployments.mpi.worker" in line)
    ask = "import json, sys; print(json.dumps([sys.flags.safe_path, sys.path]))"
    script = "\n".join([*lines[:end], f"{sys.executable} -c {shlex.quote(ask)}"])
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {} if inherited is None else {"PYTHONPATH": inherited}
    done = subprocess.run(
        ["bash", "-eu" if inherited else "-e"], input=script, env=environment, cwd=tmp_path,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    safe, path = json.loads(done.stdout)
    assert safe
    assert path[0] == str(ROOT)
    assert not {"", ".", "lib", str(tmp_path), str(tmp_path / "lib")} & set(path)
    assert ("/apps/gdal/python" in path) == bool(inherited)
