"""S2SR from Python: ``s2sr.plan(…)``, ``s2sr.composite(…)``, ``s2sr.open(work_dir)``.

The parameters are those of the command line, by the same names; bad input is an :class:`InputError` of one sentence.
What takes long to import is imported by the functions that need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2sr_core import __version__
from s2sr_core.errors import ClusterError, InputError, InstallationError, RunError, S2SRError, SourceError
from s2sr_core.parameters import GridParameters, RunParameters
from s2sr_core.signature import takes_fields_of
from s2sr_core.validation import checked

if TYPE_CHECKING:
    import xarray

    from s2sr.planned import Plan
    from s2sr.run import Run

__all__ = [
    "ClusterError",
    "InputError",
    "InstallationError",
    "RunError",
    "S2SRError",
    "SourceError",
    "__version__",
    "composite",
    "make_grid",
    "open",
    "plan",
]


@takes_fields_of(GridParameters)
def make_grid(**fields: Any) -> Path:
    """Write a CSV of gridcells, as ``s2sr-make-grid`` does; returns its path."""
    parameters = checked(GridParameters, fields)
    parameters.check_inputs()

    from s2sr_core.cells.make_grid import make_grid as write_grid

    write_grid(parameters)
    return parameters.out


@takes_fields_of(RunParameters)
def plan(**fields: Any) -> Plan:
    """What a run with these parameters would do, as ``--plan`` says it. Nothing is written."""
    parameters = checked(RunParameters, fields)
    parameters.check_inputs()

    from s2sr.planned import plan_of

    return plan_of(parameters)


@takes_fields_of(RunParameters)
def composite(**fields: Any) -> Run:
    """Run the pipeline, and wait for its end; what is up to date is kept, as on the command line.

    The run is a process of its own, with a server of its own unless one is configured. Both end with the run.
    """
    parameters = checked(RunParameters, fields)
    parameters.check_inputs()

    from s2sr.own_process import run_in_own_process
    from s2sr.run import Run

    return Run.of(parameters, run_in_own_process(parameters))


def open(work_dir: str | Path, *, cells: Sequence[str] | None = None) -> xarray.Dataset:  # noqa: A001
    """The composites of a work folder as one lazy dataset: ``time``, ``latitude``, ``longitude`` (or ``y``, ``x``).

    Parameters
    ----------
    work_dir:
        The folder of a run, or a copy of it that holds ``composites/``.
    cells:
        Ids of gridcells; by default all, side by side.

    Raises
    ------
    InputError
        If there are no composites, or those of several cells do not share one lattice.
    InstallationError
        If xarray is not installed.
    """
    from s2sr.dataset import open_dataset

    return open_dataset(Path(work_dir), cells)
