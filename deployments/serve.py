"""The service on this machine in one command: ``make serve``, or ``python -m deployments.serve``.

Starts a Prefect server on loopback with its database in a file, or in a PostgreSQL of its own, makes the work pool, the
limits and the deployments of ``prefect.yaml``, and starts a worker and a sandbox CDSE with products of a known
landscape. Everything is in one folder and ends with this process.
"""

from __future__ import annotations

from s2sr_core.import_path import ROOT, environment_of_child, is_checkout, leave_out_current_folder
from s2sr_core.installation import require_gdal

if __name__ == "__main__":  # before anything is imported that may lie in the current folder, or needs GDAL
    leave_out_current_folder()
    require_gdal("serve")

import argparse
import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import psutil

from deployments.server.postgresql import is_ready, postgresql
from s2sr_core.account import without_account
from s2sr_core.cells.make_grid import make_grid
from s2sr_core.errors import InputError
from s2sr_core.outputs.report import RESULTS_FOLDER, RESULTS_URL
from s2sr_core.parameters import GridParameters
from s2sr_core.planning.season import SeasonParameters
from s2sr_sandbox.archive import make_archive, summer_dates
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.server import SandboxSettings, running

_CHECKOUT = f"change to the checkout, {ROOT}" if is_checkout() else "change to a checkout of S2SR, which has one"
#: The folder that the parameters in prefect.yaml name.
FOLDER = Path("service")
#: Sourced by a shell, it points commands at the service.
ENVIRONMENT = FOLDER / "environment.sh"
_BOX, _CELL_SIZE = (-149.69, 68.58, -149.51, 68.68), 0.1
#: The four cells of that box: the sandbox's products cover them.
_CELLS = (-149.7, 68.5, -149.5, 68.7)
_BANDS = ("B02", "B03", "B04")
#: Seconds within which a server must answer, and a process that was asked to stop must have stopped.
_START, _STOP = 600.0, 4.0
#: Where Prefect's server keeps its records: in a file, or in a PostgreSQL of this service.
_SQLITE, _POSTGRESQL = "sqlite", "postgresql"
_OWN_ACCOUNT: Mapping[str, Any] = MappingProxyType({})
#: Looks at the processes, a second apart, between two at the task runs of runs that crashed.
_LOOKS = 60
#: How often a server or worker that died is started again.
_RESTARTS = 5
_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # The address opens the pages that documentation describes, not those that Prefect previews (V2).
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    # By default they are in memory: a server that stops forgets which runs have the slots of a limit, and those are
    # never free again.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM; returns the exit code, 2 for bad input, 1 if a process dies again and again."""
    given = _parser().parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        with service(given.port, sandbox=given.sandbox, database=given.database) as (url, processes):
            print(f"\n{url}  is where the runs are. Ctrl-C stops all of it.")
            print(f". {ENVIRONMENT}  lets commands of another terminal use it.", flush=True)
            _keep_alive(processes, url)
            return 1
    except InputError as error:
        print(f"serve: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; what is complete is kept", flush=True)
    return 0


@contextlib.contextmanager
def service(port: int, *, sandbox: bool = True, database: str = _SQLITE) -> Iterator[tuple[str, list[_Process]]]:
    """Server, worker, deployments and, unless the real CDSE is used, a sandbox.

    Gives the URL of the UI, and the processes of server and worker, and of the database if it has one.

    Raises
    ------
    InputError
        If the port is in use, the current folder is not the checkout's, or the database cannot be used.
    """
    for number in (port, port + 1):
        _check(number)
    url = f"http://127.0.0.1:{port}"
    own = {"PREFECT_HOME": str((FOLDER / "prefect").absolute()), "PREFECT_API_URL": f"{url}/api"}
    environment = {**environment_of_child(), **_SETTINGS, **own}
    logs = FOLDER / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        shown = {"PREFECT_API_URL": own["PREFECT_API_URL"]}
        if sandbox:
            _say("a sandbox CDSE")
            shown |= stack.enter_context(running(_products(), SandboxSettings())).environment()
        _grid()
        shown |= stack.enter_context(_results(port + 1, without_account(environment), logs))
        environment |= shown
        server_settings, processes = without_account(environment), list[_Process]()
        if database == _POSTGRESQL:
            _say("PostgreSQL")
            url_of_database, process = stack.enter_context(_postgresql(without_account(environment), logs))
            server_settings |= {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url_of_database}
            processes.append(process)
        _say("the Prefect server")
        prefect = [sys.executable, "-P", "-m", "prefect"]
        server_settings |= {"PREFECT_SERVER_API_HOST": "127.0.0.1", "PREFECT_SERVER_API_PORT": str(port)}
        server = [sys.executable, "-P", "-m", "deployments.server.shared_server"]
        server_process = stack.enter_context(_running(server, server_settings, logs / "server.log"))
        _wait_for(f"{url}/api/health", server_process)
        _say("work pool, limits and deployments")
        _call([sys.executable, "-P", "-m", "deployments.set_up", "--alone", "--deploy"], without_account(environment))
        _resume_schedule(url, "season-update/season-update")
        worker = [*prefect, "worker", "start", "--pool", "s2sr", "--type", "process", "--name", socket.gethostname()]
        worker_process = stack.enter_context(_running(worker, environment, logs / "worker.log"))
        stack.enter_context(_environment_file(shown))
        yield url, [*processes, server_process, worker_process]


