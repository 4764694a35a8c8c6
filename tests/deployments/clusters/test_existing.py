"""A run as the guest of a Dask cluster that others have started."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import distributed
import pytest
import shapely
from support.dask_cluster import address_in, dask_cluster, process
from support.scenes import parameters_for
from support.waiting import until

from deployments.clusters import cluster_of, existing, guest
from s2sr_core import __version__
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError
from s2sr_core.parameters import RunParameters
from s2sr_core.workspace import Workspace
from tasks.worker_number import worker_number

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers are not started in the tests' folder
CELL = Gridcell("a", shapely.box(0, 0, 1, 1))


@pytest.fixture
def of(tmp_path: Path) -> Callable[..., RunParameters]:
    def make(scheduler: object, **changes: Any) -> RunParameters:
        return parameters_for(tmp_path, tmp_path, [CELL], cluster="dask", scheduler=str(scheduler), **changes)

    return make


@pytest.fixture(scope="module")
def scheduler_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two workers whose names end with the same number; GDAL and proxies are set as somebody wants them there."""
    folder = tmp_path_factory.mktemp("dask")
    one = ["--nthreads", "1"]
    environment = {"GDAL_VRT_ENABLE_PYTHON": "YES", "no_proxy": "example.org"}
    with dask_cluster(folder, {"big-rank7": one, "small-7": one}, **environment) as file:
        with distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=240)
        yield file


def state_of_worker(dask_worker: Any) -> dict[str, Any]:
    """What a run could leave behind in a worker's process."""
    from osgeo import gdal

    return {
        "plugins": sorted(name for name in dask_worker.plugins if "s2sr" in name),
        "proxies": {name: os.environ.get(name) for name in ("no_proxy", "NO_PROXY")},
        "gdal": gdal.GetConfigOption("GDAL_VRT_ENABLE_PYTHON"),
    }


def test_workers_get_numbers_and_settings_and_are_left_as_they_were(
    of: Callable[..., RunParameters], scheduler_file: Path
) -> None:
    parameters = of(scheduler_file)
    work_dir = parameters.work_dir
    with distributed.Client(scheduler_file=str(scheduler_file), set_as_default=False) as other:
        other.run(exec, "import s2sr_core")  # which exempts this machine from proxies, wherever it is imported
        before = other.run(state_of_worker)
        cluster = cluster_of(parameters)
        cluster.check()
        assert (cluster.worker_count(), cluster.host()) == (2, "127.0.0.1")
        with cluster.task_runner() as runner:
            runner.watch()
            assert sorted(other.run(worker_number, work_dir).values()) == [1, 2]
            asked = [runner.client.submit(worker_number, work_dir, workers=[each], pure=False) for each in before]
            assert sorted(each.result() for each in asked) == [1, 2]
            during = other.run(state_of_worker)
            assert {state["gdal"] for state in during.values()} == {"TRUSTED_MODULES"}
            assert all("127.0.0.1" in state["proxies"]["no_proxy"] for state in during.values())
            with process(scheduler_file.parent, "late", "worker", "--scheduler-file", str(scheduler_file),
                         "--no-nanny", "--no-dashboard", "--nthreads", "1", "--name", "late-7"):  # fmt: skip
                until(lambda: len(other.run(worker_number, work_dir)) == 3)
                assert sorted(other.run(worker_number, work_dir).values()) == [1, 2, 3]
            until(lambda: len(other.nthreads()) == 2)
        assert other.run(state_of_worker) == before
        assert {state["gdal"] for state in before.values()} == {"YES"}
        assert not list(Workspace(work_dir).tmp.glob("*"))
        assert other.submit(sum, [1, 2]).result() == 3  # the cluster goes on


