"""The workloads: sizes of the benchmark, its cases, and the files of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s2sr_core.cells.gridcells import Gridcell, make_gridcells
from s2sr_core.fields import Band, EngineName
from s2sr_core.geo.lattice import Bounds
from s2sr_core.parameters import RunParameters
from s2sr_sandbox.grid import Grid

#: Folder of everything that the benchmark writes; not under version control.
WORK = Path(__file__).with_name("work")

CaseName = Literal["a", "b", "c"]

#: A granule at 69° N, and 6 × 2 cells of 0.25° that lie in it.
GRID = Grid.granule(-149.5, 69.0, zone=5)
_CELL_SIZE = 0.25
_ALL_CELLS = (-150.25, 68.75, -148.75, 69.25)
_FOUR_CELLS = (-149.75, 68.75, -149.25, 69.25)
_ONE_CELL = (-149.5, 69.0, -149.25, 69.25)
_BANDS: tuple[Band, ...] = ("B02", "B03", "B04")

#: Scenes of cases a and b, and how many times they are linked for case c.
SCENES, REPEATED = 12, 10


@dataclass(frozen=True, slots=True)
class Case:
    """One workload: the cells of a box, from the products of a folder.

    Attributes
    ----------
    box: xmin, ymin, xmax, ymax, degrees; on the edges of cells.
    source: the folder of products.
    scenes: how many products it holds.
    """

    name: str
    box: Bounds
    bands: tuple[Band, ...]
    source: Path
    scenes: int

    @property
    def cells(self) -> list[Gridcell]:
        return make_gridcells(self.box, _CELL_SIZE)

    def parameters(self, work_dir: Path, engine: EngineName | None = None) -> RunParameters:
        """Parameters of a run over this case; with the default engine unless one is named."""
        fields = {} if engine is None else {"engine": engine}
        return RunParameters(
            bbox=self.box,
            grid_csv=self.source / "gridcells.csv",
            start="2015-01-01",
            end="2100-01-01",
            work_dir=work_dir,
            source=self.source,
            bands=list(self.bands),
            tap=True,
            overwrite=True,
            **fields,
        )


@dataclass(frozen=True, slots=True)
class Size:
    """A size of the whole benchmark: ``quick`` or ``full``."""

    name: str
    cells: Bounds

    @property
    def folder(self) -> Path:
        return WORK / self.name

    @property
    def granules(self) -> Path:
        return self.folder / "granules"

    @property
    def bands(self) -> tuple[Band, ...]:
        return _BANDS

    def case(self, name: str) -> Case:
        match name:
            case "a":
                return Case("a", _ONE_CELL, _BANDS[1:], self.granules, SCENES)
            case "b":
                return Case("b", self.cells, _BANDS, self.granules, SCENES)
            case "c":
                return Case("c", _ONE_CELL, _BANDS[:1], self.folder / "many", SCENES * REPEATED)
        raise KeyError(name)


SIZES = {size.name: size for size in (Size("quick", _FOUR_CELLS), Size("full", _ALL_CELLS))}
