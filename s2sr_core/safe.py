"""A Sentinel-2 L2A product as it lies on disk: the .SAFE tree, its manifest and its metadata.

Everything read here is foreign input: XML goes through defusedxml, a path in it that leaves the product's folder is
refused, and the files named are looked at before anybody relies on them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml import DefusedXmlException
from shapely import MultiPolygon, Polygon

from s2sr_core import footprint
from s2sr_core.errors import ProductError
from s2sr_core.product_name import ProductName

#: The reflectance bands that L2A products hold at 20 m in every baseline (PSD, "L2A product: image data").
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12")
SCL = "SCL"

#: ``band_id`` of the metadata, in order (PSD, "Spectral_Information").
_BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
#: Radiometric offset of the baselines from 04.00 on, DN (PSD 14.8, BOA_ADD_OFFSET).
_BASELINE_OFFSET = -1000
_QUANTIFICATION = 10_000.0

# T05WPM_20190701T214529_B04_20m.jp2; L2A_T… before 2017; some archives hold the same grids as GeoTIFF.
_IMAGE = re.compile(r"(?:L2A_)?T\d{2}[A-Z]{3}_\d{8}T\d{6}_(?P<band>B\d[\dA]|SCL)_20m\.(?:jp2|tiff?)", re.IGNORECASE)
_METADATA = re.compile(r"MTD_MSIL2A\.xml", re.IGNORECASE)
_BLOCK = 1 << 20


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


def find_products(folder: Path) -> Iterator[Path]:
    """All ``*.SAFE`` folders below ``folder`` (or itself), in sorted order; symbolic links are followed once."""
    if folder.name.endswith(".SAFE"):
        yield folder
        return
    seen: set[str] = set()
    for here, folders, _ in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(here, name) for name in sorted(folders) if name.endswith(".SAFE"))
        folders[:] = sorted(name for name in folders if not name.endswith(".SAFE"))


def read_product(path: Path) -> Product:
    """Read name, metadata and manifest of the product in ``path``.

    Raises
    ------
    ProductError
        Where the name is not an L2A product's, the XML is no XML, or nothing tells the radiometric offset.
    """
    name = ProductName.parse(path.name)
    metadata_path = next((item for item in path.iterdir() if _METADATA.fullmatch(item.name)), None)
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


def band_files(product: Product, bands: tuple[str, ...]) -> dict[str, BandFile | ProductError]:
    """The images of ``bands`` (``SCL`` may be one), each as a file found whole, or as the error that it is not."""
    manifest_path = product.path / "manifest.safe"
    if manifest_path.exists():
        listed = _listed_images(product.name, _parse(product.name, manifest_path))
    else:
        listed = _images_on_disk(product)
    found: dict[str, BandFile | ProductError] = {}
    for band in bands:
        try:
            found[band] = _band_file(product, band, listed.get(band, []))
        except ProductError as error:
            found[band] = error
    return found


# ------------------------------------------------------------------------------------------------------------- XML


def _parse(name: ProductName, path: Path) -> Element:
    try:
        root = defusedxml.ElementTree.parse(path, forbid_dtd=True).getroot()
    except (ParseError, DefusedXmlException, OSError, ValueError) as error:
        raise ProductError(str(name), f"{path.name} cannot be read: {error}", step="metadata") from error
    if root is None:
        raise ProductError(str(name), f"{path.name} is empty", step="metadata")
    return root


def _texts(root: Element | None, tag: str) -> list[str]:
    """The texts of all elements ``tag``, whatever namespace they stand in."""
    if root is None:
        return []
    found = (element.text for element in root.iter() if element.tag.rpartition("}")[2] == tag)
    return [text.strip() for text in found if text and text.strip()]


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _cloud_cover(metadata: Element | None) -> float | None:
    return _number(next(iter(_texts(metadata, "Cloud_Coverage_Assessment")), None))


def _footprint(manifest: Element | None, metadata: Element | None) -> Polygon | MultiPolygon | None:
    for root, tag in ((manifest, "coordinates"), (metadata, "EXT_POS_LIST")):
        parts = [part for text in _texts(root, tag) if (part := footprint.from_positions(text)) is not None]
        if parts:
            return footprint.union(parts)
    return None


def _offsets(name: ProductName, metadata: Element | None) -> tuple[tuple[Offset, ...], tuple[str, ...]]:
    """The offset of each band: the metadata's where it gives one, else what the baseline in the name implies."""
    implied = None if name.has_offset is None else _BASELINE_OFFSET if name.has_offset else 0
    stated = {} if metadata is None else _stated_offsets(name, metadata)
    if metadata is not None and implied is None and not stated:
        implied = 0  # a user's own Sen2Cor that adds an offset also writes it
    offsets, notes = [], []
    for band in BANDS:
        if band in stated:
            offsets.append(Offset(band, stated[band], "XML"))
            if name.has_offset is not None and stated[band] != implied:
                notes.append(
                    f"offset of {band} is {stated[band]} in the XML, {implied} by the baseline; the XML's is used"
                )
        elif implied is None:
            raise ProductError(
                str(name), f"baseline {name.baseline} does not tell the offset and no metadata does", step="metadata"
            )
        else:
            offsets.append(Offset(band, implied, "name"))
    if metadata is not None and name.has_offset and not stated:
        notes.append(f"the XML gives no offset though the baseline is {name.baseline}; {implied} is used")
    return tuple(offsets), tuple(notes)


