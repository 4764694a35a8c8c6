"""The command line of the pipeline: ``python s2sr_pipeline.py --help``, installed as ``s2sr-pipeline``."""

from __future__ import annotations

# ruff: noqa: E402  # the current folder is left out before anything is imported that may lie there
from s2sr_core.import_path import leave_out_current_folder

leave_out_current_folder()

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field

from deployments.mpi.launched_rank import launched_rank
from deployments.server.quiet import QUIET_PREFECT
from s2sr_core import __version__
from s2sr_core.command_line import (
    EXIT_BAD_INPUT,
    EXIT_DONE,
    EXIT_FAILURES,
    EXIT_SIGNAL,
    Parser,
    add_fields,
    ask_about,
    build,
    run,
)
from s2sr_core.errors import InputError, RunError, SourceError
from s2sr_core.fields import ExpandedPath, doubt_about
from s2sr_core.files import read_bytes
from s2sr_core.installation import require_gdal
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.last_run import parameters_of_last_run
from s2sr_core.signals import Leaving, exit_now
from s2sr_core.validation import checked
from s2sr_core.workspace import Workspace

# What computes, queries or orchestrates is imported where it is first needed: --help and bad input need none of it.
if TYPE_CHECKING:
    from s2sr_core.outputs.summary import Summary

PROG = "s2sr-pipeline"
#: The most files of one kind that are listed at the end of a run.
_LISTED = 12
_DESCRIPTION = """\
Composite Sentinel-2 L2A products: one cloud-free median GeoTIFF per gridcell and band.
The first five options are required. Options may be written with dashes or underscores.
"""
_EPILOG = """\
examples:
  Products in a folder (add --plan to see first what would be done):
    s2sr-pipeline --bbox -149.75 68.5 -149.5 68.75 --grid-csv cells.csv --tap \\
      --start 2019-06-01 --end 2019-09-01 --source /data/S2 --work-dir toolik

  Products of Copernicus Data Space (CDSE), all nine 20 m bands:
    export CDSE_USERNAME=you@example.org CDSE_PASSWORD_FILE=~/.cdse/cdse_pw
    s2sr-pipeline --bbox -149.75 68.5 -149.5 68.75 --grid-csv cells.csv --tap \\
      --start 2019-06-01 --end 2019-09-01 --work-dir toolik \\
      --bands B02 B03 B04 B05 B06 B07 B8A B11 B12

  The same for the default bands, on ten MPI ranks:
    mpirun -x CDSE_USERNAME -x CDSE_PASSWORD_FILE -n 10 s2sr-pipeline \\
      --bbox -149.75 68.5 -149.5 68.75 --grid-csv cells.csv --tap \\
      --start 2019-06-01 --end 2019-09-01 --work-dir toolik

  Composite what was downloaded before, on the jobs of a Slurm cluster:
    s2sr-pipeline --bbox -149.75 68.5 -149.5 68.75 --grid-csv cells.csv --tap \\
      --start 2019-06-01 --end 2019-09-01 --work-dir toolik \\
      --stage composite --cluster slurm --site site.yaml

exit codes:
  0    all done
  1    finished with failures, failed, or cancelled in Prefect
  2    bad input, or GDAL is not installed
  130  interrupted by Ctrl-C; 143 by SIGTERM, 129 by a closed terminal
"""


#: Bytes of a site file that is shown; none that a person writes is larger.
_LARGEST_SITE = 100_000


class _Folder(BaseModel):
    """The one parameter of ``--doctor`` and ``--repair``."""

    work_dir: Annotated[ExpandedPath, Field(validate_default=True)] = Path()


def main() -> int:
    """Run the command line; returns the exit code, see ``--help``. An interrupted program exits here."""
    leaving = Leaving()
    code = _run_all_ranks()
    if code > EXIT_SIGNAL:
        exit_now(code)  # a thread may still be in a read
    if launched_rank().size == 1 and sys.modules.get("flows.pipeline") is not None:
        leaving.with_code(code)
    return code


