"""The composites of a folder side by side, read window by window: what :func:`s2sr.open` shows as variables.

Only ``composites/`` is needed, so that a copy of it can be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s2sr_core.composites.cog import open_raster
from s2sr_core.composites.composite_names import CompositeName, name_of
from s2sr_core.composites.mosaic import window_on
from s2sr_core.errors import InputError
from s2sr_core.geo.geometry import spatial_reference
from s2sr_core.geo.lattice import Lattice, Window
from s2sr_core.workspace import Workspace

#: How far an edge may lie from the lattice of the first raster, pixels: roundings of coordinates.
_TOLERANCE = 1e-3


def composite_files(workspace: Workspace) -> Iterator[tuple[Path, CompositeName]]:
    """The composites of a folder with what their names say; files with other names are left out."""
    for below in ("*", "*/*"):
        for path in sorted(workspace.composites.glob(f"{below}/cell_*_clip.tif")):
            name = name_of(path)
            if name is not None and path.parent == workspace.cell_folder(name.cell_id, name.period):
                yield path, name


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the pixels of all layers lie.

    Attributes
    ----------
    crs: WKT.
    left, top: of the first pixel's outer edges, in units of the CRS.
    dx, dy: size of a pixel, both positive.
    shape: rows and columns.
    """

    crs: str
    left: float
    top: float
    dx: float
    dy: float
    shape: tuple[int, int]

    @property
    def is_geographic(self) -> bool:
        """Whether coordinates are degrees."""
        return bool(spatial_reference(self.crs).IsGeographic())

    def x(self) -> npt.NDArray[np.float64]:
        """Centres of the columns."""
        return _centres(self.left, self.dx, self.shape[1])

    def y(self) -> npt.NDArray[np.float64]:
        """Centres of the rows, from north to south."""
        return -_centres(-self.top, self.dy, self.shape[0])


def _centres(edge: float, size: float, count: int) -> npt.NDArray[np.float64]:
    """Computed from whole numbers if the lattice is anchored at 0, so that neighbouring folders have equal ones."""
    first = edge / size
    if abs(first - round(first)) < _TOLERANCE:
        first = round(first)
    return (np.arange(count, dtype=np.float64) + (first + 0.5)) * size


@dataclass(frozen=True, slots=True)
class Layer:
    """Rasters of one band and statistic, by period and window of the frame; a period may have none."""

    band: str
    statistic: str
    shape: tuple[int, int, int]
    rasters: tuple[tuple[tuple[Path, Window], ...], ...]

    def read(self, period: int, asked: Window) -> npt.NDArray[np.float32]:
        """The pixels of one period in a window of the frame; NaN where nothing is valid."""
        pixels = np.full(asked.shape, np.nan, np.float32)
        for path, window in self.rasters[period]:
            if part := window & asked:
                with open_raster(path) as dataset:
                    band = dataset.GetRasterBand(1)
                    values = band.ReadAsArray(*part.offset_in(window), part.width, part.height)
                    has_value = values != band.GetNoDataValue()
                x, y = part.offset_in(asked)
                pixels[y : y + part.height, x : x + part.width][has_value] = values[has_value]
        return pixels


@dataclass(frozen=True, slots=True)
class Layers:
    """All layers of a folder, on one frame."""

    frame: Frame
    periods: tuple[str, ...]
    layers: dict[str, Layer]


def open_layers(workspace: Workspace, cells: Sequence[str] | None = None, bands: Sequence[str] | None = None) -> Layers:
    """Look at the composites of these ``cells`` and ``bands`` (None: of all), without reading pixels.

    Raises
    ------
    InputError
        If there are none, or they do not lie on one lattice.
    """
    workspace.check_composites()
    files = list(composite_files(workspace))
    if not files:
        remedy = "give the folder of a run that has made composites"
        raise InputError("work_dir", workspace.work_dir, "holds no composite", remedy)
    there = sorted({name.cell_id for _, name in files})
    if missing := sorted(set(cells or ()).difference(there)):
        raise InputError("cells", missing, "have no composite in the folder", f"choose among {' '.join(there[:8])}")
    files = [(path, name) for path, name in files if cells is None or name.cell_id in cells]
    files = [(path, name) for path, name in files if bands is None or name.band in bands]
    frame, windows = _frame_of(workspace, files)
    periods = tuple(sorted({name.period for _, name in files}))
    rasters: dict[tuple[str, str, str], dict[str, list[tuple[Path, Window]]]] = {}
    for path, name in files:
        by_period = rasters.setdefault((name.variable, name.band, name.statistic), {each: [] for each in periods})
        by_period[name.period].append((path, windows[name.cell_id]))
    layers = {
        variable: Layer(band, statistic, (len(periods), *frame.shape), tuple(map(tuple, by_period.values())))
        for (variable, band, statistic), by_period in sorted(rasters.items())
    }
    return Layers(frame, periods, layers)


def _frame_of(workspace: Workspace, files: Sequence[tuple[Path, CompositeName]]) -> tuple[Frame, dict[str, Window]]:
    """The frame around all cells, and the window of each in it.

    One raster of each cell and band is opened: earlier runs may have left some on another lattice.
    """
    lattice: Lattice | None = None
    windows: dict[str, Window] = {}
    for path, name in {(name.cell_id, name.band): (path, name) for path, name in files}.values():
        with open_raster(path) as dataset:
            if lattice is None:
                left, dx, _, top, _, dy = dataset.GetGeoTransform()
                lattice = Lattice(dx, -dy, left, top, dataset.GetProjection())
            try:
                window = window_on(lattice, dataset, path)
            except ValueError:
                window = None
        if window is None or windows.setdefault(name.cell_id, window) != window:
            raise InputError(
                "work_dir",
                workspace.work_dir,
                f"holds composites that do not share one lattice, among them {path.name}",
                "name cells that do, make them with tap, or move what another run left there",
            )
    if lattice is None:
        raise InputError("bands", "", "have no composite in the folder", "name other bands")
    whole = Window.around(windows.values())
    left, top = lattice.x_edge(whole.x0), lattice.y_edge(whole.y0)
    moved = {
        cell: Window(*window.offset_in(whole), window.x1 - whole.x0, window.y1 - whole.y0)
        for cell, window in windows.items()
    }
    return Frame(lattice.crs, left, top, lattice.dx, lattice.dy, whole.shape), moved
