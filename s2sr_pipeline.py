"""The command line of the pipeline: ``python s2sr_pipeline.py --help``, installed as ``s2sr-pipeline``."""

from __future__ import annotations

# ruff: noqa: E402  # the current folder is left out before anything is imported that may lie there
from s2sr_core.import_path import leave_out_current_folder

leave_out_current_folder()

import argparse
import importlib.util
import os
import sys
from pathlib import Path

if importlib.util.find_spec("osgeo") is None:
    raise SystemExit(
        "s2sr-pipeline: GDAL's Python bindings (osgeo) are not in this environment; install GDAL 3.9 or newer with "
        "them, or run 'make setup' in the checkout for a wheel that holds both."
    )

from deployments.mpi.launched_rank import launched_rank
from s2sr_core import __version__
from s2sr_core.command_line import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    EXIT_FAILURES,
    Parser,
    add_fields,
    build,
    checked,
    run,
)
from s2sr_core.errors import InputError
from s2sr_core.files import read_record
from s2sr_core.outputs.summary import Summary
from s2sr_core.parameters import RunParameters
from s2sr_core.sources.cdse.http import CdseError
from s2sr_core.workspace import Workspace

PROG = "s2sr-pipeline"
#: Files named at the end of a run, at most.
_LISTED = 12
#: Prefect's settings, unless the environment has them already.
_PREFECT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "DO_NOT_TRACK": "1",
}


def main() -> int:
    """Run the command line; returns the exit code: 0 all done, 1 finished with failures or failed, 2 bad input."""
    for variable, value in _PREFECT.items():  # which Prefect reads when it is imported
        os.environ.setdefault(variable, value)
    launched = launched_rank()
    if launched.size == 1:
        return run(_main, PROG)
    from deployments.mpi.world import run_ranks

    def report(error: InputError) -> int:
        print(f"{PROG}: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT

    return run_ranks(launched, lambda: run(_main, PROG), report)


def _main(argv: list[str]) -> int:
    parser = Parser(
        prog=PROG,
        allow_abbrev=False,
        description="Composite Sentinel-2 L2A scenes: one cloud-free median GeoTIFF for each gridcell and band.",
        epilog="Exit codes: 0 all done; 1 finished with failures, or failed; 2 bad input.",
    )
    add_fields(parser.add_argument_group("parameters of the run"), RunParameters)
    parser.add_argument(
        "--repair",
        action="store_true",
        help="Take up the last run of work_dir, with its parameters: end what its dead process left on the Prefect "
        "server, and go on where it stopped.",
    )
    parser.add_argument("--plan", action="store_true", help="Print what would be done, and stop.")
    parser.add_argument(
        "--print-job-script",
        action="store_true",
        help="Print the batch job script, and stop; nothing is submitted.",
    )
    parser.add_argument("--doctor", action="store_true", help="Check this installation, and stop.")
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    arguments = parser.parse_args(argv)
    if arguments.doctor:
        return _doctor(Path(arguments.work_dir or ".").expanduser())
    parameters = _placed(_of_last_run(arguments) if arguments.repair else build(RunParameters, arguments))
    if arguments.print_job_script:
        from deployments.clusters import cluster_of

        print(cluster_of(parameters).job_script())
        return EXIT_DONE
    return _plan(parameters) if arguments.plan else _run(parameters)


def _of_last_run(arguments: argparse.Namespace) -> RunParameters:
    """The parameters of the last run of ``work_dir``, and those that are given instead."""
    if arguments.work_dir is None:
        raise InputError("work_dir", "", "is required", "add --work-dir, the folder of the run to repair")
    folder = Path(arguments.work_dir).expanduser().absolute()
    last = read_record(Workspace(folder).flow_run)
    if last is None:
        raise InputError("work_dir", folder, "holds no record of a run", "give the parameters, without --repair")
    given = {name: value for name in RunParameters.model_fields if (value := getattr(arguments, name)) is not None}
    return checked(RunParameters, {**last["parameters"], **given, "work_dir": folder})


def _placed(parameters: RunParameters) -> RunParameters:
    """Ranks that an MPI launcher started are workers; a batch system's jobs start their own."""
    ranks = launched_rank().size
    if ranks == 1 or parameters.cluster == "mpi":
        return parameters
    if parameters.cluster != "local":
        raise InputError(
            "cluster", parameters.cluster, f"was started {ranks} times by an MPI launcher", "start it once, without"
        )
    return parameters.model_copy(update={"cluster": "mpi"})


def _doctor(folder: Path) -> int:
    from s2sr_core.doctor import examine

    findings = list(examine(folder.absolute()))
    for finding in findings:
        print(f"{'wrong' if finding.remedy else 'ok':<6}{finding.name:<18}{finding.detail}")
        if finding.remedy:
            print(f"{'':24}-> {finding.remedy}")
    return EXIT_FAILURES if any(finding.remedy for finding in findings) else EXIT_DONE


def _plan(parameters: RunParameters) -> int:
    from deployments.clusters import cluster_of
    from s2sr_core.planning.plan import describe

    try:
        print(describe(parameters, cluster_of(parameters).worker_count()))
    except CdseError as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return EXIT_FAILURES
    return EXIT_DONE


def _run(parameters: RunParameters) -> int:
    """Check what can be checked at once, then run the flow in this process."""
    from deployments.clusters import cluster_of
    from s2sr_core.planning.preflight import check

    check(parameters)
    cluster = cluster_of(parameters)
    cluster.check()

    from deployments.server.run_server import server_of_run
    from flows.pipeline import pipeline

    with server_of_run(cluster.host()):
        state = pipeline(**dict(parameters), return_state=True)
        result = state.result(raise_on_failure=False)
    if isinstance(result, InputError):
        raise result
    if not isinstance(result, Summary):
        print(f"{PROG}: {state.name}: {state.message}", file=sys.stderr)
        return EXIT_FAILURES
    _report(parameters, result)
    return EXIT_FAILURES if result.failures else EXIT_DONE


def _report(parameters: RunParameters, summary: Summary) -> None:
    """Where to look: what was written, its picture, and what went wrong."""
    workspace = Workspace(parameters.work_dir)
    print(summary.sentence())
    if parameters.source is None and parameters.stage != "composite":
        print(f"manifest    {workspace.query_manifest}")
    if summary.failures:
        for path in (workspace.phase1_errors, workspace.phase2_errors):
            if path.exists():
                print(f"errors      {path}", file=sys.stderr)
    if not summary.composites:
        return
    print(f"index       {workspace.composite_index}")
    for path in sorted(workspace.composites.glob("*/*_median_clip.tif"))[:_LISTED]:
        print(f"composite   {path}")
    if summary.written + summary.kept > _LISTED:
        print(f"            … {summary.written + summary.kept} in all")
    if parameters.quicklook:
        for path in sorted(workspace.composites.glob("*/*_quicklook.png"))[:_LISTED]:
            print(f"quicklook   {path}")


if __name__ == "__main__":
    raise SystemExit(main())
