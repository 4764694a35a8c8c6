"""Maps of a whole run, as PNG: composites in true colour, counts of values, states of blocks.

Each has a graticule in degrees and a scale bar; where colours stand for something, a legend says for what. North is up,
except in a projected CRS, whose y axis is.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import shapely
from shapely.geometry.base import BaseGeometry

from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.geometry import METRES_PER_DEGREE, is_in, spatial_reference
from s2sr_core.geo.lattice import WGS84, Bounds
from s2sr_core.geo.projection import transformed
from s2sr_core.outputs.quicklook import read_thinned, stretched
from s2sr_core.pixels.rules import COMPOSITE_NODATA
from s2sr_core.pixels.statistics import COUNT
from s2sr_core.products.bands import TRUE_COLOUR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path as MatplotlibPath

#: Longest side of what is mapped, pixels; and the shortest that leaves room for the graticule's labels.
_SIDE, _LEAST_SIDE = 640, 240
#: Room for labels, legend and title, pixels.
_MARGINS = (150, 90)
_DPI = 100
#: Rows and columns of points by which the graticule of a projected CRS is drawn.
_GRATICULE = 61
#: A colour map that runs from dark to light for every eye.
_COUNT_COLOURS = "magma"
#: Names of blocks are drawn if there are at most this many.
_MOST_NAMES = 60
#: Colours of footprints and of the outlines of cells.
_FOOTPRINT, _CELL = "#2c7fb8", "#b2182b"


@dataclass(frozen=True, slots=True)
class MappedBlock[State: str]:
    """A block of a campaign on its map: its name, its state, and the bounds of its cells in degrees."""

    name: str
    state: State
    cells: tuple[Bounds, ...]


def true_colour(rasters: Mapping[str, Sequence[Path]], title: str) -> bytes | None:
    """A map of composites, by band, white where nothing is valid; None if there are no composites.

    True colour if B04, B03 and B02 are there, else the first band in grey.
    """
    there = {band: paths for band, paths in rasters.items() if paths}
    if not there:
        return None
    shown = TRUE_COLOUR if set(TRUE_COLOUR) <= set(there) else tuple(there)[:1]
    if len({len(there[band]) for band in shown}) > 1:  # a band is missing in some cells
        shown = (max(shown, key=lambda band: len(there[band])),)
    layers = []
    for band in shown:
        pixels, bounds, crs = _read_mosaic(there[band])
        layers.append(pixels)
    values = np.stack(layers)
    picture = stretched(values, (values != COMPOSITE_NODATA).all(axis=0))
    colours = picture[[0, 0, 0, 1] if len(shown) == 1 else [0, 1, 2, 3]]
    figure, axes = _map(bounds, f"{title}, {' '.join(shown)}", crs)
    axes.imshow(np.moveaxis(colours, 0, -1), extent=_extent(bounds), aspect=axes.get_aspect(), interpolation="nearest")
    return _png(figure)


def valid_counts(rasters: Sequence[Path], title: str) -> bytes | None:
    """A map of how many values are behind each pixel, with a legend; None without counts.

    White outside the cells.
    """
    from matplotlib import colormaps  # a third of a second, and few processes draw
    from matplotlib.colors import BoundaryNorm
    from matplotlib.ticker import MaxNLocator

    if not rasters:
        return None
    counts, bounds, crs = _read_mosaic(rasters)
    inside = counts != COUNT.nodata
    most = int(counts[inside].max(initial=0))
    figure, axes = _map(bounds, title, crs)
    colours = colormaps[_COUNT_COLOURS].resampled(most + 1)
    norm = BoundaryNorm(np.arange(-0.5, most + 1.5), most + 1) if most else None
    shown = np.ma.masked_array(counts, ~inside)
    drawn = axes.imshow(shown, colours, norm, extent=_extent(bounds), aspect=axes.get_aspect(), interpolation="nearest")
    legend = figure.colorbar(drawn, ax=axes, label="values", ticks=MaxNLocator(9, integer=True))
    legend.ax.minorticks_off()
    legend.ax.tick_params(labelsize=7)
    return _png(figure)


def blocks_map[State: str](blocks: Sequence[MappedBlock[State]], colours: Mapping[State, str], title: str) -> bytes:
    """A map of blocks of cells, each in the colour of its state, with its name if there is room.

    ``colours`` names the colour of each state, in the order of the legend.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    boxes = np.array([bounds for block in blocks for bounds in block.cells], float)
    boxes = boxes + _turns(boxes)[:, None] * np.array([1.0, 0.0, 1.0, 0.0])
    figure, axes = _map(_around(boxes), title)
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    state_of_box = [block.state for block in blocks for _ in block.cells]
    face = [colours[state] for state in state_of_box]
    axes.add_collection(PolyCollection(corners, facecolors=face, edgecolors="white", linewidths=0.5))
    if len(blocks) <= _MOST_NAMES:
        first = 0
        for block in blocks:
            west, south, east, north = _around(boxes[first : first + len(block.cells)])
            first += len(block.cells)
            axes.annotate(
                block.name,
                ((west + east) / 2, (south + north) / 2),
                ha="center",
                va="center",
                fontsize=7,
                color="black",
            )
    counts = {state: sum(block.state == state for block in blocks) for state in colours}
    handles = [Patch(facecolor=colours[state], label=f"{count} {state}") for state, count in counts.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
    return _png(figure)


def cells_map(cells: Sequence[BaseGeometry], footprints: Sequence[BaseGeometry], title: str) -> bytes:
    """A map of gridcells and of the footprints of products that share area with their surroundings.

    Both are polygons in EPSG:4326; a footprint is darker where several lie over one another.
    """
    from matplotlib.collections import PathCollection
    from matplotlib.patches import Patch

    boxes = shapely.bounds(cells)
    turns = _turns(boxes)
    west, south, east, north = _around(boxes + turns[:, None] * np.array([1.0, 0.0, 1.0, 0.0]))
    margin = max(0.15 * (east - west), 0.15 * (north - south), 0.02)
    bounds = (west - margin, max(south - margin, -90.0), east + margin, min(north + margin, 90.0))
    figure, axes = _map(bounds, title)
    around = shapely.box(*bounds)
    seen = [part for footprint in footprints for turn in (0.0, 360.0) if (part := _seen(footprint, turn, around))]
    layers = (
        (seen, {"facecolors": _to_rgba(_FOOTPRINT, max(0.03, 0.5 / max(len(seen), 1))), "edgecolors": _FOOTPRINT}, 0.6),
        (
            [_turned(cell, turn) for cell, turn in zip(cells, turns.tolist(), strict=True)],
            {"facecolors": "none", "edgecolors": _CELL},
            1.2 if len(cells) < _MOST_NAMES else 0.5,
        ),
    )
    for polygons, colours, width in layers:
        axes.add_collection(PathCollection([_path(polygon) for polygon in polygons], linewidths=width, **colours))
    handles = [
        Patch(facecolor="none", edgecolor=_CELL, label=f"{len(cells)} gridcells"),
        Patch(facecolor=_to_rgba(_FOOTPRINT, 0.3), edgecolor=_FOOTPRINT, label=f"{len(footprints)} products"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return _png(figure)


def _seen(footprint: BaseGeometry, turn: float, around: BaseGeometry) -> BaseGeometry | None:
    """The polygons of a footprint that lie in the map; None if it does not."""
    part = _turned(footprint, turn).intersection(around)
    return part if part.area > 0 else None


def _turned(polygon: BaseGeometry, degrees: float) -> BaseGeometry:
    return shapely.transform(polygon, lambda points: points + np.array([degrees, 0.0])) if degrees else polygon


def _path(polygon: BaseGeometry) -> MatplotlibPath:
    """A polygon, with its holes, as matplotlib draws it."""
    from matplotlib.path import Path as MatplotlibPath

    parts = [part for part in shapely.get_parts(polygon) if part.geom_type == "Polygon"]
    rings = [ring for part in parts for ring in (part.exterior, *part.interiors)]
    return MatplotlibPath.make_compound_path(
        *(MatplotlibPath(shapely.get_coordinates(ring), closed=True) for ring in rings)
    )


def _to_rgba(colour: str, alpha: float) -> tuple[float, float, float, float]:
    from matplotlib.colors import to_rgba

    return to_rgba(colour, alpha)


# ------------------------------------------------------------------------------------------------------- what all share


def _map(bounds: Bounds, title: str, crs: str = WGS84) -> tuple[Figure, Axes]:
    """An empty map of ``bounds`` (xmin, ymin, xmax, ymax in units of ``crs``; degrees of longitude may exceed 180)."""
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.ticker import FuncFormatter, MaxNLocator
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    west, south, east, north = bounds
    is_geographic = is_in(crs, WGS84)
    shrink = float(np.cos(np.radians((south + north) / 2))) if is_geographic else 1.0
    width, height = (east - west) * shrink, north - south
    scale = _SIDE / max(width, height)
    sides = [max(side * scale, _LEAST_SIDE) + margin for side, margin in zip((width, height), _MARGINS, strict=True)]
    figure = Figure(figsize=(sides[0] / _DPI, sides[1] / _DPI), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(west, east), ylim=(south, north), title=title)
    axes.title.set_fontsize(9)
    axes.set_aspect(1 / max(shrink, 0.01))
    if is_geographic:
        for axis, names in ((axes.xaxis, "EW"), (axes.yaxis, "NS")):
            axis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
            axis.set_major_formatter(FuncFormatter(_degrees(names)))
        axes.tick_params(labelsize=7)
        axes.grid(color="0.3", linewidth=0.4, alpha=0.6)
    else:
        _draw_graticule(axes, bounds, crs)
    metres = METRES_PER_DEGREE if is_geographic else spatial_reference(crs).GetLinearUnits()
    length = _round_length(width * metres / 3)
    text = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    axes.add_artist(
        AnchoredSizeBar(
            axes.transData,
            length / metres / shrink,
            text,
            "lower left",
            pad=0.3,
            sep=2,
            frameon=True,
            size_vertical=height / 200,
            fontproperties=FontProperties(size=7),
        )
    )
    return figure, axes


def _draw_graticule(axes: Axes, bounds: Bounds, crs: str) -> None:
    """Meridians and parallels as curves, with their degrees."""
    from matplotlib.ticker import MaxNLocator

    west, south, east, north = bounds
    x, y = np.meshgrid(np.linspace(west, east, _GRATICULE), np.linspace(south, north, _GRATICULE))
    longitude, latitude = transformed(crs, WGS84, x, y)
    middle = longitude[_GRATICULE // 2, _GRATICULE // 2]
    longitude = (longitude - middle + 180.0) % 360.0 - 180.0 + middle  # no seam but opposite of the middle
    steps = np.hypot(*np.gradient(longitude))
    longitude[steps > 90.0] = np.nan  # around a pole, and at the seam
    for degrees, names in ((longitude, "EW"), (latitude, "NS")):
        shown = np.ma.masked_invalid(degrees)
        levels = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(shown.min(), shown.max())
        drawn = axes.contour(x, y, shown, levels, colors="0.3", linewidths=0.4, alpha=0.6)
        axes.clabel(drawn, fontsize=7, fmt=_degrees(names), colors="0.2")
    axes.set(xticks=[], yticks=[], xlabel=spatial_reference(crs).GetName())
    axes.xaxis.label.set_fontsize(7)


def _degrees(names: str) -> Any:
    """Labels of a graticule: ``149.6° W``."""

    def label(value: float, _: int | None = None) -> str:
        value = (value + 180.0) % 360.0 - 180.0 if names == "EW" else value
        side = "" if abs(value) < 1e-9 or abs(value) == 180.0 else f" {names[0] if value > 0 else names[1]}"
        return f"{round(abs(value), 6):g}°{side}"

    return label


def _round_length(metres: float) -> float:
    """The longest of 1, 2 and 5 times a power of ten that is not longer than ``metres``."""
    power = 10.0 ** np.floor(np.log10(metres))
    return float(max(step * power for step in (1, 2, 5) if step * power <= metres * (1 + 1e-9)))


def _extent(bounds: Bounds) -> tuple[float, float, float, float]:
    west, south, east, north = bounds
    return west, east, south, north


def _around(boxes: npt.NDArray[np.floating[Any]]) -> Bounds:
    west, south, east, north = (*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0))
    return float(west), float(south), float(east), float(north)


def _turns(boxes: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Degrees to add to the longitudes of each box (rows of xmin, ymin, xmax, ymax), so that all lie close together.

    Without it a map of both sides of ±180 would be empty in between.
    """
    turns = np.where(boxes[:, 0] < 0, 360.0, 0.0)
    near = boxes[:, 2].max() - boxes[:, 0].min()
    across = (boxes[:, 2] + turns).max() - (boxes[:, 0] + turns).min()
    return turns if across < near else np.zeros(len(boxes))


def _read_mosaic(paths: Sequence[Path]) -> tuple[npt.NDArray[np.float32], Bounds, str]:
    """Rasters side by side, thinned, their bounds, and their CRS as WKT."""
    rasters = [str(path) for path in paths if gdal.IdentifyDriverEx(str(path), allowed_drivers=["GTiff", "VRT"])]
    boxes = np.array([_bounds(raster) for raster in rasters])
    with gdal.Open(rasters[0]) as first:
        crs = first.GetProjection()
    turns = _turns(boxes) if is_in(crs, WGS84) else np.zeros(len(boxes))
    boxes[:, [0, 2]] += turns[:, None]
    with _moved(rasters, boxes, turns) as moved, gdal.BuildVRT("", moved) as mosaic:
        return read_thinned(mosaic, _SIDE), _around(boxes), crs


def _bounds(raster: str) -> Bounds:
    with gdal.Open(raster) as dataset:
        left, dx, _, top, _, dy = dataset.GetGeoTransform()
        return left, top + dy * dataset.RasterYSize, left + dx * dataset.RasterXSize, top


@contextmanager
def _moved(
    rasters: Sequence[str], boxes: npt.NDArray[np.floating[Any]], turns: npt.NDArray[np.floating[Any]]
) -> Iterator[list[str]]:
    """``rasters``; of those that are turned, VRTs that place them at ``boxes`` while the block runs."""
    folder = f"/vsimem/{uuid4()}"
    moved = list(rasters)
    for number in np.flatnonzero(turns).tolist():
        west, south, east, north = boxes[number].tolist()
        moved[number] = f"{folder}/{number}.vrt"
        gdal.Translate(moved[number], rasters[number], format="VRT", outputBounds=(west, north, east, south)).Close()
    try:
        yield moved
    finally:
        if turns.any():
            gdal.RmdirRecursive(folder)


def _png(figure: Figure) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png", bbox_inches="tight", pad_inches=0.05)  # labels stick out
    return written.getvalue()
