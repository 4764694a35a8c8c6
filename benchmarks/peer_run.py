"""A median composite by odc-stac or by stackstac, metered. Runs in its own environment, without this project.

``python -m benchmarks.peer_run TASK.json PEER --chunk N --threads N --out FOLDER``, where the task is what
:func:`benchmarks.peers.write_task` wrote: STAC items, bands, offsets, masked classes and one raster over all cells.
All cells are loaded together. Bands are warped bilinearly and SCL by the nearest pixel, as both programs do; then SCL
masks, the offset is applied, and xarray computes the median over time. The last line of the output is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from benchmarks.meter import metered, report


def main() -> int:
    """Run one program once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", type=Path)
    parser.add_argument("peer", choices=("odc-stac", "stackstac"))
    parser.add_argument("--chunk", type=int, required=True, help="rows and columns of a chunk; 0: all in one")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--median", choices=("xarray", "bottleneck"), default="bottleneck")
    parser.add_argument("--out", type=Path, required=True, help="folder for the medians, as .npy")
    given = parser.parse_args()
    task = json.loads(given.task.read_text(encoding="utf-8"))
    os.environ["GDAL_NUM_THREADS"] = str(given.threads)
    os.environ["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"

    import dask
    import numpy as np
    import pystac

    load = {"odc-stac": _odc_stac, "stackstac": _stackstac}[given.peer]
    load(None, None, 0)  # imports, before the clock starts
    items = [pystac.Item.from_dict(item) for item in task["items"]]
    scheduler = "synchronous" if given.threads == 1 else "threads"
    with dask.config.set(scheduler=scheduler, num_workers=given.threads), metered() as used:
        bands, scl = load(task, items, given.chunk)
        with metered() as once:  # whatever the number of bands
            clear = (~scl.isin(task["masked"])).compute()
        offsets = bands.time.copy(data=np.array(task["offsets"], np.float32))
        values = (bands.astype(np.float32) + offsets).clip(min=0).where(clear & (bands != 0)).chunk(time=-1)
        medians = _median(values, given.median).compute()
    given.out.mkdir(parents=True, exist_ok=True)
    for band in task["bands"]:
        np.save(given.out / f"{band}.npy", np.asarray(medians.sel(band=band).data, np.float32))
    report({**used, "cpu_once": once["cpu"], "chunk": given.chunk, "threads": given.threads, "median": given.median})
    return 0


def _median(values: Any, how: str) -> Any:
    """Over time, of what is not NaN: as xarray does it, or block by block in bottleneck's compiled code."""
    if how == "xarray":
        return values.median("time", skipna=True)
    import bottleneck
    import xarray

    return xarray.apply_ufunc(
        lambda block: bottleneck.nanmedian(block, axis=-1),
        values,
        input_core_dims=[["time"]],
        dask="parallelized",
        output_dtypes=[values.dtype],
    )


def _odc_stac(task: Any, items: Any, chunk: int) -> Any:
    from affine import Affine
    from odc.geo.geobox import GeoBox
    from odc.stac import load

    if task is None:
        return None
    raster = task["raster"]
    geobox = GeoBox(raster["shape"], Affine(*raster["transform"]), "EPSG:4326")
    chunks: Any = {"time": 1, **dict(zip(("latitude", "longitude"), _sides(raster["shape"], chunk), strict=True))}
    loaded = load(
        items,
        bands=[*task["bands"], "SCL"],
        geobox=geobox,
        chunks=chunks,
        resampling={"*": "bilinear", "SCL": "nearest"},
        groupby=None,
    )
    return loaded[task["bands"]].to_array("band"), loaded["SCL"]


def _stackstac(task: Any, items: Any, chunk: int) -> Any:
    import numpy as np
    import stackstac
    from rasterio.enums import Resampling

    if task is None:
        return None
    raster = task["raster"]
    rows, columns = raster["shape"]
    dx, _, west, _, dy, north = raster["transform"]
    options = {
        "epsg": 4326,
        "resolution": (dx, -dy),
        "bounds": (west, north + rows * dy, west + columns * dx, north),
        "snap_bounds": False,
        "chunksize": (1, 1, *_sides(raster["shape"], chunk)),
        "rescale": False,
        "xy_coords": "center",
        "sortby_date": False,
    }
    bands = stackstac.stack(
        items, assets=task["bands"], dtype=np.dtype("uint16"), fill_value=np.uint16(0), resampling=Resampling.bilinear,
        **options,
    )  # fmt: skip
    scl = stackstac.stack(
        items, assets=["SCL"], dtype=np.dtype("uint8"), fill_value=np.uint8(0), resampling=Resampling.nearest, **options
    )
    return bands, scl.isel(band=0, drop=True)


def _sides(shape: tuple[int, int], chunk: int) -> tuple[int, int]:
    return (chunk, chunk) if chunk else (shape[0], shape[1])


if __name__ == "__main__":
    raise SystemExit(main())
