"""What a run leaves behind, for the one who asked for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pandas as pd

from s2sr_core.composites.composite_index import COLUMNS, rows_in
from s2sr_core.errors import RunError
from s2sr_core.outputs.summary import Summary
from s2sr_core.parameters import RunParameters
from s2sr_core.workspace import Workspace

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class Run:
    """A run that has ended.

    Attributes
    ----------
    parameters: of the run.
    summary: its counts; ``summary.failures`` is how many products and composites failed.
    outcomes: the rows of ``indices/composite_index.csv`` of the run's cells and bands.
    """

    parameters: RunParameters
    summary: Summary
    outcomes: pd.DataFrame = field(repr=False)

    @classmethod
    def of(cls, parameters: RunParameters, summary: Summary) -> Self:
        """The run, with its tables as they are now.

        Raises
        ------
        RunError
            If there were failures, and nothing was made.
        """
        workspace = Workspace(parameters.work_dir)
        if summary.nothing_worked:
            raise RunError(
                f"{summary.sentence()}; the tables of errors are in {workspace.indices} and {workspace.logs}"
            )
        rows = pd.DataFrame(rows_in(workspace), columns=list(COLUMNS))
        cells = pd.read_csv(workspace.selected_gridcells, dtype=str)["cell_id"]
        mine = rows[rows["cell_id"].isin(cells) & rows["band"].isin(parameters.bands)].reset_index(drop=True)
        numbers = ["scenes", "pixels", "valid_pixels", "valid_share"]
        mine[numbers] = mine[numbers].apply(pd.to_numeric)
        return cls(parameters, summary, mine)

    @property
    def work_dir(self) -> Path:
        """The folder of the run."""
        return self.parameters.work_dir

    @property
    def paths(self) -> list[Path]:
        """The composites of the run's cells and bands, GeoTIFFs."""
        composites = Workspace(self.work_dir).composites
        return [composites / path for path in self.outcomes["path"] if path]

    @property
    def report(self) -> Path:
        """A page about the run: maps, dates, failures, parameters, how to cite."""
        return Workspace(self.work_dir).report

    @property
    def scenes(self) -> pd.DataFrame:
        """``indices/scene_index.csv``: every product, whether it was used, and why not."""
        return pd.read_csv(Workspace(self.work_dir).scene_index)

    def to_xarray(self) -> xarray.Dataset:
        """The composites of the run's cells and bands, as :func:`s2sr.open` opens them."""
        from s2sr.dataset import open_dataset

        there = self.outcomes[self.outcomes["path"] != ""]
        return open_dataset(self.work_dir, sorted(set(there["cell_id"])), sorted(set(there["band"])))

    def __str__(self) -> str:
        return f"{self.summary.sentence()}\n{self.work_dir}"

    __repr__ = __str__
