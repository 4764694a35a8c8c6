"""A Dask cluster that somebody else has started: the run is its guest, and leaves it as it was."""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from deployments.clusters.cluster import Cluster
from deployments.clusters.network import address_of_this_machine, address_towards
from deployments.clusters.site import read_site
from s2sr_core.errors import ClusterError, InputError
from s2sr_core.files import remove_tree
from s2sr_core.workspace import Workspace

if TYPE_CHECKING:
    from distributed import Client

    from deployments.clusters.task_runner import ClusterTaskRunner
    from s2sr_core.parameters import RunParameters

logger = logging.getLogger("s2sr_core.flow")

#: Seconds within which the scheduler must answer.
_ANSWER = 10.0
#: The same of a scheduler that has answered before, and may be busy.
_LATER = 60.0
#: Seconds without a worker after which nobody waits for one; a cluster that grows may have to start a machine first.
_SILENCE = 1800.0
#: Packages whose versions must be the same everywhere: what travels between processes, and what makes pixels.
_PACKAGES = ("cloudpickle", "dask", "distributed", "msgpack", "numba", "numpy", "prefect", "prefect-dask")
_REMEDY = "install the same on all machines, from the lock file"


class ExistingDask(Cluster):
    """The workers of the scheduler that the parameter ``scheduler`` names."""

    name = "dask"

    def __init__(self, parameters: RunParameters) -> None:
        self._given, self._workers = str(parameters.scheduler), parameters.workers
        self._site, self._workspace = read_site(parameters.site), Workspace(parameters.work_dir)

    def worker_count(self) -> int:
        """As many as the parameter ``workers`` says; by default those that are there."""
        if self._workers is not None:
            return self._workers
        with self._connected() as client:
            return self._count(client)

    def check(self) -> None:
        if self._site.interface is not None:
            address_of_this_machine(self._site.interface)
        with self._connected() as client:
            if self._workers is None:
                self._count(client)
            self._check_versions(client)

    def host(self) -> str:
        if self._site.interface is not None:
            return address_of_this_machine(self._site.interface)
        return address_towards(urlsplit(self._address()).hostname or "")

    @contextlib.contextmanager
    def task_runner(self) -> Iterator[ClusterTaskRunner]:
        """A task runner on that cluster; the cluster goes on, and nothing of the run stays on its workers."""
        from prefect.settings import PREFECT_API_URL

        from deployments.clusters.guest import Guest, versions
        from deployments.clusters.task_runner import ClusterTaskRunner

        logging.getLogger("distributed").setLevel(logging.ERROR)
        folder, token = self._workspace.tmp / f"guests-{secrets.token_hex(8)}", secrets.token_hex(16)
        name = f"s2sr {self._workspace.work_dir}"
        hosts = tuple(host for url in (PREFECT_API_URL.value(), self._address()) if (host := _host_of(url)))
        guest = Guest(self._workspace.work_dir, folder, token, versions(), hosts)
        folder.mkdir(parents=True)
        (folder / token).touch()
        last_seen, looked = time.monotonic(), 0.0

        def watch() -> None:
            nonlocal last_seen, looked
            now = time.monotonic()
            if runner.client.status != "running":
                raise ClusterError(f"the Dask scheduler {self._given} is gone; what is complete is kept")
            if now - looked < _ANSWER:
                return
            looked, has_workers = now, True
            with contextlib.suppress(OSError, TimeoutError):  # the scheduler is busy; if it is gone, the status says so
                has_workers = bool(runner.client.nthreads())
            if has_workers:
                last_seen = now
            elif now - last_seen > _SILENCE:
                raise ClusterError(f"the Dask scheduler {self._given} has had no worker for {_SILENCE / 60:g} min")

        try:
            with self._connected() as client:  # the runner's own is closed before the plugin is taken away
                try:
                    self._bring(client, guest, name)
                    with ClusterTaskRunner(
                        address=self._address(), client_kwargs={"timeout": _LATER}, watch=watch
                    ) as runner:
                        yield runner
                finally:
                    with contextlib.suppress(Exception):  # the scheduler is gone, or a worker never got it
                        client.unregister_worker_plugin(name)
        finally:
            remove_tree(folder)

    def _bring(self, client: Client, guest: Any, name: str) -> None:
        """Make all workers, now and later, the run's.

        Raises
        ------
        InputError
            If one cannot be.
        """
        try:
            client.register_plugin(guest, name=name)
        except InputError:
            raise
        except Exception as error:  # Dask's own kinds, depending on where it failed
            raise InputError(
                "scheduler", self._given, f"has workers that cannot import this program ({_in_a_line(error)})", _REMEDY
            ) from error

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Client]:
        """A client of the scheduler; the files for TLS are those of Dask's own configuration.

        Raises
        ------
        InputError
            If it does not answer.
        """
        import distributed

        address = self._address()
        levels = {name: logging.getLogger(name).level for name in ("distributed", "distributed.client")}
        for name in levels:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            client = distributed.Client(address, timeout=_ANSWER, set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise InputError(
                "scheduler",
                self._given,
                f"does not answer within {_ANSWER:g} s ({_in_a_line(error)})",
                "start it, or give the address that dask scheduler prints",
            ) from error
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                "scheduler",
                self._given,
                f"cannot be used ({_in_a_line(error)})",
                "give its address as tcp://HOST:PORT, or as tls://HOST:PORT with the files of "
                "distributed.comm.tls in Dask's configuration",
            ) from error
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
        with client:
            yield client

    def _address(self) -> str:
        """The scheduler's address, which may stand in its scheduler file.

        Raises
        ------
        InputError
            If that is not such a file.
        """
        if "://" in self._given:
            return self._given
        try:
            content = json.loads(Path(self._given).read_text(encoding="utf-8"))
            return str(content["address"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it holds no address"
            raise InputError(
                "scheduler",
                self._given,
                f"is not a scheduler file ({reason})",
                "give the file that dask scheduler --scheduler-file writes, or an address",
            ) from error

    def _count(self, client: Client) -> int:
        count = len(client.nthreads())
        if not count:
            raise InputError(
                "scheduler", self._given, "has no worker", "start some, or say with --workers how many will come"
            )
        return count

    def _check_versions(self, client: Client) -> None:
        """Compare the versions of Python and of packages on all machines with those here."""
        found = client.get_versions(packages=list(_PACKAGES))
        here = _versions(found["client"])
        others = {"the scheduler": found["scheduler"]}
        others |= {f"the worker {address}": versions for address, versions in found["workers"].items()}
        for who, versions in others.items():
            there = _versions(versions)
            if wrong := [name for name in here if here[name] != there.get(name)]:
                listed = ", ".join(f"{name} {there.get(name) or 'missing'} (here {here[name]})" for name in wrong)
                raise InputError("scheduler", self._given, f"does not fit: {who} has {listed}", _REMEDY)


def _versions(found: Mapping[str, Any]) -> dict[str, str | None]:
    """The versions of packages, and of Python as far as pickles depend on it."""
    packages = found["packages"]
    python = ".".join(str(packages["python"]).split(".")[:2])
    return {"python": python} | {name: packages.get(name) for name in _PACKAGES}


def _host_of(url: str | None) -> str:
    return urlsplit(url or "").hostname or ""


def _in_a_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
