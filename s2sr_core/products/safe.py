"""A Sentinel-2 L2A product on disk: its .SAFE folder, and which of its files can be used.

Everything read here is foreign input: XML goes through defusedxml, a path in it that leaves the product's folder is
refused, and the files named are looked at before anybody relies on them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path

from shapely import MultiPolygon, Polygon

from s2sr_core.errors import ProductError, Step
from s2sr_core.files import is_utf8
from s2sr_core.products.bands import RESOLUTION, SCL, bands_at, role_at
from s2sr_core.products.manifest import MANIFEST, ListedFile, read_safe_footprint, read_safe_manifest, role_of
from s2sr_core.products.metadata import Offset, offsets_of, read_metadata
from s2sr_core.products.names import ProductName, is_zarr, looks_like_product, product_named_in, without_suffix
from s2sr_core.products.partial_images import PartialImage, tiles_path

_BLOCK = 1 << 20
#: Suffixes of files that hold a whole product, or a part of it: one volume, or what an interrupted download left.
_PACKED = re.compile(
    r"(?:\.(?:zipx?|7z|rar|tar|tgz|taz|tbz2?|txz|tlz|tzst|gz|bz2|xz|lzma|lz|lz4|lzo|zst|zstd|br|z|cpio|pax|iso"
    r"|squashfs|sqfs|sqsh|cab|arj|lzh|lha|ace|zpaq))*"
    r"(?P<part>\.(?:(?:part)?\d{1,4}(?:\.rar)?|r\d\d|z\d\d|part|partial|filepart|crdownload|download|opdownload"
    r"|incomplete|aria2|!qb|tmp|temp))?$",
    re.IGNORECASE,
)
#: What lies in the top folder of a product, in small letters; one of them is enough.
_TOP = frozenset({"granule", "manifest.safe", "mtd_msil2a.xml", "mtd_msil1c.xml"})
_DEEPEST_NESTING = 4

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Product:
    """What the product's own files say of it; no pixel has been read.

    Attributes
    ----------
    name: the product's name, taken apart.
    path: its folder.
    offsets: one for each band of :data:`s2sr_core.products.bands.BANDS`, and of B08 if it is known.
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
        """That of a band.

        Raises
        ------
        ProductError
            If nothing tells it.
        """
        found = next((offset for offset in self.offsets if offset.band == band), None)
        if found is None:
            reason = "neither the baseline nor MTD_MSIL2A.xml gives the offset of this band"
            raise ProductError(str(self.name), reason, step=Step.METADATA, band=band)
        return found


@dataclass(frozen=True, slots=True)
class BandFile:
    """One image of a product.

    Attributes
    ----------
    band: ``B04``, or ``SCL``.
    path: of the file.
    size: in bytes, as found on disk.
    checksum: ``md5:…`` or ``sha3-256:…`` as the manifest says, ``sha256:…`` of its bytes if there is no manifest.
    note: what is odd but not wrong; may be empty.
    resolution: metres per pixel, as its name says.
    is_partial: whether ``path`` holds some tiles of it alone (:mod:`s2sr_core.products.partial_images`), which the
        checksum does not vouch for.
    """

    band: str
    path: Path
    size: int
    checksum: str
    note: str = ""
    resolution: int = RESOLUTION
    is_partial: bool = False

    @property
    def is_listed(self) -> bool:
        """Whether the checksum is the manifest's, and not just that of the bytes that are there."""
        return not self.checksum.startswith("sha256:")


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


def title_of(path: Path) -> str:
    """The name of what lies at ``path``, without ``.SAFE`` and, of a file, without the suffixes of packed formats.

    That is ``X`` for ``X.zip`` and ``X.SAFE.zip.part``.
    """
    unpacked = _PACKED.sub("", path.name)
    return without_suffix(unpacked if unpacked != path.name and not path.is_dir() else path.name)


