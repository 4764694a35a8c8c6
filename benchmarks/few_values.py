"""How far composites of few values are from that of all: the table in docs/concepts.md.

``python -m benchmarks.few_values DIR``: DIR holds GeoTIFFs of one place, one per date, as scenes of Sentinel-2 L2A of
20 m: bands described B02, B03, B04, B08 and SCL, DN with an offset of −1000. Pixels are harmonised and masked as the
program does by default, and not resampled. At the pixels at which three dates or more are valid, the median of each
choice of one, two … of the valid values is compared with the median of all of them.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.parameters import RunParameters
from s2sr_core.pixels.rules import SCENE_NODATA, harmonised

BANDS = ("B08", "B04", "B03", "B02")
LIMITS = (500, 200, 100)
#: Dates that must be valid at a pixel.
LEAST = 3
_OFFSET = -1000

Floats = npt.NDArray[np.float64]


def read_dates(rasters: list[Path]) -> dict[str, Floats]:
    """DN of each band (date, row, column) on the grid of the last raster, by nearest pixels; NaN if not valid.

    One of the chips of Exeter names the British National Grid but was written without the shift of its datum: read as
    what it says, it lies 100 m from the others. On the grid of the last, whose datum is unnamed, nothing is shifted.
    """
    last = gdal.Open(str(rasters[-1]))
    west, dx, _, north, _, dy = last.GetGeoTransform()
    bounds = (west, north + dy * last.RasterYSize, west + dx * last.RasterXSize, north)
    mask = RunParameters.model_fields["scl_mask"].get_default(call_default_factory=True)
    dates: dict[str, list[Floats]] = {band: [] for band in BANDS}
    for path in rasters:
        raster = gdal.Open(str(path))
        names = [raster.GetRasterBand(index).GetDescription() for index in range(1, raster.RasterCount + 1)]
        options = {"dstSRS": last.GetProjection(), "outputBounds": bounds, "xRes": dx, "yRes": -dy}
        here = gdal.Warp("", raster, format="MEM", resampleAlg="near", **options).ReadAsArray()
        layers = dict(zip(names, here, strict=True))
        for band, stack in dates.items():
            dn = harmonised(layers[band], np.isin(layers["SCL"], mask), _OFFSET)
            stack.append(np.where(dn == SCENE_NODATA, np.nan, dn.astype(np.float64)))
    return {band: np.stack(stack) for band, stack in dates.items()}


def differences(dates: Floats) -> dict[int, Floats]:
    """How far medians of 1, 2 … valid values are from that of all, DN; ``dates`` as of :func:`read_dates`.

    Each choice of valid values of a pixel counts once; one that has all of them does not.
    """
    count = np.isfinite(dates).sum(axis=0)
    dates, count = dates[:, count >= LEAST], count[count >= LEAST]
    valid, expected = np.isfinite(dates), np.nanmedian(dates, axis=0)
    off = {}
    for size in range(1, len(dates)):
        found = []
        for chosen in map(list, itertools.combinations(range(len(dates)), size)):
            here = valid[chosen].all(axis=0) & (count > size)
            found.append(np.abs(np.median(dates[chosen][:, here], axis=0) - expected[here]))
        off[size] = np.concatenate(found)
    return off


def table(folder: Path) -> tuple[int, dict[str, dict[int, list[float]]]]:
    """Pixels that were compared; shares off by more than each of ``LIMITS``, by band and number of values."""
    dates = read_dates(sorted(folder.glob("*.tif")))
    shares = {
        band: {size: [float(np.mean(off > limit)) for limit in LIMITS] for size, off in differences(stack).items()}
        for band, stack in dates.items()
    }
    return int((np.isfinite(dates["B04"]).sum(axis=0) >= LEAST).sum()), shares


def main() -> None:
    """Print the table."""
    pixels, shares = table(Path(sys.argv[1]))
    print(f"{pixels} pixels at which {LEAST} dates or more are valid")
    for band, counts in shares.items():
        for count, found in counts.items():
            words = "  ".join(f"> {limit}: {share:6.1%}" for limit, share in zip(LIMITS, found, strict=True))
            print(f"{band}  {count} values  {words}")


if __name__ == "__main__":
    main()
