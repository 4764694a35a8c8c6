"""``MTD_MSIL2A.xml``: clouds, footprint, and the radiometric offset of each band."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from shapely import MultiPolygon, Polygon

from s2sr_core.errors import ProductError, Step
from s2sr_core.products import product_xml
from s2sr_core.products.bands import BANDS, BANDS_10M
from s2sr_core.products.baselines import implied_offset
from s2sr_core.products.names import ProductName

#: Name of the file, in capital letters or small ones.
METADATA_FILE = re.compile(r"MTD_MSIL2A\.xml", re.IGNORECASE)

#: ``band_id`` of the metadata, in order (PSD, "Spectral_Information").
_BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_LONGEST_QUOTE = 40
_QUANTIFICATION = 10_000.0
#: DN are reflectance × 10000: an offset beyond this is not one.
_LARGEST_OFFSET = 10_000


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the file says.

    Attributes
    ----------
    cloud_cover: percent of the granule, None if it does not say.
    footprint: outline of the valid data, EPSG:4326, None if it gives none.
    offsets: DN to add, of the bands for which it gives one.
    """

    cloud_cover: float | None
    footprint: Polygon | MultiPolygon | None
    offsets: dict[str, int]


@dataclass(frozen=True, slots=True)
class Offset:
    """What is added to the DN of a band to harmonise it, and who says so (``XML`` or ``name``)."""

    band: str
    dn: int
    source: str


def read_metadata(name: ProductName, folder: Path) -> Metadata | None:
    """The metadata of the product ``name`` in ``folder``; None if there is no such file.

    Raises
    ------
    ProductError
        If it is not XML, names another product, is quantified by another number than 10000, or gives an offset that is
        not one, or two for a band.
    """
    path = _metadata_file(folder)
    if path is None:
        return None
    root = product_xml.parse(name, path)
    if owner := _other_owner(name, root):
        raise ProductError(str(name), f"{path.name} belongs to another product, {owner}", step=Step.METADATA)
    clouds = next(iter(product_xml.texts(root, "Cloud_Coverage_Assessment")), None)
    return Metadata(product_xml.number(clouds), product_xml.outline(root, "EXT_POS_LIST"), _stated_offsets(name, root))


def is_of_another_product(name: ProductName, folder: Path) -> bool:
    """Whether the metadata in ``folder`` names another product than ``name``; not if it names none, or is not there."""
    path = _metadata_file(folder) if folder.is_dir() else None
    try:
        return path is not None and _other_owner(name, product_xml.parse(name, path)) is not None
    except ProductError:
        return False


def _metadata_file(folder: Path) -> Path | None:
    return min((item for item in folder.iterdir() if METADATA_FILE.fullmatch(item.name)), default=None)


def _other_owner(name: ProductName, root: Element) -> ProductName | None:
    """The product that metadata names, in the way they have been named since 2016, if that is not ``name``."""
    for uri in (*product_xml.texts(root, "PRODUCT_URI"), *product_xml.texts(root, "PRODUCT_URI_2A")):
        try:
            owner = ProductName.parse(uri)
        except ProductError:
            continue
        if owner != name:
            return owner
    return None


def _stated_offsets(name: ProductName, root: Element) -> dict[str, int]:
    for quantification in product_xml.texts(root, "BOA_QUANTIFICATION_VALUE"):
        if product_xml.number(quantification) != _QUANTIFICATION:
            raise ProductError(
                str(name),
                f"BOA_QUANTIFICATION_VALUE is {_quoted(quantification)}, only 10000 is supported",
                step=Step.METADATA,
            )
    stated = {}
    for element in root.iter():
        if element.tag.rpartition("}")[2] != "BOA_ADD_OFFSET":
            continue
        band_id, dn = (product_xml.number(text) for text in (element.get("band_id"), element.text))
        if band_id is None or dn is None or dn % 1 or abs(dn) > _LARGEST_OFFSET or band_id not in range(len(_BAND_IDS)):
            raise ProductError(
                str(name),
                f"BOA_ADD_OFFSET of band_id {_quoted(element.get('band_id'))} is {_quoted(element.text)}: not a band "
                f"and its DN, -{_LARGEST_OFFSET} to {_LARGEST_OFFSET}",
                step=Step.METADATA,
            )
        band = _BAND_IDS[int(band_id)]
        if band in stated:
            raise ProductError(str(name), f"BOA_ADD_OFFSET of {band} is given twice", step=Step.METADATA)
        stated[band] = int(dn)
    return stated


def _quoted(text: str | None) -> str:
    """``text`` for a sentence, no longer than a number may be."""
    return repr(text if text is None else text[:_LONGEST_QUOTE])


def offsets_of(name: ProductName, metadata: Metadata | None) -> tuple[tuple[Offset, ...], tuple[str, ...]]:
    """The offset of each of :data:`BANDS`, of B08 if it is known, and notes on what is odd.

    It is the metadata's if that gives one, else what the baseline in the name implies. A baseline outside the
    operational series implies none: then the metadata alone counts, and metadata without any offset means 0.

    Raises
    ------
    ProductError
        If neither tells.
    """
    implied = implied_offset(name.baseline)
    stated = {} if metadata is None else metadata.offsets
    if metadata is not None and implied is None and not stated:
        stated = dict.fromkeys((*BANDS, *BANDS_10M), 0)  # a user's own Sen2Cor that adds an offset also writes it
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
                f"baseline {name.baseline} is not of the operational series, so it does not imply the offset of "
                f"{band}, and MTD_MSIL2A.xml does not give one",
                step=Step.METADATA,
            )
        else:
            offsets.append(Offset(band, implied, "name"))
    silent = [offset.band for offset in offsets if offset.source == "name"]
    for band in (band for band in BANDS_10M if band not in BANDS):
        if band in stated:
            offsets.append(Offset(band, stated[band], "XML"))
        elif implied is not None:
            offsets.append(Offset(band, implied, "name"))
    if metadata is not None and silent and (implied or stated):
        of = "" if len(silent) == len(BANDS) else f" of {' '.join(silent)}"
        notes.append(f"the XML gives no offset{of} though the baseline is {name.baseline}; {implied} is used")
    return tuple(offsets), tuple(notes)