def product_paths(folder: Path, others: Callable[[Path], object] = lambda _: None) -> Iterator[Path]:
    """All products below ``folder`` (or itself), in sorted order; symbolic links are followed once.

    These are folders named ``*.SAFE``, or like a product with ``.safe``; other folders that hold a product, by their
    name or by what lies in them; and files named like a product, which are packed ones and cannot be read in place.
    Not all of them can be used. A folder that cannot be searched is left out, with a line in the log. ``others`` is
    called with what is named after a product, and is none.
    """
    if _is_product_folder(folder):
        yield folder
        return
    seen: set[tuple[int, int]] = set()
    for here, folders, files in os.walk(folder, onerror=_log_unsearched, followlinks=True):
        try:
            status = os.stat(here)  # noqa: PTH116  # as os.walk names it
        except OSError as error:
            _log_unsearched(error)
            folders.clear()
            continue
        if (inode := (status.st_dev, status.st_ino)) in seen:
            folders.clear()
            continue
        seen.add(inode)
        if _is_l2a({name.lower() for name in (*folders, *files)}):
            yield Path(here)
            folders.clear()
            continue
        products = {name for name in folders if _is_product_folder(Path(here, name))}
        yield from (Path(here, name) for name in sorted(products))
        for name in sorted(file for file in files if product_named_in(file)):
            if _is_product_file(name):
                yield Path(here, name)
            else:
                others(Path(here, name))
        for name in sorted(name for name in folders if name not in products and product_named_in(name)):
            others(Path(here, name))
        folders[:] = sorted(name for name in folders if name not in products)


def _is_product_folder(path: Path) -> bool:
    """By its name alone if that ends in ``.SAFE``, so that most archives are not searched any deeper."""
    name = path.name
    if name.endswith(".SAFE"):
        return True
    if is_zarr(name) or (looks_like_product(name) and name != without_suffix(name)):
        return True
    return product_named_in(name) is not None and _holds_product(path)


def _is_product_file(name: str) -> bool:
    return looks_like_product(name) or _PACKED.sub("", name) != name


def _is_l2a(names: AbstractSet[str]) -> bool:
    """Whether a folder that holds ``names`` (in small letters) is an L2A product, whatever it is called itself."""
    return "granule" in names and "mtd_msil2a.xml" in names


def _holds_product(path: Path) -> bool:
    """Whether a folder is the top one of a product."""
    try:
        names = {item.name.lower() for item in path.iterdir()}
    except OSError:
        return False
    return not names.isdisjoint(_TOP)


def _top_of(path: Path) -> Path:
    """The folder that holds the product of ``path``, which may lie in a folder of the same name: ``X.SAFE/X.SAFE``."""
    inner = path
    for _ in range(_DEEPEST_NESTING):
        if _holds_product(inner):
            return inner
        title = without_suffix(inner.name)
        below = sorted(item for item in inner.iterdir() if without_suffix(item.name) == title and item.is_dir())
        if not below:
            break
        inner = below[0]
    return inner if _holds_product(inner) else path


def _log_unsearched(error: OSError) -> None:
    _logger.warning("%s cannot be searched for products: %s", error.filename, error.strerror)


def read_product(path: Path) -> Product:
    """Read name, metadata and manifest of the product in ``path``, or in a folder of the same name inside it.

    Raises
    ------
    ProductError
        If the name is not an L2A product's, the product is packed, the XML is not XML, or nothing tells the radiometric
        offset.
    OSError
        If the folder cannot be read.
    """
    name = ProductName.parse(title_of(path))
    if not is_utf8(path):
        raise ProductError(str(name), "lies in a folder whose name is not UTF-8; rename that folder", step=Step.READ)
    if os.path.lexists(path) and not path.is_dir():
        raise ProductError(str(name), _what_is_packed(path))
    path = _top_of(path)
    metadata = read_metadata(name, path)
    manifest = path / MANIFEST
    footprint = read_safe_footprint(name, manifest) if manifest.exists() else None
    if footprint is None and metadata is not None:
        footprint = metadata.footprint
    offsets, notes = offsets_of(name, metadata)
    if footprint is None and metadata is not None:
        notes = (*notes, "its metadata gives no footprint that can be used")
    return Product(
        name=name,
        path=path,
        offsets=offsets,
        cloud_cover=None if metadata is None else metadata.cloud_cover,
        footprint=footprint,
        notes=notes,
    )


def _what_is_packed(path: Path) -> str:
    """Why a file cannot be used as a product, and what to do."""
    if not path.is_file():  # a pipe would be waited for, and a link may lead nowhere
        return "is not a folder"
    if zipfile.is_zipfile(path):
        return "is a zip file, which is not read in place; unzip it into a folder"
    packed = _PACKED.search(path.name)
    if packed and packed["part"]:
        return "is a part of a packed product; unpack the whole of it into a folder"
    if packed and packed[0]:
        return "is packed into one file, which is not read in place; unpack it into a folder"
    return "is a file, not a folder"


