"""A real Slurm on this machine: munged, slurmctld and slurmd in a folder, on ports of their own.

``PYTHONPATH=tests python -m support.slurm FOLDER`` starts one and prints what to export; Ctrl-C stops it. Needs root
and Debian's packages slurm-wlm and munge; neither systemd nor cgroups. The machine's own Slurm is left alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support.waiting import until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
CPUS = 8


def missing() -> list[str]:
    """Why there can be no Slurm here."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    reasons = [f"no {program}" for program in PROGRAMS if shutil.which(program, path=path) is None]
    if os.geteuid() != 0:
        reasons.append("not root")
    return reasons


@contextlib.contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """A started Slurm; yields the environment that its commands want. Jobs that are left are killed at the end.

    Partitions: ``main``, and ``closed``, where only jobs of the account ``science`` ever start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
        "SLURM_CONF": str(folder / "slurm.conf"),
    }
    socket_path = folder / "munge.socket"
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    (folder / "slurm.conf").write_text(_configuration(folder, socket_path))
    for name in ("state", "spool"):
        (folder / name).mkdir(exist_ok=True)
    munged = ["munged", "--foreground", "--force", f"--socket={socket_path}", f"--key-file={key}"]
    munged += [f"--{name}-file={folder}/munged.{name}" for name in ("pid", "log", "seed")]
    with contextlib.ExitStack() as stack:
        stack.enter_context(_daemon(munged, folder, environment))
        until(socket_path.exists, what=f"munged (its log is in {folder})")
        stack.enter_context(_daemon(["slurmctld", "-D"], folder, environment))
        stack.enter_context(_daemon(["slurmd", "-D"], folder, environment))
        until(
            lambda: "idle" in _call(["sinfo", "--noheader", "--format=%T"], environment),
            what=f"an idle node (logs are in {folder})",
        )
        try:
            yield {name: environment[name] for name in ("PATH", "SLURM_CONF")}
        finally:
            _call(["scancel", "--user=root"], environment)
            until(
                lambda: not _call(["squeue", "--noheader"], environment).strip(),
                what=f"the end of the jobs (logs are in {folder})",
            )


def _configuration(folder: Path, munge: Path) -> str:
    host = socket.gethostname()
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = first.getsockname()[1], second.getsockname()[1]
    return f"""\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=bf_interval=3,sched_min_interval=500000
ReturnToService=2
KillWait=5
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={CPUS} RealMemory=16000
PartitionName=main Nodes={host} Default=YES State=UP OverTimeLimit=0
PartitionName=closed Nodes={host} State=UP AllowAccounts=science
"""


@contextlib.contextmanager
def _daemon(words: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    with (folder / f"{words[0]}.out").open("ab") as output:
        process = subprocess.Popen(words, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _call(words: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False).stdout


if __name__ == "__main__":
    with running(Path(sys.argv[1]).absolute()) as variables:
        for name, value in variables.items():
            print(f"export {name}={value}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