def _keep_alive(processes: Sequence[_Process], url: str) -> None:
    """Start processes again that died; return if that has been done too often.

    Now and then, end the task runs of runs whose process died, if there are some.
    """
    restarts, looks = 0, 0
    while restarts < _RESTARTS:
        threading.Event().wait(1.0)
        looks += 1
        if looks % _LOOKS == 0 and _has_lost_task_runs(url):
            words = [sys.executable, "-P", "-m", "deployments.set_up", "--end-task-runs"]
            environment = without_account(environment_of_child()) | {"PREFECT_API_URL": f"{url}/api"}
            subprocess.run(words, env=environment, check=False, capture_output=True)  # noqa: S603
        for process in processes:
            if process.poll() is not None:
                restarts += 1
                print(f"{process.name} died; starting it again. Its log is {process.log}", flush=True)
                process.start()
    print(f"serve: processes died {restarts} times; see {FOLDER / 'logs'}.", file=sys.stderr)


def _has_lost_task_runs(url: str) -> bool:
    """Whether runs that have crashed have task runs that seem to run."""
    chosen = {
        "flow_runs": {"state": {"type": {"any_": ["CRASHED"]}}},
        "task_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}},
    }
    with contextlib.suppress(httpx.HTTPError, ValueError):
        return bool(httpx.post(f"{url}/api/task_runs/count", json=chosen).raise_for_status().json())
    return False


def _check(port: int) -> None:
    if not Path("prefect.yaml").is_file():
        raise InputError("folder", Path.cwd(), "has no prefect.yaml", _CHECKOUT)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError("port", port, f"cannot be used ({error.strerror})", "give another with --port") from error


def _products() -> Path:
    """The sandbox's products: six dates of past summers, and two of the season that ``season-update`` updates."""
    first, _ = SeasonParameters(season_start="06-01").window(datetime.now(UTC))
    folder = FOLDER / "cdse" / str(first.year)
    if not folder.exists():
        dates = [*summer_dates(6), *(first.date() + timedelta(days=days) for days in (1, 11))]
        unfinished = folder.with_name(f".{folder.name}.part")
        make_archive(unfinished, Grid.covering(*_CELLS), dates=dates, bands=_BANDS)
        unfinished.replace(folder)
    return folder


@contextlib.contextmanager
def _results(port: int, environment: Mapping[str, str], logs: Path) -> Iterator[dict[str, str]]:
    """A server of the runs' files, and the environment in which reports link to it."""
    _say("a server of the runs' files")
    folder = FOLDER / "runs"
    folder.mkdir(exist_ok=True)
    words = [sys.executable, "-P", "-m", "deployments.results", "--folder", str(folder), "--port", str(port)]
    url = f"http://127.0.0.1:{port}/"
    with _running(words, environment, logs / "results.log") as process:
        _wait_for(url, process)
        yield {RESULTS_FOLDER: str(folder.absolute()), RESULTS_URL: url}