def _run_all_ranks() -> int:
    for variable, value in QUIET_PREFECT.items():  # which Prefect reads when it is imported
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
    arguments = _parser().parse(argv)
    require_gdal(PROG)
    if arguments.doctor:
        return _doctor(build(_Folder, arguments).work_dir)
    if arguments.verify is not None:
        return _verify(checked(_Folder, {"work_dir": arguments.verify}).work_dir)
    if arguments.json and arguments.explain is None:
        raise InputError("json", "on", "has no effect without --explain", "add --explain LON LAT")
    if arguments.explain is not None:
        return _explain(_of_last_run(arguments), *arguments.explain, as_json=arguments.json)
    parameters = _placed(_of_last_run(arguments) if arguments.repair else build(RunParameters, arguments))
    parameters.check_inputs()
    if arguments.print_job_script:
        from deployments.clusters import cluster_of

        print(cluster_of(parameters).job_script())
        return EXIT_DONE
    if arguments.plan:
        return _plan(parameters)
    problem = "" if Workspace(parameters.work_dir).has_run() else doubt_about(arguments.work_dir)
    if problem and not arguments.yes:
        ask_about("work_dir", arguments.work_dir, problem)
    return _run(parameters)


def _parser() -> Parser:
    parser = Parser(PROG, _DESCRIPTION, _EPILOG)
    add_fields(parser, RunParameters)
    parser.add_yes(parser.add_argument_group("without a terminal"), "--work-dir")
    actions = parser.add_argument_group("instead of a run")
    actions.add_argument("--plan", action="store_true", help="Print what the run would do, and exit.")
    actions.add_argument(
        "--repair",
        action="store_true",
        help="Continue the last run of --work-dir, with its parameters unless others are given, and clean up what its "
        "dead process left on the Prefect server.",
    )
    actions.add_argument(
        "--print-job-script",
        action="store_true",
        help="Print the batch job script of --cluster, and exit. Nothing is submitted.",
    )
    actions.add_argument(
        "--verify",
        metavar="DIR",
        help="Compare all composites of the work folder DIR with their records, and exit: every file is read, and its "
        "checksum compared. What is missing, changed, foreign, incomplete or on another lattice is listed.",
    )
    actions.add_argument(
        "--explain",
        nargs=2,
        type=float,
        metavar=("LON", "LAT"),
        help="Say why the pixel at this point has its value, scene by scene, and exit: with the parameters of the last "
        "run of --work-dir, in its bands or those of --bands.",
    )
    actions.add_argument("--json", action="store_true", help="Print what --explain says as JSON.")
    actions.add_argument("--doctor", action="store_true", help="Check this installation, and exit.")
    actions.add_argument(
        "--version", action="version", version=f"{PROG} {__version__}", help="Print the version, and exit."
    )
    actions.add_argument("-h", "--help", action="help", help="Print this help, and exit.")
    return parser


def _of_last_run(arguments: argparse.Namespace) -> RunParameters:
    """The parameters of the last run of ``work_dir``, except those that are given now."""
    if arguments.work_dir is None:
        raise InputError("work_dir", "", "is required", "add --work-dir, the folder of the last run")
    folder = build(_Folder, arguments).work_dir
    given = {name: value for name in RunParameters.model_fields if (value := getattr(arguments, name)) is not None}
    return parameters_of_last_run(folder, given, _approved)


