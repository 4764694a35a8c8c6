"""A Sentinel-2 L2A product as it lies on disk: the .SAFE tree, its manifest and its metadata.

Everything read here is foreign input: XML goes through defusedxml, a path in it that leaves the product's folder is
refused, and the files named are looked at before anybody relies on them.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException
from shapely import MultiPolygon, Polygon

from s2sr_core.errors import ProductError, Step
from s2sr_core.geo import geometry
from s2sr_core.products.names import ProductName

#: The reflectance bands that L2A products hold at 20 m in every baseline (PSD, "L2A product: image data").
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12")
SCL = "SCL"

#: ``band_id`` of the metadata, in order (PSD, "Spectral_Information").
_BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
#: Radiometric offset of the baselines from 04.00 on, DN (PSD 14.8, BOA_ADD_OFFSET).
_BASELINE_OFFSET = -1000
_QUANTIFICATION = 10_000.0
#: DN have 15 bits: an offset beyond this is no offset.
_LARGEST_OFFSET = 32_767

# T05WPM_20190701T214529_B04_20m.jp2; L2A_T… before 2017; some archives hold the same grids as GeoTIFF.
_IMAGE = re.compile(
    r"(?:L2A_)?T\d{2}[A-Z]{3}_\d{8}T\d{6}_(?P<band>B\d[\dA]|SCL)_20m\.(?:jp2|tiff?)", re.IGNORECASE | re.ASCII
)
_METADATA = re.compile(r"MTD_MSIL2A\.xml", re.IGNORECASE)
_BLOCK = 1 << 20

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BandFile:
    """One image of a product.

    Attributes
    ----------
    band: ``B04``, or ``SCL``.
    path: where it lies.
    size: in bytes, as found on disk.
    checksum: ``md5:…`` or ``sha3-256:…`` as the manifest says, ``sha256:…`` of its bytes where no manifest does.
    """

    band: str
    path: Path
    size: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Offset:
    """What is added to the DN of a band to harmonise it, and who says so (``XML`` or ``name``)."""

    band: str
    dn: int
    source: str


@dataclass(frozen=True, slots=True)
class Product:
    """What the product's own files say of it; no pixel has been read.

    Attributes
    ----------
    name: the product's name, taken apart.
    path: its folder.
    offsets: one for each band of :data:`BANDS`.
    cloud_cover: percent of the granule, None where the metadata is silent.
    footprint: outline of its valid data (EPSG:4326), None where no file gives one.
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
        Where the name is not an L2A product's, the XML is no XML, or nothing tells the radiometric offset.
    """
    name = ProductName.parse(path.name)
    metadata_path = min((item for item in path.iterdir() if _METADATA.fullmatch(item.name)), default=None)
    metadata = None if metadata_path is None else _parse(name, metadata_path)
    manifest_path = path / "manifest.safe"
    manifest = _parse(name, manifest_path) if manifest_path.exists() else None
    offsets, notes = _offsets(name, metadata)
    return Product(
        name=name,
        path=path,
        offsets=offsets,
        cloud_cover=_cloud_cover(metadata),
        footprint=_footprint(manifest, metadata),
        notes=notes,
    )


def band_files(
    product: Product, bands: tuple[str, ...], *, hashed: bool = True, there: bool = True
) -> dict[str, BandFile | ProductError]:
    """The images of ``bands`` (``SCL`` may be one), each as a file found whole, or as the error that it is not.

    Without ``hashed`` no file is read: one that no manifest lists has no checksum. Without ``there`` no file is looked
    for: each is as the manifest lists it.
    """
    manifest_path = product.path / "manifest.safe"
    try:
        listed = read_manifest(product.name, manifest_path) if manifest_path.exists() else _images_on_disk(product)
    except ProductError as error:
        return dict.fromkeys(bands, error)
    found: dict[str, BandFile | ProductError] = {}
    for band in bands:
        try:
            found[band] = _band_file(product, band, [file for file in listed if file.role == band], hashed, there)
        except ProductError as error:
            found[band] = error
    return found


# ------------------------------------------------------------------------------------------------------------- XML


def _parse(name: ProductName, path: Path) -> Element:
    try:
        root = defusedxml.ElementTree.parse(path, forbid_dtd=True).getroot()
    except DefusedXmlException as error:
        raise ProductError(
            str(name), f"{path.name} holds a DTD or entities, which no product does; it is not read", step=Step.METADATA
        ) from error
    except (ParseError, OSError, ValueError, LookupError) as error:  # LookupError: of an encoding
        raise ProductError(str(name), f"{path.name} cannot be read: {error}", step=Step.METADATA) from error
    if root is None:
        raise ProductError(str(name), f"{path.name} is empty", step=Step.METADATA)
    return root


def _texts(root: Element | None, tag: str) -> list[str]:
    """The texts of all elements ``tag``, whatever namespace they stand in."""
    if root is None:
        return []
    found = (element.text for element in root.iter() if element.tag.rpartition("}")[2] == tag)
    return [text.strip() for text in found if text and text.strip()]


def _number(text: str | None) -> float | None:
    """``text`` as a number, None where it is none or not finite."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _cloud_cover(metadata: Element | None) -> float | None:
    return _number(next(iter(_texts(metadata, "Cloud_Coverage_Assessment")), None))


