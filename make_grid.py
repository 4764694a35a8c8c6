"""The command line of the grid: ``python make_grid.py --help``, installed as ``s2sr-make-grid``."""

from __future__ import annotations

# ruff: noqa: E402  # the current folder is left out before anything is imported that may lie there
from s2sr_core.import_path import leave_out_current_folder

leave_out_current_folder()

from s2sr_core import __version__
from s2sr_core.command_line import EXIT_DONE, Parser, add_fields, ask_about, build, run
from s2sr_core.fields import doubt_about
from s2sr_core.installation import require_gdal
from s2sr_core.parameters import GridParameters

PROG = "s2sr-make-grid"
_DESCRIPTION = "Write a CSV of gridcells: cells of a global grid in degrees, anchored at -180/-90."
_EPILOG = """\
examples:
  The pan-Arctic grid of 0.25 degrees:
    s2sr-make-grid --bbox -180 60 180 84 --cell-size 0.25 --out panarctic_0p25_gridcells.csv

  Cells that share area with the polygons of a file:
    s2sr-make-grid --bbox -170 66 -140 72 --within land.gpkg --out alaska.csv

  Across the antimeridian:
    s2sr-make-grid --bbox 179 66 -179 67 --cell-size 0.5 --out chukotka.csv

exit codes:
  0    done
  1    failed
  2    bad input, or GDAL is not installed
  130  interrupted by Ctrl-C; 143 by SIGTERM, 129 by a closed terminal
"""


def main() -> int:
    """Run the command line; returns the exit code, see ``--help``."""
    return run(_main, PROG)


def _main(argv: list[str]) -> int:
    parser = Parser(PROG, _DESCRIPTION, _EPILOG)
    add_fields(parser, GridParameters)
    other = parser.add_argument_group("other")
    parser.add_yes(other, "--out")
    other.add_argument(
        "--version", action="version", version=f"{PROG} {__version__}", help="Print the version, and exit."
    )
    other.add_argument("-h", "--help", action="help", help="Print this help, and exit.")
    arguments = parser.parse(argv)
    require_gdal(PROG)
    parameters = build(GridParameters, arguments)
    parameters.check_inputs()

    if (problem := doubt_about(arguments.out)) and not arguments.yes:
        ask_about("out", arguments.out, problem)

    from s2sr_core.cells.make_grid import make_grid  # and GDAL with it, which --help and bad input do not need

    count = make_grid(parameters)
    print(f"{count} gridcells of {parameters.cell_size:g} degrees: {parameters.out}")
    return EXIT_DONE


if __name__ == "__main__":
    raise SystemExit(main())
