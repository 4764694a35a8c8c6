from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Collection
from pathlib import Path

import dask
import psutil
import pytest
import shapely
from support.scenes import parameters_for
from support.waiting import until

from deployments.clusters import cluster_of
from deployments.clusters.replacement import started
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import ClusterError, InputError
from s2sr_core.parameters import RunParameters
from s2sr_core.signals import STOPS
from tasks.worker_number import worker_number

ROOT = Path(__file__).resolve().parents[3]
CELL = Gridcell("a", shapely.box(0, 0, 1, 1))


def parameters(tmp_path: Path, workers: int | None) -> RunParameters:
    return parameters_for(tmp_path, tmp_path, [CELL], workers=workers)


def test_workers_are_as_many_as_asked_or_as_there_are_cores(tmp_path: Path) -> None:
    assert cluster_of(parameters(tmp_path, 3)).worker_count() == 3
    assert cluster_of(parameters(tmp_path, None)).worker_count() == len(os.sched_getaffinity(0))


def test_small_work_has_one_worker_unless_the_user_says_how_many(tmp_path: Path) -> None:
    machine = cluster_of(parameters(tmp_path, None))
    assert machine.that_pays(100_000).worker_count() == 1
    assert machine.that_pays(10**9).worker_count() == machine.worker_count() == len(os.sched_getaffinity(0))
    assert cluster_of(parameters(tmp_path, 3)).that_pays(0).worker_count() == 3


def blocked() -> set[signal.Signals]:
    """What of the signals that stop programs this process does not see."""
    return {signal.Signals(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())}.intersection(STOPS)


def test_each_worker_is_a_process_of_one_thread_with_a_rank_of_its_own(tmp_path: Path) -> None:
    """Ranks count from 1; the flow's own process, which runs this test, is 0."""
    with cluster_of(parameters(tmp_path, 2)).task_runner() as runner:
        client = runner.client
        addresses = list(client.nthreads())
        ranks = [
            client.submit(worker_number, tmp_path, workers=[address], pure=False).result() for address in addresses
        ]
        assert sorted(ranks) == [1, 2]
        assert len(set(client.run(os.getpid).values())) == 2
        assert set(client.nthreads().values()) == {1}
        assert list(client.run(blocked).values()) == [{signal.SIGINT, signal.SIGHUP}] * 2
        (template,) = {psutil.Process(pid).ppid() for pid in client.run(os.getpid).values()}
        mask = re.search(r"^SigBlk:\s*(\w+)$", Path(f"/proc/{template}/status").read_text(), re.MULTILINE)
        assert mask is not None
        assert all(int(mask[1], 16) >> (number - 1) & 1 for number in STOPS)
    assert worker_number(tmp_path) == 0


def starting_workers(known: Collection[psutil.Process] = ()) -> list[psutil.Process]:
    """The workers of this process, which are copies of the process that begins with ``forkserver``."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if any("forkserver" in word for word in child.cmdline()):
                found += [worker for worker in child.children() if worker not in known]
    return found


def test_a_worker_killed_while_it_starts_is_replaced_at_first_and_later(tmp_path: Path) -> None:
    """The first is killed as soon as there is a process; later a worker is, and then the process that replaces it."""
    before = starting_workers()

    def kill_first() -> None:
        until(lambda: starting_workers(before))[0].kill()

    killer = threading.Thread(target=kill_first)
    killer.start()
    with cluster_of(parameters(tmp_path, 1)).task_runner() as runner:
        killer.join()
        (worker,) = starting_workers(before)
        worker.kill()
        (second,) = until(lambda: starting_workers([*before, worker]))
        second.kill()
        until(lambda: runner.watch() or starting_workers([*before, worker, second]))
        until(lambda: runner.watch() or runner.client.nthreads())
        assert runner.client.submit(worker_number, tmp_path, pure=False).result() == 1

        known = starting_workers()
        with dask.config.set({"distributed.deploy.lost-worker-timeout": 0}):  # as if its nanny were slow
            for process in known:
                if process not in before:
                    process.kill()
            until(lambda: not runner.client.nthreads())
            until(lambda: runner.watch() or runner.client.nthreads())
        assert runner.client.submit(worker_number, tmp_path, pure=False).result() == 1


STUCK = """
import importlib.abc, sys, time
class Stuck(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        while name == "tasks.scenes" and "forkserver" in " ".join(sys.orig_argv):
            time.sleep(1000)
sys.meta_path.insert(0, Stuck())
"""


def test_the_process_that_workers_are_copies_of_ends_with_the_program_also_while_it_imports(tmp_path: Path) -> None:
    """Which takes seconds; here it would never end."""
    (tmp_path / "sitecustomize.py").write_text(STUCK)
    code = "import sys; from deployments.clusters.worker_template import begin_template; begin_template()\n"
    code += "from multiprocessing import forkserver; print(forkserver._forkserver._forkserver_pid, flush=True)\n"
    code += "sys.stdin.read()"
    program = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )
    assert program.stdout is not None
    template = psutil.Process(int(program.stdout.readline()))
    # It has come to where it hangs: its own modules are all imported by then.
    until(lambda: any("numba" in each.path or "libgdal" in each.path for each in template.memory_maps()))
    program.kill()
    program.communicate()
    until(lambda: not template.is_running() or template.status() == psutil.STATUS_ZOMBIE)


def test_workers_that_never_start_are_a_sentence() -> None:
    calls: list[int] = []

    def make() -> None:
        calls.append(1)
        raise RuntimeError("Nanny failed\nto start")

    with pytest.raises(ClusterError, match=r"not start \(RuntimeError: Nanny failed to start\); see how much memory"):
        started(make)
    assert len(calls) == 5


@pytest.mark.parametrize("name", ["local", "mpi"])
def test_what_is_not_a_batch_system_has_no_job_script(tmp_path: Path, name: str) -> None:
    cluster = cluster_of(parameters(tmp_path, 1).model_copy(update={"cluster": name}))
    with pytest.raises(InputError, match=rf"^cluster = '{name}': has no job script; choose a batch system"):
        cluster.job_script()
