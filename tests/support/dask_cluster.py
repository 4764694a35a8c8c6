"""A Dask cluster as somebody else starts it: ``dask scheduler`` and ``dask worker`` processes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from support.waiting import until


@contextlib.contextmanager
def process(folder: Path, name: str, *words: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """``dask`` with these words, in ``folder``, as a user starts it; its output is ``<name>.log``."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "PYTHON"))}
    with (folder / f"{name}.log").open("ab") as log:
        running = subprocess.Popen(
            [sys.executable, "-P", "-m", "dask", *words],
            cwd=folder,
            env={**inherited, **environment},
            stdout=log,
            stderr=log,
        )
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(60)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextlib.contextmanager
def dask_cluster(
    folder: Path, workers: Mapping[str, Sequence[str]], *, protocol: str = "tcp", **environment: str
) -> Iterator[Path]:
    """A scheduler, and workers by name with their further words; gives the scheduler file."""
    file = folder / "scheduler.json"
    own = ["--host", "127.0.0.1", "--protocol", protocol]
    with contextlib.ExitStack() as held:
        words = ["scheduler", *own, "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
        scheduler = held.enter_context(process(folder, "scheduler", *words, **environment))
        until(lambda: file.exists() or scheduler.poll() is not None)
        for name, further in workers.items():
            words = ["worker", "--scheduler-file", str(file), *own, "--no-nanny", "--no-dashboard", "--name", name]
            held.enter_context(process(folder, name, *words, *further, **environment))
        yield file


def address_in(file: Path) -> str:
    return str(json.loads(file.read_text())["address"])
