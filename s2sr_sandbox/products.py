"""A maker of Sentinel-2 L2A products: .SAFE folders as CDSE has them, 20 m bands and SCL, from a known truth.

Arguments can be combined. The same landscape and sky under a name with another baseline and discriminator make a
reprocessed duplicate; two discriminators with complementary swaths, a split pair; two discriminators alone, twins.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from s2sr_core.products.baselines import lists_tiles
from s2sr_core.products.names import ProductName
from s2sr_sandbox.granule import Granule, scan_start
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.jp2 import MAX_DN, write_jp2
from s2sr_sandbox.landscape import Ground, Landscape
from s2sr_sandbox.manifest import manifest
from s2sr_sandbox.metadata import Metadata, product_xml, tile_xml
from s2sr_sandbox.noise import Floats
from s2sr_sandbox.sky import Sky
from s2sr_sandbox.swath import WHOLE, Swath, footprint

#: The 20 m bands that S2SR composites.
BANDS_20M = ("B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12")

_BY_BASELINE = Metadata()


def make_product(
    folder: Path,
    name: ProductName,
    grid: Grid,
    landscape: Landscape,
    sky: Sky | None = None,
    *,
    bands: Sequence[str] = BANDS_20M,
    bands_10m: Sequence[str] = (),
    swath: Swath = WHOLE,
    metadata: Metadata = _BY_BASELINE,
    dark_noise: int = 40,
) -> Path:
    """Render ``landscape`` under ``sky`` (None: nothing covers it) as the product ``name``; returns the .SAFE folder.

    See ``render`` for the pixels and ``write_product`` for the files. Images of 10 m are made of ``bands_10m``.
    """
    offset = metadata.offset_of(name)
    arrays, scl = render(name, grid, landscape, sky, bands=bands, swath=swath, offset=offset, dark_noise=dark_noise)
    fine: dict[str, NDArray[np.uint16]] = {}
    if bands_10m:
        finer = grid.refined(2)
        fine, _ = render(
            name, finer, landscape, sky, bands=bands_10m, swath=swath, offset=offset, dark_noise=dark_noise
        )
    return write_product(folder, name, grid, arrays, scl, arrays_10m=fine, swath=swath, metadata=metadata)


def render(
    name: ProductName,
    grid: Grid,
    landscape: Landscape,
    sky: Sky | None = None,
    *,
    bands: Sequence[str] = BANDS_20M,
    swath: Swath = WHOLE,
    offset: int = 0,
    dark_noise: int = 40,
) -> tuple[dict[str, NDArray[np.uint16]], NDArray[np.uint8]]:
    """The DN of each band and the SCL of a product, each of shape ``grid.shape``.

    DN = round(10000 · reflectance) − offset, at least 1; 0 (nodata) outside the swath, whose edge differs by band.
    Where SCL is 4, 5 or 6 the reflectance is the landscape's: exactly if the sky has neither haze nor a track,
    otherwise as ``Cover.reflectance`` says. Products of the same truth have the same harmonised DN,
    max(DN + offset, 0), in every pixel whose true DN is 1 or more, whatever the arguments below.

    Parameters
    ----------
    offset:
        BOA_ADD_OFFSET, what a reader adds to the DN: −1000 or 0 in real products.
    dark_noise:
        By up to how many DN the atmospheric correction subtracts too much where the true DN is 0: the reflectance is
        negative there. It shows in products with an offset; in the others the DN is 1.
    """
    arrays = {band: np.zeros(grid.shape, dtype=np.uint16) for band in bands}
    scl = np.zeros(grid.shape, dtype=np.uint8)
    random = {band: _noise_of(name, band) for band in bands}
    for rows in grid.blocks():
        lon, lat, ground = _truth(landscape, grid, rows.start, rows.stop)
        cover = sky.cover(lon, lat, ground.shelter) if sky is not None else None
        classes = ground.classes() if cover is None else cover.classes(ground.classes())
        scl[rows] = classes * swath.seen(grid, rows)
        for band, array in arrays.items():
            reflectance = ground.reflectance(band)
            if cover is not None:
                reflectance = cover.reflectance(band, reflectance)
            numbers = _digital_numbers(reflectance, offset, dark_noise, random[band])
            array[rows] = numbers * swath.seen(grid, rows, band)
    return arrays, scl


def write_product(
    folder: Path,
    name: ProductName,
    grid: Grid,
    arrays: Mapping[str, NDArray[np.uint16]],
    scl: NDArray[np.uint8],
    *,
    arrays_10m: Mapping[str, NDArray[np.uint16]] | None = None,
    swath: Swath = WHOLE,
    metadata: Metadata = _BY_BASELINE,
) -> Path:
    """Write given pixels as the product ``name`` in ``folder``; returns the .SAFE folder.

    The folder gets its name when it is complete, and replaces one of that name. The same input makes the same bytes.

    Parameters
    ----------
    arrays:
        DN of each band as they are to be in the file (offset included, nodata 0, at most 32767), shape ``grid.shape``.
    scl:
        Scene classification, shape ``grid.shape``.
    arrays_10m:
        DN of each band as in ``arrays``, twice as many rows and columns; None: the product has no images of 10 m.
    swath:
        The part of the grid that the footprint encloses; it masks nothing here.

    Raises
    ------
    ValueError
        If an array does not fit the grid or its type, or the swath sees nothing.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fine = arrays_10m or {}
    counts = tuple(np.bincount(scl.ravel(), minlength=256).tolist())
    granule = Granule(
        name, grid, tuple(arrays), scan_start(name, swath.along[0]), footprint(grid, swath), counts, tuple(fine)
    )
    with TemporaryDirectory(prefix=f".{name}.", dir=folder) as temporary:
        product = Path(temporary, name.folder)
        (product / granule.image("SCL")).parent.mkdir(parents=True)
        listed = lists_tiles(name.baseline)
        for band, array in arrays.items():
            write_jp2(product / granule.image(band), array, grid, bits=15, lists_tiles=listed)
        for band, array in fine.items():
            image = product / granule.image(band, 10)
            image.parent.mkdir(exist_ok=True)
            write_jp2(image, array, grid.refined(2), bits=15, tile=1024, lists_tiles=listed)
        write_jp2(product / granule.image("SCL"), scl, grid, bits=8, lists_tiles=listed)
        (product / granule.folder / "MTD_TL.xml").write_bytes(tile_xml(granule))
        if metadata.product_xml:
            (product / "MTD_MSIL2A.xml").write_bytes(product_xml(granule, metadata))
        (product / "manifest.safe").write_bytes(manifest(product, granule, metadata.checksum_of(name)))
        target = folder / name.folder
        if target.exists():
            shutil.rmtree(target)
        product.rename(target)
    return target


@lru_cache(maxsize=1 << 4)  # a million pixels: all of a small granule, whose next product needs them again
def _truth(landscape: Landscape, grid: Grid, start: int, stop: int) -> tuple[Floats, Floats, Ground]:
    """Longitude, latitude and ground of some rows."""
    lon, lat = grid.centres(slice(start, stop))
    return lon, lat, landscape.ground(lon, lat)


def _digital_numbers(
    reflectance: Floats, offset: int, dark_noise: int, random: np.random.Generator
) -> NDArray[np.uint16]:
    numbers = np.rint(10_000 * reflectance)
    dark = numbers < 1
    numbers[dark] -= random.integers(0, dark_noise, np.count_nonzero(dark), endpoint=True)
    clipped: Floats = np.clip(numbers - offset, 1, MAX_DN)
    return clipped.astype(np.uint16)


def _noise_of(name: ProductName, band: str) -> np.random.Generator:
    """The noise of one observation, which twins and reprocessed products share."""
    return np.random.default_rng(zlib.crc32(f"{name.mission} {name.sensing_time} {name.tile} {band}".encode()))