@contextlib.contextmanager
def _postgresql(environment: Mapping[str, str], logs: Path) -> Iterator[tuple[str, _Process]]:
    """A PostgreSQL with its data in the folder of the service; gives the URL of its database."""
    with (
        postgresql(FOLDER / "postgresql") as database,
        _running(database.words, environment, logs / "postgresql.log", database.account) as process,
    ):
        _wait(lambda: is_ready(database), "database", _POSTGRESQL, process)
        yield database.url, process


@contextlib.contextmanager
def _environment_file(variables: Mapping[str, str]) -> Iterator[None]:
    """While the block lasts, shell lines after which a command uses this server, its results and its sandbox."""
    ENVIRONMENT.unlink(missing_ok=True)
    ENVIRONMENT.touch(mode=0o600)
    ENVIRONMENT.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()))
    try:
        yield
    finally:
        ENVIRONMENT.unlink(missing_ok=True)


def _resume_schedule(url: str, deployment: str) -> None:
    """Resume the schedules of a deployment, which prefect.yaml leaves paused."""
    with httpx.Client(base_url=f"{url}/api") as client:
        found = client.get(f"/deployments/name/{deployment}").raise_for_status().json()
        for schedule in found["schedules"]:
            address = f"/deployments/{found['id']}/schedules/{schedule['id']}"
            client.patch(address, json={"active": True}).raise_for_status()


def _grid() -> None:
    if not (FOLDER / "gridcells.csv").exists():
        make_grid(GridParameters(bbox=_BOX, cell_size=_CELL_SIZE, out=FOLDER / "gridcells.csv"))


def _say(what: str) -> None:
    print(f"starting {what} …", flush=True)


def _call(words: Sequence[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(words, env=environment, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[1:])} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def _wait_for(url: str, process: _Process) -> None:
    def answers() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(url).is_success
        return False

    _wait(answers, "server", url, process)


def _wait(is_there: Callable[[], bool], field: str, value: str, process: _Process) -> None:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if is_there():
            return
        time.sleep(0.2)
    raise InputError(field, value, "does not answer", f"see {process.log}")


class _Process:
    """A process in a session of its own, which a terminal's Ctrl-C does not reach; it may be started again.

    Attributes
    ----------
    name: as people call it.
    log: where it writes.
    """

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str], log: Path, account: Mapping[str, Any]
    ) -> None:
        self.name, self.log = log.stem, log
        self._words, self._environment, self._account = words, environment, account
        self._sessions: set[int] = set()
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as file:
            self._process = subprocess.Popen(  # noqa: S603
                self._words,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                **self._account,
            )
        self._sessions.add(self._process.pid)

    def poll(self) -> int | None:
        return self._process.poll()

    def end(self) -> None:
        """Ask all processes that were started to end, the youngest first; kill those that do not.

        What a process started that died meanwhile is still in its session.
        """
        family = sorted(filter(self._is_ours, psutil.process_iter()), key=psutil.Process.create_time, reverse=True)
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.terminate()
        _, alive = psutil.wait_procs(family, timeout=_STOP)
        for member in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        self._process.wait()

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) in self._sessions or self._process.pid in map(_pid, process.parents())
        except (OSError, psutil.Error):
            return False


def _pid(process: psutil.Process) -> int:
    return process.pid


@contextlib.contextmanager
def _running(
    words: Sequence[str], environment: Mapping[str, str], log: Path, account: Mapping[str, Any] = _OWN_ACCOUNT
) -> Iterator[_Process]:
    """A process, which ends with the block, with all that it started; ``account`` as ``subprocess.Popen`` takes it."""
    process = _Process(words, environment, log, account)
    try:
        yield process
    finally:
        process.end()


def _stop(*_: object) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the ending
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deployments.serve", description=__doc__)
    parser.add_argument(
        "--port",
        type=int,
        default=4200,
        help="port of the server on 127.0.0.1, the next one serves the runs' files; default: %(default)s",
    )
    parser.add_argument(
        "--database",
        choices=(_SQLITE, _POSTGRESQL),
        default=_SQLITE,
        help="where the server keeps its records: in a file, or in a PostgreSQL that starts and ends with the service, "
        "of Debian's package; default: %(default)s",
    )
    parser.add_argument(
        "--no-sandbox",
        dest="sandbox",
        action="store_false",
        help="download from Copernicus Data Space itself, with the account of the environment",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