def _stated_offsets(name: ProductName, metadata: Element) -> dict[str, int]:
    quantification = _number(next(iter(_texts(metadata, "BOA_QUANTIFICATION_VALUE")), None))
    if quantification not in (None, _QUANTIFICATION):
        raise ProductError(
            str(name), f"BOA_QUANTIFICATION_VALUE is {quantification}, only 10000 is supported", step="metadata"
        )
    stated = {}
    for element in metadata.iter():
        if element.tag.rpartition("}")[2] != "BOA_ADD_OFFSET":
            continue
        try:
            stated[_BAND_IDS[int(element.get("band_id", ""))]] = int(float(element.text or ""))
        except (ValueError, IndexError, OverflowError) as error:
            raise ProductError(str(name), "BOA_ADD_OFFSET in the metadata is no number", step="metadata") from error
    return stated


# ----------------------------------------------------------------------------------------------------------- files


@dataclass(frozen=True, slots=True)
class _ListedImage:
    """An image as the manifest lists it; size and checksum are None where there is no manifest."""

    href: str
    size: int | None = None
    checksum: str | None = None


def _listed_images(name: ProductName, manifest: Element) -> Mapping[str, list[_ListedImage]]:
    images: dict[str, list[_ListedImage]] = {}
    for stream in manifest.iter("byteStream"):
        location, checksum = stream.find("fileLocation"), stream.find("checksum")
        href = "" if location is None else location.get("href", "")
        match = _IMAGE.fullmatch(PurePosixPath(href).name)
        if match is None:
            continue
        size = stream.get("size", "")
        image = _ListedImage(
            href=inside(name, href),
            size=int(size) if size.isdecimal() else None,
            checksum=None
            if checksum is None or not checksum.text
            else f"{checksum.get('checksumName', '').lower()}:{checksum.text.strip().lower()}",
        )
        images.setdefault(match["band"].upper(), []).append(image)
    return images


def inside(name: ProductName, href: str) -> str:
    """``href`` of a manifest as a path relative to the product's folder.

    Raises
    ------
    ProductError
        Where it would leave the folder.
    """
    path = PurePosixPath(href)
    if path.is_absolute() or ".." in path.parts or "\\" in href or ":" in href or "\0" in href:
        raise ProductError(str(name), f"manifest.safe names a file outside the product: {href[:80]!r}", step="metadata")
    return str(path)


def _images_on_disk(product: Product) -> Mapping[str, list[_ListedImage]]:
    images: dict[str, list[_ListedImage]] = {}
    for path in sorted(product.path.glob("GRANULE/*/IMG_DATA/R20m/*")):
        if (match := _IMAGE.fullmatch(path.name)) is not None:
            images.setdefault(match["band"].upper(), []).append(_ListedImage(str(path.relative_to(product.path))))
    return images


def _band_file(product: Product, band: str, listed: list[_ListedImage]) -> BandFile:
    def fail(reason: str) -> ProductError:
        return ProductError(str(product.name), reason, step="files", band=band)

    if not listed:
        raise fail("the product lists no 20 m image of this band")
    if len(listed) > 1:
        raise fail(f"the product lists {len(listed)} images of this band; products of one granule are supported")
    image = listed[0]
    path = product.path / image.href
    try:
        size = path.stat().st_size
    except OSError as error:
        raise fail(f"{path.name} is missing") from error
    if image.size is not None and size != image.size:
        raise fail(f"{path.name} has {size} bytes, the manifest says {image.size}: truncated or changed")
    return BandFile(band, path, size, image.checksum or _sha256(path))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return f"sha256:{digest.hexdigest()}"