def _approved(site: Path) -> bool:
    """Show the site file that a record names, and ask on the terminal whether to use it; without one, no.

    Somebody else may have written the record and the file. What the terminal would act on is shown as an escape.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    try:
        text = read_bytes(site, _LARGEST_SITE).decode("utf-8", "backslashreplace")
    except OSError:
        return False
    print(f"The run's record names the site file {str(site)!a}. Its commands would run as you:", file=sys.stderr)
    for line in text.splitlines():
        print(f"    {''.join(c if c.isprintable() else ascii(c)[1:-1] for c in line)}", file=sys.stderr)
    print("Use it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _placed(parameters: RunParameters) -> RunParameters:
    """The parameters with ``cluster="mpi"`` if an MPI launcher started several ranks: they are the workers.

    Raises
    ------
    InputError
        If the run is to start jobs of a batch system, whose ranks are started there.
    """
    ranks = launched_rank().size
    if ranks == 1 or parameters.cluster == "mpi":
        return parameters
    if parameters.cluster != "local":
        raise InputError(
            "cluster",
            parameters.cluster,
            f"cannot be used by {ranks} ranks of an MPI launcher",
            "start one process, without mpirun",
        )
    return parameters.model_copy(update={"cluster": "mpi"})


def _doctor(folder: Path) -> int:
    from deployments.server.configured import check_prefect
    from s2sr_core.doctor import examine
    from s2sr_core.user_folders import check_prefect_home

    findings = list(examine(folder, {"home of Prefect": check_prefect_home, "Prefect": check_prefect}))
    for finding in findings:
        print(f"{'wrong' if finding.remedy else 'ok':<6}{finding.name:<18}{finding.detail}")
        if finding.remedy:
            print(f"{'':24}-> {finding.remedy}")
    return EXIT_FAILURES if any(finding.remedy for finding in findings) else EXIT_DONE


def _verify(folder: Path) -> int:
    workspace = Workspace(folder)
    workspace.check_composites()

    from s2sr_core.composites.verify import verify

    found = verify(workspace)
    print(found.text())
    return EXIT_FAILURES if found.findings else EXIT_DONE


def _explain(parameters: RunParameters, longitude: float, latitude: float, *, as_json: bool) -> int:
    Workspace(parameters.work_dir).check_composites()

    from s2sr_core.outputs.explain import explain
    from s2sr_core.outputs.explain_table import as_text

    explanation = explain(parameters, longitude, latitude)
    print(json.dumps(explanation.as_json(), indent=2) if as_json else as_text(explanation))
    return EXIT_DONE if explanation.is_equal else EXIT_FAILURES


def _plan(parameters: RunParameters) -> int:
    from deployments.clusters import cluster_of
    from s2sr_core.machine import check_machine
    from s2sr_core.planning.plan import plan

    check_machine()
    try:
        print(plan(parameters, cluster_of(parameters).worker_count()))
    except SourceError as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return EXIT_FAILURES
    return EXIT_DONE


def _run(parameters: RunParameters) -> int:
    """Run the flow in this process, and say how it ended."""
    Workspace(parameters.work_dir).check_writable()

    from flows.run_here import run_here

    try:
        summary = run_here(parameters)
    except RunError as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return EXIT_FAILURES
    _report(parameters, summary)
    return EXIT_FAILURES if summary.failures else EXIT_DONE


def _report(parameters: RunParameters, summary: Summary) -> None:
    """Print where the results are: composites, quicklooks, tables of errors."""
    from s2sr_core.sources import source_of

    workspace = Workspace(parameters.work_dir)
    print(summary.sentence())
    if source_of(parameters).fetches:
        print(f"manifest    {workspace.query_manifest}")
    if summary.failures:
        for path in (workspace.phase1_errors, workspace.phase2_errors):
            if path.exists():
                print(f"errors      {path}", file=sys.stderr)
    if not summary.composites:
        return
    print(f"index       {workspace.composite_index}")
    for path in sorted(workspace.composites.glob(f"*/**/*_{parameters.statistic_names[0]}_clip.tif"))[:_LISTED]:
        print(f"composite   {path}")
    if summary.written + summary.kept > _LISTED:
        print(f"            … {summary.written + summary.kept} in all")
    if parameters.quicklook:
        for path in sorted(workspace.composites.glob("*/**/*_quicklook.png"))[:_LISTED]:
            print(f"quicklook   {path}")


if __name__ == "__main__":
    raise SystemExit(main())
