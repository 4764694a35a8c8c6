"""Other people's programs on the same products: their environment, their input, and whether they agree."""

from __future__ import annotations

import json
import subprocess
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from benchmarks.cases import WORK, Case
from s2sr_core.geo import geometry
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import Window
from s2sr_core.parameters import RunParameters
from s2sr_core.pixels.rules import COMPOSITE_NODATA
from s2sr_core.products.bands import SCL
from s2sr_core.products.safe import band_files, read_product
from s2sr_core.workspace import Workspace

REQUIREMENTS = Path(__file__).with_name("peers-requirements.txt")
_ENVIRONMENT = WORK / "peers"


def environment() -> Path:
    """The Python with the other programs; its environment is made from PyPI if it is missing or out of date."""
    python, mark = _ENVIRONMENT / "bin" / "python", _ENVIRONMENT / "requirements.txt"
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if not (mark.exists() and mark.read_text(encoding="utf-8") == wanted):
        venv.create(_ENVIRONMENT, clear=True, with_pip=True)
        command = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            str(REQUIREMENTS),
        ]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        mark.write_text(wanted, encoding="utf-8")
    return python


def window_of(case: Case, parameters: RunParameters) -> Window:
    """The pixels of all cells together, which fill their box."""
    return parameters.lattice.owned(case.box)


def write_task(case: Case, bands: Sequence[str], target: Path) -> Path:
    """Write what :mod:`benchmarks.peer_run` needs to composite ``bands`` over all cells of ``case``."""
    parameters = case.parameters(target.parent)
    window = window_of(case, parameters)
    west, dx, _, north, _, dy = parameters.lattice.geotransform(window)
    products = [read_product(path) for path in sorted(case.source.glob("*.SAFE"))]
    items = []
    for product in products:
        files = band_files(product, (*bands, SCL))
        paths = {key: file.path for key, file in files.found.items()}
        with gdal.Open(str(paths[SCL])) as dataset:
            grid = (dataset.GetGeoTransform(), (dataset.RasterYSize, dataset.RasterXSize), dataset.GetSpatialRef())
        items.append(_item(str(product.name), product.name.sensing_time.isoformat(), paths, *grid))
    task = {
        "items": items,
        "bands": list(bands),
        "offsets": [product.offset(bands[0]).dn for product in products],
        "masked": parameters.scl_mask,
        "raster": {"shape": window.shape, "transform": (dx, 0.0, west, 0.0, dy, north)},
    }
    target.write_text(json.dumps(task), encoding="utf-8")
    return target


def _item(
    name: str, time: str, paths: Mapping[str, Path], transform: Sequence[float], shape: Sequence[int], crs: Any
) -> dict[str, Any]:
    """A STAC item with the projection and raster extensions, by which both programs plan without opening files."""
    outline = geometry.of_raster(crs.ExportToWkt(), tuple(transform), (shape[0], shape[1]))  # type: ignore[arg-type]
    assets = {
        key: {
            "href": str(path),
            "type": "image/jp2",
            "roles": ["data"],
            "raster:bands": [{"nodata": 0, "data_type": "uint8" if key == SCL else "uint16", "spatial_resolution": 20}],
        }
        for key, path in paths.items()
    }
    x0, dx, rx, y0, ry, dy = transform
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
            "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
        ],
        "id": name,
        "geometry": shapely.geometry.mapping(outline),
        "bbox": list(outline.bounds),
        "properties": {
            "datetime": time,
            "proj:epsg": int(crs.GetAuthorityCode(None)),
            "proj:shape": list(shape),
            "proj:transform": [dx, rx, x0, ry, dy, y0, 0, 0, 1],
        },
        "links": [],
        "assets": assets,
    }


def agreement(case: Case, bands: Sequence[str], theirs: Path, ours: Path) -> dict[str, float]:
    """How far their medians (a folder of .npy) are from ours (a work_dir), over the cells that we have composited.

    ``median_difference``: DN, of the absolute differences. ``both_valid``: share of the pixels valid in one that are
    valid in both; SCL warped by the nearest pixel masks slightly different pixels than SCL applied before warping.
    """
    parameters, workspace = case.parameters(ours), Workspace(ours)
    outer = window_of(case, parameters)
    differences: list[NDArray[np.float32]] = []
    both = either = 0
    for cell in case.cells:
        window = parameters.lattice.owned(cell.bounds)
        column, row = window.offset_in(outer)
        for band in bands:
            path = workspace.composite(cell.cell_id, band)
            if not path.exists():
                continue
            mine = gdal.Open(str(path)).ReadAsArray()
            other = np.load(theirs / f"{band}.npy", mmap_mode="r")
            their = np.asarray(other[row : row + window.height, column : column + window.width])
            valid = (mine != COMPOSITE_NODATA) & np.isfinite(their)
            both += int(np.count_nonzero(valid))
            either += int(np.count_nonzero((mine != COMPOSITE_NODATA) | np.isfinite(their)))
            differences.append(np.abs(mine[valid] - their[valid]))
    return {"median_difference": float(np.median(np.concatenate(differences))), "both_valid": both / max(either, 1)}
