"""A Sentinel-2 L2A product on disk: its .SAFE folder, and which of its files can be used.

Everything read here is foreign input: XML goes through defusedxml, a path in it that leaves the product's folder is
refused, and the files named are looked at before anybody relies on them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shapely import MultiPolygon, Polygon

from s2sr_core.errors import ProductError, Step
from s2sr_core.products.manifest import MANIFEST, ListedFile, read_safe_footprint, read_safe_manifest, role_of
from s2sr_core.products.metadata import Offset, offsets_of, read_metadata
from s2sr_core.products.names import ProductName

_BLOCK = 1 << 20

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Product:
    """What the product's own files say of it; no pixel has been read.

    Attributes
    ----------
    name: the product's name, taken apart.
    path: its folder.
    offsets: one for each band of :data:`s2sr_core.products.bands.BANDS`.
    cloud_cover: percent of the granule, None if the metadata does not say.
    footprint: outline of its valid data (EPSG:4326), None if no file gives one.
    notes: what is odd but not wrong, for the scene index.
    """

    name: ProductName
    path: Path
    offsets: tuple[Offset, ...]
    cloud_cover: float | None
    footprint: Polygon | MultiPolygon | None
    notes: tuple[str, ...]

    def offset(self, band: str) -> Offset:
        return next(offset for offset in self.offsets if offset.band == band)


@dataclass(frozen=True, slots=True)
class BandFile:
    """One image of a product.

    Attributes
    ----------
    band: ``B04``, or ``SCL``.
    path: of the file.
    size: in bytes, as found on disk.
    checksum: ``md5:…`` or ``sha3-256:…`` as the manifest says, ``sha256:…`` of its bytes if there is no manifest.
    """

    band: str
    path: Path
    size: int
    checksum: str


@dataclass(frozen=True, slots=True)
class BandFiles:
    """Images of a product that were asked for, by band: those that can be used, and what is wrong with the others."""

    found: Mapping[str, BandFile]
    errors: Mapping[str, ProductError]

    def __getitem__(self, band: str) -> BandFile:
        """The image of ``band``.

        Raises
        ------
        ProductError
            If it cannot be used.
        """
        if band in self.errors:
            raise self.errors[band]
        return self.found[band]


def safe_folders(folder: Path) -> Iterator[Path]:
    """All ``*.SAFE`` folders below ``folder`` (or itself), in sorted order; symbolic links are followed once.

    A folder that cannot be searched is left out, with a line in the log.
    """
    if folder.name.endswith(".SAFE"):
        yield folder
        return
    seen: set[str] = set()
    for here, folders, _ in os.walk(folder, onerror=_log_unsearched, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(here, name) for name in sorted(folders) if name.endswith(".SAFE"))
        folders[:] = sorted(name for name in folders if not name.endswith(".SAFE"))


def _log_unsearched(error: OSError) -> None:
    _logger.warning("%s cannot be searched for products: %s", error.filename, error.strerror)


def read_product(path: Path) -> Product:
    """Read name, metadata and manifest of the product in ``path``.

    Raises
    ------
    ProductError
        If the name is not an L2A product's, the XML is not XML, or nothing tells the radiometric offset.
    OSError
        If the folder cannot be read.
    """
    name = ProductName.parse(path.name)
    metadata = read_metadata(name, path)
    manifest = path / MANIFEST
    footprint = read_safe_footprint(name, manifest) if manifest.exists() else None
    offsets, notes = offsets_of(name, metadata)
    return Product(
        name=name,
        path=path,
        offsets=offsets,
        cloud_cover=None if metadata is None else metadata.cloud_cover,
        footprint=metadata.footprint if footprint is None and metadata is not None else footprint,
        notes=notes,
    )


def band_files(product: Product, bands: Sequence[str], *, hashed: bool = True, there: bool = True) -> BandFiles:
    """The images of ``bands`` (``SCL`` may be one) that are there whole, and an error for each of the others.

    Without ``hashed`` no file is read: one that no manifest lists has no checksum. Without ``there`` no file is looked
    for: each is as the manifest lists it.
    """
    manifest = product.path / MANIFEST
    try:
        listed = read_safe_manifest(product.name, manifest) if manifest.exists() else _images_on_disk(product)
    except ProductError as error:
        return BandFiles({}, dict.fromkeys(bands, error))
    found, errors = {}, {}
    for band in bands:
        try:
            found[band] = _band_file(product, band, [file for file in listed if file.role == band], hashed, there)
        except ProductError as error:
            errors[band] = error
    return BandFiles(found, errors)


def _images_on_disk(product: Product) -> list[ListedFile]:
    paths = sorted(product.path.glob("GRANULE/*/IMG_DATA/R20m/*"))
    hrefs = (str(path.relative_to(product.path)) for path in paths)
    return [ListedFile(role, href) for href in hrefs if (role := role_of(href)) is not None]


def _band_file(product: Product, band: str, listed: list[ListedFile], hashed: bool, there: bool) -> BandFile:
    def fail(reason: str) -> ProductError:
        return ProductError(str(product.name), reason, step=Step.FILES, band=band)

    if not listed:
        raise fail("the product lists no 20 m image of this band")
    if len(listed) > 1:
        raise fail(f"the product lists {len(listed)} images of this band; products of one granule are supported")
    image = listed[0]
    path = product.path / image.href
    if not there:
        return BandFile(band, path, image.size or 0, image.checksum)
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise fail(f"{path.name} is missing") from error
    except OSError as error:
        raise fail(f"{path.name} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise fail(f"{path.name} is not a file")
    size = status.st_size
    if image.size is not None and size != image.size:
        raise fail(f"{path.name} has {size} bytes, the manifest says {image.size}: truncated or changed")
    try:
        checksum = image.checksum or (_sha256(path) if hashed else "")
    except OSError as error:
        raise fail(f"{path.name} cannot be read: {error.strerror}") from error
    return BandFile(band, path, size, checksum)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"
