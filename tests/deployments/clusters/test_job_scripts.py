"""What is submitted to each batch system, by its text."""

from __future__ import annotations

import json
import os
import re
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
        "#SBATCH -p night",
        "#SBATCH -A geo1",
        "#SBATCH -t 02:30:00",
        "#SBATCH --ntasks=3",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --mem-per-cpu=1024M",
        "#SBATCH --no-requeue",
        "#SBATCH --export=NONE",
        "export SLURM_EXPORT_ENV=ALL",
    ],
    "pbs": [
        "#PBS -q night",
        "#PBS -A geo1",
        "#PBS -l select=1:ncpus=6:mpiprocs=3:ompthreads=2:mem=6144mb",
        "#PBS -l walltime=02:30:00",
    ],
    "lsf": ["#BSUB -q night", '#BSUB -P "geo1"', "#BSUB -n 6", "#BSUB -W 02:30", '#BSUB -env "none"'],
    "sge": ["#$ -q night", "#$ -P geo1", "#$ -l h_rt=02:30:00"],
    "oar": ["#OAR -q night", "#OAR --project geo1", "#OAR -l /nodes=1/core=6,walltime=02:30:00"],
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


def test_slurm_counts_memory_by_core_and_not_by_node(tmp_path: Path) -> None:
    """Three ranks of 2 GiB on three nodes take 2 GiB of each; the amount is rounded up."""
    lines = script_of(tmp_path, "slurm", threads=1).splitlines()
    assert "#SBATCH --mem-per-cpu=2048M" in lines
    assert not any("--mem=" in line for line in lines)
    assert "#SBATCH --mem-per-cpu=334M" in script_of(tmp_path, "slurm", threads=3, memory="1000 MiB").splitlines()


NAME = {"slurm": "#SBATCH -J ", "pbs": "#PBS -N ", "lsf": "#BSUB -J ", "sge": "#$ -N ", "oar": "#OAR -n "}


@pytest.mark.parametrize("name", NAME)
def test_the_jobs_of_each_run_have_a_name_of_their_own(tmp_path: Path, name: str) -> None:
    names = []
    for work_dir in ("a/alaska", "b/alaska", "a/much-longer-than-anybody-writes-and-more-than-fits"):
        script = cluster_of(parameters(tmp_path, name, work_dir=work_dir)).job_script()
        (line,) = (line for line in script.splitlines() if line.startswith(NAME[name]))
        names.append(line.removeprefix(NAME[name]))
    assert len(set(names)) == 3
    assert all(re.fullmatch(r"s2sr-[0-9a-f]{4}-[\w.-]+", each) for each in names)
    assert max(map(len, names)) <= (15 if name == "pbs" else 40)
    assert names[0].endswith("-alaska"[:6] if name == "pbs" else "-alaska")


@pytest.mark.parametrize(("name", "prefix"), [("slurm", "#SBATCH"), ("pbs", "#PBS"), ("sge", "#$"), ("oar", "#OAR")])
def test_directives_may_have_their_prefix(tmp_path: Path, name: str, prefix: str) -> None:
    lines = script_of(tmp_path, name, directives=[f"{prefix} --first x", "--second"]).splitlines()
    assert [line for line in lines if line.startswith(prefix)][-2:] == [f"{prefix} --first x", f"{prefix} --second"]


def test_printing_a_script_writes_nothing(tmp_path: Path) -> None:
    script = script_of(tmp_path, "slurm")
    assert not (tmp_path / "run").exists()
    assert f"{tmp_path}/run/logs/jobs/s2sr-" in script
    assert "/s2sr-" not in script.replace(f"{tmp_path}/run/logs/jobs/s2sr-", "")


@pytest.mark.parametrize(
    ("scratch", "expected"),
    [
        ("~/spill", "/home/me/spill"),
        ("$TMPDIR/s2sr", "/local/17 b/s2sr"),
        ("/scratch/${USER}/$JOB", "/scratch/me/4"),
        ('/a b/$USER "`date`\\$', '/a b/me "`date`\\$'),
        ("/local scratch", "/local scratch"),
        ("/a$(date)", "/a$(date)"),
    ],
)
def test_scratch_is_expanded_on_the_node(tmp_path: Path, scratch: str, expected: str) -> None:
    """The word of the command as a real shell takes it, whose environment is the node's."""
    script = script_of(tmp_path, "slurm", scratch=scratch)
    (command,) = (line for line in script.splitlines() if "deployments.mpi.worker" in line)
    word = command.partition("--local-directory ")[2].partition(" --tls")[0].partition(" --death")[0]
    environment = {"HOME": "/home/me", "TMPDIR": "/local/17 b", "USER": "me", "JOB": "4"}
    shell = ["bash", "-c", f'f() {{ printf %s "$1"; }}; f {word}']
    done = subprocess.run(shell, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == expected


def in_shell(script: str) -> subprocess.CompletedProcess[str]:
    text = script.replace("tls://<scheduler>", "scheduler").replace("job-<n>", "job")
    return subprocess.run(["bash"], input=text, capture_output=True, text=True, check=False)


def test_a_variable_that_a_node_does_not_have_ends_the_job(tmp_path: Path) -> None:
    script = script_of(tmp_path, "slurm", scratch="$NOWHERE/x", launcher="echo", prologue=[])
    done = subprocess.run(
        ["bash"], input=script.replace("<", "").replace(">", ""), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "NOWHERE" in done.stderr
    assert "deployments.mpi.worker" not in done.stdout


@pytest.mark.parametrize("name", sorted(set(DIRECTIVES) - {"htcondor"}))
def test_a_job_ends_with_the_first_line_of_the_prologue_that_fails(tmp_path: Path, name: str) -> None:
    script = script_of(tmp_path, name, launcher="echo started", prologue=["ls /no/such/folder", "echo went on"])
    done = subprocess.run(
        ["bash"], input=script.replace("<", "").replace(">", ""), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "/no/such/folder" in done.stderr


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