def _footprint(manifest: Element | None, metadata: Element | None) -> Polygon | MultiPolygon | None:
    for root, tag in ((manifest, "coordinates"), (metadata, "EXT_POS_LIST")):
        parts = [part for text in _texts(root, tag) if (part := geometry.from_positions(text)) is not None]
        if parts:
            return geometry.union(parts)
    return None


def _offsets(name: ProductName, metadata: Element | None) -> tuple[tuple[Offset, ...], tuple[str, ...]]:
    """The offset of each band: the metadata's where it gives one, else what the baseline in the name implies."""
    implied = None if name.has_offset is None else _BASELINE_OFFSET if name.has_offset else 0
    stated = {} if metadata is None else _stated_offsets(name, metadata)
    if metadata is not None and implied is None and not stated:
        stated = dict.fromkeys(BANDS, 0)  # a user's own Sen2Cor that adds an offset also writes it
    offsets, notes = [], []
    for band in BANDS:
        if band in stated:
            offsets.append(Offset(band, stated[band], "XML"))
            if implied is not None and stated[band] != implied:
                notes.append(
                    f"offset of {band} is {stated[band]} in the XML, {implied} by the baseline; the XML's is used"
                )
        elif implied is None:
            raise ProductError(
                str(name),
                f"baseline {name.baseline} does not tell the offset of {band}, and no metadata does",
                step=Step.METADATA,
            )
        else:
            offsets.append(Offset(band, implied, "name"))
    silent = [offset.band for offset in offsets if offset.source == "name"]
    if metadata is not None and silent and (name.has_offset or stated):
        of = "" if len(silent) == len(BANDS) else f" of {' '.join(silent)}"
        notes.append(f"the XML gives no offset{of} though the baseline is {name.baseline}; {implied} is used")
    return tuple(offsets), tuple(notes)


def _stated_offsets(name: ProductName, metadata: Element) -> dict[str, int]:
    for quantification in _texts(metadata, "BOA_QUANTIFICATION_VALUE"):
        if _number(quantification) != _QUANTIFICATION:
            raise ProductError(
                str(name),
                f"BOA_QUANTIFICATION_VALUE is {quantification!r}, only 10000 is supported",
                step=Step.METADATA,
            )
    stated = {}
    for element in metadata.iter():
        if element.tag.rpartition("}")[2] != "BOA_ADD_OFFSET":
            continue
        band_id, dn = (_number(text) for text in (element.get("band_id"), element.text))
        if band_id is None or dn is None or dn % 1 or abs(dn) > _LARGEST_OFFSET or band_id not in range(len(_BAND_IDS)):
            raise ProductError(
                str(name),
                f"BOA_ADD_OFFSET of band_id {element.get('band_id')!r} is {element.text!r}: not a band and its DN",
                step=Step.METADATA,
            )
        stated[_BAND_IDS[int(band_id)]] = int(dn)
    return stated


# ----------------------------------------------------------------------------------------------------------- files


#: The role of ``MTD_MSIL2A.xml`` among :class:`ListedFile`; an image's is its band, or ``SCL``.
METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of a product that this project reads, as the manifest lists it.

    Attributes
    ----------
    role: :data:`METADATA`, ``SCL`` or a band.
    href: its path below the product's folder.
    size: bytes, None where nothing tells.
    checksum: ``md5:…`` or ``sha3-256:…`` in small letters, empty where nothing tells.
    """

    role: str
    href: str
    size: int | None = None
    checksum: str = ""


def read_manifest(name: ProductName, path: Path) -> list[ListedFile]:
    """The metadata and the 20 m images that a ``manifest.safe`` lists.

    Raises
    ------
    ProductError
        Where it is no XML, or names one of them outside the product's folder.
    """
    files = []
    for stream in _parse(name, path).iter("byteStream"):
        location, checksum = stream.find("fileLocation"), stream.find("checksum")
        href = "" if location is None else location.get("href", "")
        role = _role(href)
        if role is None:
            continue
        size = stream.get("size", "")
        digest = "" if checksum is None or not checksum.text else checksum.text.strip().lower()
        algorithm = "" if checksum is None else checksum.get("checksumName", "").lower()
        whole = f"{algorithm}:{digest}" if digest else ""
        files.append(
            ListedFile(role, inside(name, href), int(size) if size.isdecimal() and len(size) < 16 else None, whole)
        )
    return files


def _role(href: str) -> str | None:
    path = PurePosixPath(href)
    if _METADATA.fullmatch(path.name) and len(path.parts) == 1:
        return METADATA
    match = _IMAGE.fullmatch(path.name)
    return match["band"].upper() if match else None


def inside(name: ProductName, href: str) -> str:
    """``href`` of a manifest as a path relative to the product's folder.

    Raises
    ------
    ProductError
        Where it would leave the folder.
    """
    path = PurePosixPath(href)
    if path.is_absolute() or ".." in path.parts or "\\" in href or ":" in href or "\0" in href:
        raise ProductError(
            str(name), f"manifest.safe names a file outside the product: {href[:80]!r}", step=Step.METADATA
        )
    return str(path)


def _images_on_disk(product: Product) -> list[ListedFile]:
    paths = sorted(product.path.glob("GRANULE/*/IMG_DATA/R20m/*"))
    hrefs = (str(path.relative_to(product.path)) for path in paths)
    return [ListedFile(role, href) for href in hrefs if (role := _role(href)) is not None]


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
        raise fail(f"{path.name} is no file")
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