def lacking(product: Product, bands: Sequence[str], resolution: int = RESOLUTION) -> list[str]:
    """Which of SCL and ``bands`` the product does not have whole, by what can be seen without reading an image."""
    return list(band_files(product, (SCL, *bands), resolution, hashed=False).errors)


def has_scl_alone(product: Product, resolution: int = RESOLUTION) -> bool:
    """Whether SCL is there, whole, and no other image of ``resolution`` metres is, not even some tiles of one."""
    unused = {role_at(band, other) for other in (10, RESOLUTION) if other != resolution for band in bands_at(other)}
    there = {file.role for file in _images_on_disk(product)} - unused
    tiles = f"GRANULE/*/IMG_DATA/R{resolution}m/{tiles_path(Path('*')).name}"
    return there == {SCL} and not any(product.path.glob(tiles)) and not lacking(product, (), resolution)


def band_files(
    product: Product,
    bands: Sequence[str],
    resolution: int = RESOLUTION,
    *,
    hashed: bool = True,
    there: bool = True,
    partial: bool = False,
) -> BandFiles:
    """The images of ``bands`` (``SCL`` may be one) that are there whole, and an error for each of the others.

    Bands are those of ``resolution`` metres; SCL is always of 20 m.

    Without ``hashed`` no file is read: one that no manifest lists has no checksum. Without ``there`` no file is looked
    for: each is as the manifest lists it. With ``partial``, some tiles of an image do; which, its reader must ask.
    """
    manifest = product.path / MANIFEST
    try:
        listed = read_safe_manifest(product.name, manifest) if manifest.exists() else _images_on_disk(product)
    except ProductError as error:
        return BandFiles({}, dict.fromkeys(bands, error))
    found, errors = {}, {}
    for band in bands:
        try:
            role = role_at(band, resolution)
            files = [file for file in listed if file.role == role]
            metres = RESOLUTION if band == SCL else resolution
            found[band] = replace(_band_file(product, band, files, metres, hashed, there, partial), resolution=metres)
        except ProductError as error:
            errors[band] = error
    return BandFiles(found, errors)


def _images_on_disk(product: Product) -> list[ListedFile]:
    """The images of a product without a manifest. Of an image and what was converted from it, the JPEG 2000 counts."""
    paths = sorted(product.path.glob("GRANULE/*/IMG_DATA/R[12]0m/*"), key=lambda path: path.suffix.lower() != ".jp2")
    originals: dict[Path, Path] = {}
    for path in paths:
        originals.setdefault(path.with_suffix(""), path)
    hrefs = sorted(str(path.relative_to(product.path)) for path in originals.values())
    return [ListedFile(role, href) for href in hrefs if (role := role_of(href)) is not None]


def _converted(path: Path) -> Path | None:
    """The image that somebody made of the missing image ``path``, in the same folder under the same name; if any."""
    try:
        others = sorted(other for other in path.parent.iterdir() if other.stem == path.stem and other != path)
    except OSError:
        return None
    return next((other for other in others if role_of(other.name) and other.is_file()), None)


def _band_file(
    product: Product, band: str, listed: list[ListedFile], resolution: int, hashed: bool, there: bool, partial: bool
) -> BandFile:
    def fail(reason: str) -> ProductError:
        return ProductError(str(product.name), reason, step=Step.FILES, band=band)

    if not listed:
        raise fail(f"the product lists no {resolution} m image of this band")
    if len(listed) > 1:
        raise fail(f"the product lists {len(listed)} images of this band; products of one granule are supported")
    image = listed[0]
    path, note = product.path / image.href, ""
    if not there:
        return BandFile(band, path, image.size or 0, image.checksum)
    try:
        status = path.stat()
    except FileNotFoundError as error:
        converted = _converted(path)
        tiles = PartialImage.read(path, image.size, image.checksum) if converted is None else None
        if tiles is not None and partial:
            note = f"{len(tiles.tiles)} of {len(tiles.layout.tiles)} JPEG 2000 tiles of {band} are there"
            return BandFile(band, tiles_path(path), tiles.layout.size, image.checksum, note, is_partial=True)
        if tiles is not None:
            raise fail(f"only some tiles of {path.name} were downloaded; download it with --download whole") from error
        if converted is None:
            raise fail(f"{path.name} is missing") from error
        note = f"{converted.name} is used for {path.name}, which is missing; the manifest cannot vouch for it"
        image, path, status = ListedFile(image.role, image.href), converted, converted.stat()
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
    if not size:
        raise fail(f"{path.name} is empty")
    return BandFile(band, path, size, checksum, note)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"
