"""Do downloads and computing overlap? ``python -m benchmarks.overlap [--seconds 90]``.

A sandbox CDSE holds the granules of case (b), where every cell needs every product: no cell can be composited before
the last product has arrived. Three runs are timed in one process, against one Prefect server that is already running:

* computing alone: ``--stage composite`` of what an unthrottled ``--stage download`` fetched;
* download alone: ``--stage download`` from a sandbox throttled so that it takes about as long, or ``--seconds``;
* both at once, from that sandbox, into a separate folder.

It prints the three wall times and the ratio of the last to the larger of the other two; the last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.cases import SIZES
from benchmarks.workload import make
from s2sr_core.parameters import RunParameters
from s2sr_sandbox.server import Sandbox, SandboxSettings, running

CONNECTIONS = 4


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, help="length of the throttled download; by default that of computing")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overlap-") as name, prefect_server(Path(name) / "prefect"):
        folder = Path(name)
        size = SIZES["quick"]
        make(size)
        case = size.case("b")
        parameters = case.parameters(folder / "alone").model_copy(
            update={"source": None, "overwrite": False, "download_connections": CONNECTIONS}
        )
        with running(case.source, SandboxSettings()) as sandbox:
            use(sandbox)
            run(parameters, stage="query")
            run(parameters, stage="download")
            amount = sum(request.bytes for request in sandbox.byte_requests())
        computing = run(parameters, stage="composite")
        seconds = arguments.seconds or computing
        settings = SandboxSettings(bandwidth=amount / seconds / CONNECTIONS)
        with running(case.source, settings) as sandbox:
            use(sandbox)
            run(parameters, stage="query", work_dir=folder / "download")
            download = run(parameters, stage="download", work_dir=folder / "download")
        with running(case.source, settings) as sandbox:
            use(sandbox)
            together = run(parameters, work_dir=folder / "all")
    ratio = together / max(computing, download)
    print(f"download alone   {download:6.1f} s")
    print(f"computing alone  {computing:6.1f} s")
    print(f"all              {together:6.1f} s = {ratio:.2f} × the larger")
    figures = {"download": download, "computing": computing, "all": together, "overlap_ratio": ratio}
    print(json.dumps({key: round(value, 3) for key, value in figures.items()}))


@contextlib.contextmanager
def prefect_server(home: Path) -> Iterator[None]:
    """One server for all runs, each of which would otherwise start its own."""
    os.environ |= {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "DO_NOT_TRACK": "1",
    }
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import PREFECT_API_URL, temporary_settings

    server = SubprocessASGIServer()
    server.start(timeout=120)
    try:
        os.environ["PREFECT_API_URL"] = server.api_url
        with temporary_settings({PREFECT_API_URL: server.api_url}):
            yield
    finally:
        server.stop()


def use(sandbox: Sandbox) -> None:
    """Point this process at ``sandbox``."""
    os.environ.update(sandbox.environment())


def run(parameters: RunParameters, **changes: object) -> float:
    """Run the flow; returns its wall seconds."""
    from flows.pipeline import pipeline

    began = time.monotonic()
    state = pipeline(**dict(parameters.model_copy(update=changes)), return_state=True)
    seconds = time.monotonic() - began
    if not state.is_completed() or state.name != "Completed":
        errors = parameters.work_dir / "indices" / "phase1_errors.csv"
        raise SystemExit(f"{state.name}: {state.message}\n{errors.read_text() if errors.exists() else ''}")
    print(f"{changes}: {seconds:.1f} s: {state.message}", file=sys.stderr, flush=True)
    return seconds


if __name__ == "__main__":
    main()