def test_a_work_folder_that_workers_do_not_see_is_said(
    of: Callable[..., RunParameters], scheduler_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is not where the workers look."""
    monkeypatch.setattr(guest, "PATIENCE", 0.0)
    monkeypatch.setattr(existing.secrets, "token_hex", lambda size: f"{size}/not/here" if size == 16 else "g")
    monkeypatch.setattr(Path, "touch", lambda *_, **__: None)
    parameters = of(scheduler_file)
    with (
        pytest.raises(
            InputError, match=r"^work_dir = '.+': is not seen by the worker tcp://127.0.0.1:\d+; give a folder"
        ),
        cluster_of(parameters).task_runner(),
    ):
        pytest.fail("it started")  # pragma: no cover


def test_versions_that_differ_are_named(
    of: Callable[..., RunParameters], scheduler_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package, as a worker would report another; and GDAL, of which each worker says what it has."""
    real = distributed.Client.get_versions

    def answered(self: distributed.Client, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = real(self, **options)
        next(iter(found["workers"].values()))["packages"]["numba"] = "0.1.2"
        return found

    monkeypatch.setattr(distributed.Client, "get_versions", answered)
    sentence = r"^scheduler = '.+': does not fit: the worker tcp://\S+ has numba 0\.1\.2 \(here \d+\.\d+\.\d+\); inst"
    with pytest.raises(InputError, match=sentence):
        cluster_of(of(address_in(scheduler_file))).check()
    monkeypatch.setattr(guest, "versions", lambda: {"s2sr": __version__, "GDAL": "3.4.1"})
    sentence = r"^scheduler = 'tcp://\S+': is a worker with GDAL 3\.\d+\.\d+ \(the flow: 3\.4\.1\); install the same"
    with pytest.raises(InputError, match=sentence), cluster_of(of(scheduler_file)).task_runner():
        pytest.fail("it started")  # pragma: no cover


def test_workers_with_several_threads_are_refused(of: Callable[..., RunParameters], tmp_path: Path) -> None:
    with dask_cluster(tmp_path, {"wide": ["--nthreads", "3"]}) as file:
        with distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(1, timeout=240)
        sentence = r"is a worker with 3 threads, or not the only one of its process; GDAL needs a process for each unit"
        with pytest.raises(InputError, match=sentence), cluster_of(of(file)).task_runner():
            pytest.fail("it started")  # pragma: no cover


def test_workers_without_this_program_are_refused(of: Callable[..., RunParameters], tmp_path: Path) -> None:
    (tmp_path / "shadow" / "deployments").mkdir(parents=True)
    (tmp_path / "shadow" / "deployments" / "__init__.py").touch()
    with dask_cluster(tmp_path, {"bare": ["--nthreads", "1"]}, PYTHONPATH=str(tmp_path / "shadow")) as file:
        with distributed.Client(scheduler_file=str(file), set_as_default=False) as client:
            client.wait_for_workers(1, timeout=240)
        sentence = (
            r"cannot import this program \(.*No module named 'deployments\.clusters'.*\); install the same on all"
        )
        with pytest.raises(InputError, match=sentence), cluster_of(of(file)).task_runner():
            pytest.fail("it started")  # pragma: no cover


def test_a_scheduler_that_cannot_be_used_is_one_sentence(
    of: Callable[..., RunParameters], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(existing, "_ANSWER", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"id": "x"}))
    for scheduler, sentence in {
        f"tcp://127.0.0.1:{port}": r"does not answer within 0\.5 s \(.+\); start it, or give the address that dask",
        f"tls://127.0.0.1:{port}": r"cannot be used \(.*TLS.*\); give its address as .+ distributed\.comm\.tls in Da",
        f"rfc1149://127.0.0.1:{port}": r"cannot be used \(unknown address scheme 'rfc1149'.*\); give its address",
        "none.json": r"is not a scheduler file \(No such file or directory\); give the file that dask scheduler",
        str(bad): r"is not a scheduler file \(it holds no address\); give the file",
    }.items():
        with pytest.raises(InputError, match=rf"^scheduler = '.+': {sentence}") as caught:
            cluster_of(of(scheduler)).check()
        assert "\n" not in str(caught.value)


def test_the_parameters_belong_together(of: Callable[..., RunParameters], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^scheduler = 'tcp://h:1': has no effect without --cluster dask; add"):
        parameters_for(tmp_path, tmp_path, [CELL], scheduler="tcp://h:1")
    with pytest.raises(InputError, match=r"^cluster = 'dask': needs a scheduler; add --scheduler with its address"):
        parameters_for(tmp_path, tmp_path, [CELL], cluster="dask")
    with pytest.raises(ValueError, match="is not an address"):
        of("http://")
    assert of("some.json").scheduler == str(Path.cwd() / "some.json")


def test_help_says_it(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "s2sr_pipeline", "--help"], capture_output=True, text=True, check=True)
    assert "--scheduler ADDRESS" in done.stdout
