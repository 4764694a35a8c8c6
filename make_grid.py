"""The command line of the grid: ``python make_grid.py --help``, installed as ``s2sr-make-grid``."""

from __future__ import annotations

# ruff: noqa: E402  # the current folder is left out before anything is imported that may lie there
from s2sr_core.import_path import leave_out_current_folder

leave_out_current_folder()

from s2sr_core.cells.make_grid import GridParameters, make_grid
from s2sr_core.command_line import EXIT_DONE, Parser, add_fields, build, run

PROG = "s2sr-make-grid"


def main() -> int:
    """Run the command line; returns the exit code: 0 done, 2 bad input."""
    return run(_main, PROG)


def _main(argv: list[str]) -> int:
    parser = Parser(
        prog=PROG,
        allow_abbrev=False,
        description="Write a CSV of gridcells on a regular grid in degrees, anchored at -180/-90.",
        epilog="Exit codes: 0 done; 2 bad input.",
    )
    add_fields(parser.add_argument_group("parameters"), GridParameters)
    parameters = build(GridParameters, parser.parse_args(argv))
    count = make_grid(parameters)
    print(f"{count} gridcells of {parameters.cell_size:g} degrees: {parameters.out}")
    return EXIT_DONE


if __name__ == "__main__":
    raise SystemExit(main())
