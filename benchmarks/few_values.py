"""How far composites of few values are from that of all: the table in docs/concepts.md.

``python -m benchmarks.few_values DIR``: DIR holds GeoTIFFs of one place, one per date, as scenes of Sentinel-2 L2A:
bands described B02, B03, B04 (DN, baseline 04.00 or later) and SCL, named ``…YYYY-MM-DD_HH-MM-SS…``. The program makes
a composite of each date alone, whose pixels are that date's valid values on the lattice, and one of all dates. At
the pixels at which three dates or more are valid, the medians of all subsets of the dates are compared with the median
of all dates, by the number of valid values in the subset.
"""

from __future__ import annotations

import itertools
import re
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import shapely
from osgeo import gdal
from shapely.geometry.base import BaseGeometry

from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import composite_cell
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.products.names import ProductName
from s2sr_core.run_context import RunContext
from s2sr_core.selection.judge import find_products
from s2sr_core.selection.line import Line
from s2sr_core.selection.observations import observations_of, stand
from s2sr_core.sources import source_of
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.products import write_product

BANDS = ("B02", "B03", "B04")
LIMITS = (100, 200, 500)
#: Dates that must be valid at a pixel.
LEAST = 3


def write_products(rasters: list[Path], folder: Path) -> list[ProductName]:
    """The GeoTIFFs as products."""
    names = []
    for number, path in enumerate(rasters):
        raster = gdal.Open(str(path))
        bands = [raster.GetRasterBand(index).GetDescription() for index in range(1, raster.RasterCount + 1)]
        layers = dict(zip(bands, raster.ReadAsArray(), strict=True))
        found = re.search(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", path.name)
        assert found is not None
        sensed = datetime.strptime(found[0], "%Y-%m-%d_%H-%M-%S").replace(tzinfo=UTC)
        name = ProductName("S2A", sensed, "05.10", 37, "30UVB", sensed + timedelta(hours=5))
        crs = raster.GetSpatialRef().ExportToWkt()
        grid = Grid(crs, raster.GetGeoTransform(), (raster.RasterYSize, raster.RasterXSize))
        dn = {band: layers[band].astype(np.uint16) for band in BANDS}
        write_product(folder / str(number), name, grid, dn, layers["SCL"].astype(np.uint8))
        names.append(name)
    return names


def median_of(source: Path, cell: Gridcell, work_dir: Path) -> dict[str, np.ndarray]:
    """The medians of a run of the program, by band; NaN where there is none."""
    csv = work_dir.with_suffix(".csv")
    write_gridcells([cell], csv)
    parameters = RunParameters(
        bbox=cell.bounds,
        grid_csv=csv,
        start="1970-01-01",
        end="2100-01-01",
        source=source,
        work_dir=work_dir,
        bands=list(BANDS),
        tap=True,
    )
    context, cells = RunContext(parameters), choose_gridcells(parameters)
    scenes = []
    for observation in observations_of(find_products(source_of(parameters), parameters, cells), keep_duplicates=False):
        line = Line(observation, fetches=False)
        line.prepared(stand(context, line.contenders(bands=True), cells))
        scenes += [result.preparation.scene for result in line.results() if result.preparation]
    outcomes = composite_cell(context, cell, list(BANDS), [scene for scene in scenes if scene])
    found = {}
    for outcome in outcomes:
        values = gdal.Open(str(outcome.path)).ReadAsArray()
        found[outcome.band] = np.where(values == -9999, np.nan, values)
    return found


def common_box(rasters: list[Path]) -> shapely.Polygon:
    """Most of what all rasters show, degrees."""
    area: BaseGeometry = shapely.box(-180, -90, 180, 90)
    for path in rasters:
        corners = gdal.Info(gdal.Open(str(path)), format="json")["wgs84Extent"]["coordinates"][0]
        area = area.intersection(shapely.Polygon(corners))
    west, south, east, north = area.bounds
    inset_x, inset_y = (east - west) * 0.05, (north - south) * 0.05
    box: shapely.Polygon = shapely.box(west + inset_x, south + inset_y, east - inset_x, north - inset_y)
    return box


def main() -> None:
    """Print the table."""
    rasters = sorted(Path(sys.argv[1]).glob("*.tif"))
    cell = Gridcell("cell", common_box(rasters))
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "archive")
        write_products(rasters, archive)
        dates = [
            median_of(archive / str(number), cell, Path(folder, f"date{number}")) for number in range(len(rasters))
        ]
        whole = median_of(archive, cell, Path(folder, "whole"))
    for band in BANDS:
        stack = np.stack([each[band] for each in dates])
        valid = np.isfinite(stack)
        enough = valid.sum(axis=0) >= LEAST
        stack, valid, expected = stack[:, enough], valid[:, enough], whole[band][enough]
        assert np.array_equal(np.nanmedian(stack, axis=0), expected)
        print(f"{band}: {enough.sum()} pixels at which {LEAST} dates or more of {len(stack)} are valid")
        off: dict[int, list[np.ndarray]] = {}
        for size in range(1, len(stack)):
            for dates_used in itertools.combinations(range(len(stack)), size):
                some = list(dates_used)
                counts = valid[some].sum(axis=0)
                for count in range(1, size + 1):
                    here = (counts == count) & (counts < valid.sum(axis=0))
                    medians = np.nanmedian(stack[some][:, here], axis=0)
                    off.setdefault(count, []).append(np.abs(medians - expected[here]))
        for count, differences in sorted(off.items()):
            found = np.concatenate(differences)
            shares = "  ".join(f"> {limit}: {np.mean(found > limit):6.1%}" for limit in LIMITS)
            print(f"  {count} values  {shares}  median {np.median(found):.1f}")


if __name__ == "__main__":
    main()
