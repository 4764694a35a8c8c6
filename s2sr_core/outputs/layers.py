"""The composites of a folder side by side, read window by window: what :func:`s2sr.open` shows as variables.

Only ``composites/`` is needed, so that a copy of it can be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s2sr_core.composites.cog import open_raster
from s2sr_core.errors import InputError
from s2sr_core.geo.geometry import spatial_reference
from s2sr_core.geo.lattice import Window
from s2sr_core.periods import is_label
from s2sr_core.products.bands import ALL_BANDS
from s2sr_core.workspace import Workspace

_NAME = re.compile(rf"(?P<band>{'|'.join(ALL_BANDS)})_(?P<statistic>[a-z][a-z0-9_]*)_clip\.tif")
#: How far an edge may lie from the lattice of the first raster, pixels: roundings of coordinates.
_TOLERANCE = 1e-3
#: Name of the statistic whose variable is called as the band.
_PLAIN = "median"


@dataclass(frozen=True, slots=True)
class CompositeFile:
    """A GeoTIFF of one cell, period (empty in a run without periods), band and statistic."""

    path: Path
    cell_id: str
    period: str
    band: str
    statistic: str

    @property
    def variable(self) -> str:
        """``B04`` for the median, otherwise ``B04_count``."""
        return self.band if self.statistic == _PLAIN else f"{self.band}_{self.statistic}"


def composite_files(workspace: Workspace) -> Iterator[CompositeFile]:
    """The composites of a folder by their names; what has another name is left out."""
    for below in ("*", "*/*"):
        for path in sorted(workspace.composites.glob(f"{below}/cell_*_clip.tif")):
            folders = path.relative_to(workspace.composites).parts[:-1]
            if match := _NAME.fullmatch(path.name.removeprefix("_".join(("cell", *folders, "")))):
                cell_id, period = (*folders, "")[:2]
                if not is_label(period):
                    continue
                yield CompositeFile(path, cell_id, period, match["band"], match["statistic"])


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
        """The pixels of one period in a window of the frame; NaN if there is no value."""
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
    there = sorted({file.cell_id for file in files})
    if missing := sorted(set(cells or ()).difference(there)):
        raise InputError("cells", missing, "have no composite in the folder", f"choose among {' '.join(there[:8])}")
    files = [file for file in files if cells is None or file.cell_id in cells]
    files = [file for file in files if bands is None or file.band in bands]
    frame, windows = _frame_of(workspace, files)
    periods = tuple(sorted({file.period for file in files}))
    rasters: dict[tuple[str, str, str], dict[str, list[tuple[Path, Window]]]] = {}
    for file in files:
        by_period = rasters.setdefault((file.variable, file.band, file.statistic), {each: [] for each in periods})
        by_period[file.period].append((file.path, windows[file.cell_id]))
    layers = {
        variable: Layer(band, statistic, (len(periods), *frame.shape), tuple(map(tuple, by_period.values())))
        for (variable, band, statistic), by_period in sorted(rasters.items())
    }
    return Layers(frame, periods, layers)


def _frame_of(workspace: Workspace, files: Sequence[CompositeFile]) -> tuple[Frame, dict[str, Window]]:
    """The frame around all cells, and the window of each in it.

    One raster of each cell and band is opened: earlier runs may have left some on another lattice.
    """
    first: Frame | None = None
    windows: dict[str, Window] = {}
    for file in {(file.cell_id, file.band): file for file in files}.values():
        with open_raster(file.path) as dataset:
            left, dx, _, top, _, dy = dataset.GetGeoTransform()
            shape, crs = (dataset.RasterYSize, dataset.RasterXSize), dataset.GetProjection()
        if first is None:
            first = Frame(crs, left, top, dx, -dy, shape)
        column, row = (left - first.left) / first.dx, (first.top - top) / first.dy
        off = max(abs(column - round(column)), abs(row - round(row)), abs(dx / first.dx - 1) * shape[1])
        x0, y0 = round(column), round(row)
        window = Window(x0, y0, x0 + shape[1], y0 + shape[0])
        if off > _TOLERANCE or crs != first.crs or windows.setdefault(file.cell_id, window) != window:
            raise InputError(
                "work_dir",
                workspace.work_dir,
                f"holds composites that do not share one lattice, among them {file.path.name}",
                "name cells that do, make them with tap, or move what another run left there",
            )
    if first is None:
        raise InputError("bands", "", "have no composite in the folder", "name other bands")
    x0, y0 = min(window.x0 for window in windows.values()), min(window.y0 for window in windows.values())
    x1, y1 = max(window.x1 for window in windows.values()), max(window.y1 for window in windows.values())
    left, top = first.left + x0 * first.dx, first.top - y0 * first.dy
    frame = Frame(first.crs, left, top, first.dx, first.dy, (y1 - y0, x1 - x0))
    moved = {cell: Window(w.x0 - x0, w.y0 - y0, w.x1 - x0, w.y1 - y0) for cell, w in windows.items()}
    return frame, moved
