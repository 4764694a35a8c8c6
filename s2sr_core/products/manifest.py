"""``manifest.safe``: which files a product has, with their sizes and checksums, and its footprint."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shapely import MultiPolygon, Polygon

from s2sr_core.errors import ProductError, Step
from s2sr_core.products import product_xml
from s2sr_core.products.bands import RESOLUTION, bands_at, role_at
from s2sr_core.products.metadata import METADATA_FILE
from s2sr_core.products.names import ProductName

#: The name of the file in a product's folder.
MANIFEST = "manifest.safe"
#: The role of ``MTD_MSIL2A.xml`` among :class:`ListedFile`; an image's is :func:`s2sr_core.products.bands.role_at`.
METADATA = "metadata"

# T05WPM_20190701T214529_B04_20m.jp2; L2A_T… before 2017; some archives hold the same rasters as GeoTIFF.
_IMAGE = re.compile(
    r"(?:L2A_)?T(?P<tile>\d{2}[A-Z]{3})_(?P<sensing>\d{8}T\d{6})_(?P<band>B\d[\dA]|SCL)_(?P<metres>[12]0)m"
    r"\.(?:jp2|tiff?)",
    re.IGNORECASE | re.ASCII,
)

#: hashlib's names of the checksums that manifests have: MD5 in older ones, else SHA3-256. Others vouch for nothing.
HASHES = {"md5": "md5", "sha3-256": "sha3_256"}


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file of a product that this project reads, as the manifest lists it.

    Attributes
    ----------
    role: :data:`METADATA`, ``SCL``, a band (of 20 m), or ``B04_10m``.
    href: its path below the product's folder.
    size: bytes, None if nothing tells.
    checksum: ``md5:…`` or ``sha3-256:…`` in small letters, empty if nothing tells.
    """

    role: str
    href: str
    size: int | None = None
    checksum: str = ""


def read_safe_manifest(name: ProductName, path: Path) -> list[ListedFile]:
    """The metadata and the images of 10 m and 20 m that the ``manifest.safe`` of product ``name`` lists.

    Raises
    ------
    ProductError
        If it is not XML, belongs to a product of another tile or sensing time, or names one of the files outside the
        product's folder.
    """
    files = []
    for stream in product_xml.parse(name, path).iter("byteStream"):
        location, checksum = stream.find("fileLocation"), stream.find("checksum")
        href = "" if location is None else location.get("href", "")
        role = role_of(href)
        if role is None:
            continue
        _check_owner(name, href)
        size = stream.get("size", "")
        digest = "" if checksum is None or not checksum.text else checksum.text.strip().lower()
        algorithm = "" if checksum is None else checksum.get("checksumName", "").lower()
        whole = f"{algorithm}:{digest}" if digest and algorithm in HASHES else ""
        files.append(
            ListedFile(role, inside(name, href), int(size) if size.isdecimal() and len(size) < 16 else None, whole)
        )
    return files


def read_safe_footprint(name: ProductName, path: Path) -> Polygon | MultiPolygon | None:
    """The outline of the valid data (EPSG:4326) that a ``manifest.safe`` gives, None if it gives none.

    Raises
    ------
    ProductError
        If it is not XML.
    """
    return product_xml.outline(product_xml.parse(name, path), "coordinates")


def role_of(href: str) -> str | None:
    """The role of a file of a product by its path; None if this project does not read it."""
    path = PurePosixPath(href)
    if METADATA_FILE.fullmatch(path.name) and len(path.parts) == 1:
        return METADATA
    match = _IMAGE.fullmatch(path.name)
    if match is None:
        return None
    band, resolution = match["band"].upper(), int(match["metres"])
    is_used = resolution == RESOLUTION or band in bands_at(resolution)
    return role_at(band, resolution) if is_used else None


def _check_owner(name: ProductName, href: str) -> None:
    """Compare the name of an image with that of the product."""
    match = _IMAGE.fullmatch(PurePosixPath(href).name)
    own = (name.tile, f"{name.sensing_time:%Y%m%dT%H%M%S}")
    if match and (match["tile"].upper(), match["sensing"].upper()) != own:
        reason = f"manifest.safe belongs to another product: it lists {PurePosixPath(href).name}"
        raise ProductError(str(name), reason, step=Step.METADATA)


def inside(name: ProductName, href: str) -> str:
    """``href`` of a manifest as a path relative to the product's folder.

    Raises
    ------
    ProductError
        If it would leave the folder.
    """
    path = PurePosixPath(href)
    if path.is_absolute() or ".." in path.parts or "\\" in href or ":" in href or "\0" in href:
        reason = f"manifest.safe names a file outside the product: {href[:80]!r}"
        raise ProductError(str(name), reason, step=Step.METADATA)
    return str(path)
