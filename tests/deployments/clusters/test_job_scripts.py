"""What is submitted to each batch system, by its text."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from deployments.clusters import _system
from deployments.clusters.batch import job_script
from deployments.clusters.site import Site
from s2sr_core.errors import InputError
from s2sr_core.workspace import Workspace

SITE = TypeAdapter(Site).validate_python({
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
})  # fmt: skip

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
    script = job_script(_system(name), SITE, Workspace(tmp_path))
    lines = script.splitlines()
    for directive in DIRECTIVES[name]:
        assert directive in lines, script
    assert "module load gdal" in script
    assert "hunter2" not in script
    command = next(line for line in lines if "deployments.mpi.worker" in line).replace("''", "'")
    wanted = "mpiexec -n 3 --bind-to none /opt/s2sr/bin/python -m deployments.mpi.worker tls://<scheduler>"
    assert wanted in command
    for option in (f"--work-dir {tmp_path}", "--ranks 3", "--lifetime 6750", "--local-directory '/local scratch'"):
        assert option in command


@pytest.mark.parametrize("name", sorted(set(DIRECTIVES) - {"htcondor"}))
def test_a_script_is_one_that_the_shell_can_read(name: str, tmp_path: Path) -> None:
    script = job_script(_system(name), SITE, Workspace(tmp_path)).replace("<", "").replace(">", "")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    (command,) = (line for line in script.splitlines() if "deployments.mpi.worker" in line)
    words = shlex.split(command)
    assert words[words.index("--local-directory") + 1] == "/local scratch"


def test_the_sites_own_directives_come_last_and_others_can_be_left_out(tmp_path: Path) -> None:
    site = SITE.model_copy(update={"directives": ["--qos=low"], "directives_skip": ["--mem"]})
    lines = job_script(_system("slurm"), site, Workspace(tmp_path)).splitlines()
    assert [line for line in lines if line.startswith("#SBATCH")][-1] == "#SBATCH --qos=low"
    assert not any("--mem" in line for line in lines if line.startswith("#SBATCH"))


def test_without_tls_no_key_is_named(tmp_path: Path) -> None:
    script = job_script(_system("slurm"), SITE.model_copy(update={"tls": False}), Workspace(tmp_path))
    assert "tcp://<scheduler>" in script
    assert "--tls-" not in script


def test_a_work_folder_that_no_directive_can_name_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot stand in a job script"):
        job_script(_system("slurm"), SITE, Workspace(tmp_path / "my run"))


def test_ctrl_c_stays_the_programs_own() -> None:
    """dask_jobqueue takes over SIGINT and SIGTERM when it is imported."""
    code = (
        "import signal; before = [signal.getsignal(n) for n in (2, 15)]\n"
        "from deployments.clusters import _system; _system('slurm').cluster_class()\n"
        "import sys; assert 'dask_jobqueue' in sys.modules\n"
        "print(before == [signal.getsignal(n) for n in (2, 15)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
