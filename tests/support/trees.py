"""Products as trees of tiny files, their XML written by hand: all that reads names, manifests and metadata is tested
on them without a pixel."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12")
BAND_IDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")

OLD = "S2A_MSIL2A_20190701T214529_N0212_R072_T05WPM_20190702T001122"
NEW = "S2B_MSIL2A_20220701T214529_N0400_R072_T05WPM_20220702T001122"

#: ``lat lon`` of a ring of one degree by half a degree: −150 … −149, 68.5 … 69.
FOOTPRINT = "68.5 -150 68.5 -149 69 -149 69 -150 68.5 -150"


def ring(xmin: float, ymin: float, xmax: float, ymax: float) -> str:
    """The footprint of a box, as products write it."""
    corners = ((xmin, ymin), (xmax, ymin), (xmax, ymax), (xmin, ymax), (xmin, ymin))
    return " ".join(f"{y!r} {x!r}" for x, y in corners)


def metadata_xml(
    *,
    offsets: Mapping[str, object] | None = None,
    cloud: object = 12.5,
    footprint: str | None = FOOTPRINT,
    quantification: object = 10000,
) -> str:
    """MTD_MSIL2A.xml; ``offsets`` by band."""
    entries = "".join(
        f'<BOA_ADD_OFFSET band_id="{BAND_IDS.index(band)}">{dn}</BOA_ADD_OFFSET>'
        for band, dn in (offsets or {}).items()
    )
    listed = f"<BOA_ADD_OFFSET_VALUES_LIST>{entries}</BOA_ADD_OFFSET_VALUES_LIST>" if offsets else ""
    outline = "" if footprint is None else f"<EXT_POS_LIST>{footprint}</EXT_POS_LIST>"
    clouds = "" if cloud is None else f"<Cloud_Coverage_Assessment>{cloud}</Cloud_Coverage_Assessment>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">'
        f"<n1:General_Info><BOA_QUANTIFICATION_VALUE>{quantification}</BOA_QUANTIFICATION_VALUE>{listed}"
        f"</n1:General_Info>{outline}{clouds}</n1:Level-2A_User_Product>"
    )


def manifest_xml(entries: Sequence[tuple[str, object, str, str]], footprint: str | None = FOOTPRINT) -> str:
    """manifest.safe; ``entries`` are href, size, checksum's name and value."""
    outline = "" if footprint is None else f"<gml:coordinates>{footprint}</gml:coordinates>"
    objects = "".join(
        f'<dataObject><byteStream mimeType="application/octet-stream" size="{size}">'
        f'<fileLocation href="{href}" locatorType="URL"/><checksum checksumName="{kind}">{value}</checksum>'
        "</byteStream></dataObject>"
        for href, size, kind, value in entries
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<xfdu:XFDU xmlns:gml="http://www.opengis.net/gml" xmlns:xfdu="urn:ccsds:schema:xfdu:1">'
        f"<metadataSection>{outline}</metadataSection><dataObjectSection>{objects}</dataObjectSection></xfdu:XFDU>"
    )


def content_of(band: str) -> bytes:
    """The bytes of a band's file: another length for each."""
    return f"pixels of {band}: ".encode() + b"x" * (*BANDS, "SCL").index(band)


def image_path(name: str, band: str, *, prefix: str = "", suffix: str = "jp2", granule: str = "A026649") -> str:
    """Where a product keeps a band, relative to its folder."""
    _, _, sensing, _, _, tile, _ = name.split("_")
    return f"GRANULE/L2A_{tile}_{granule}/IMG_DATA/R20m/{prefix}{tile}_{sensing}_{band}_20m.{suffix}"


def write_tree(
    folder: Path,
    name: str = OLD,
    *,
    metadata: str | None = "",
    metadata_file: str = "MTD_MSIL2A.xml",
    manifest: str | None = "",
    footprint: str | None = FOOTPRINT,
    cloud: object = 12.5,
    bands: Sequence[str] = (*BANDS, "SCL"),
    prefix: str = "",
    suffix: str = "jp2",
) -> Path:
    """A product as it should be; ``metadata`` and ``manifest`` are the text of these files, or None for no file."""
    product = folder / f"{name}.SAFE"
    product.mkdir(parents=True)
    entries = []
    for band in bands:
        path = image_path(name, band, prefix=prefix, suffix=suffix)
        (product / path).parent.mkdir(parents=True, exist_ok=True)
        (product / path).write_bytes(content_of(band))
        entries.append((f"./{path}", len(content_of(band)), "MD5", hashlib.md5(content_of(band)).hexdigest()))
    if metadata is not None:
        offsets = dict.fromkeys(BAND_IDS, -1000) if "N04" <= name.split("_")[3] < "N90" else None
        text = metadata or metadata_xml(offsets=offsets, footprint=footprint, cloud=cloud)
        (product / metadata_file).write_text(text, encoding="utf-8")
    if manifest is not None:
        (product / "manifest.safe").write_text(manifest or manifest_xml(entries, footprint), encoding="utf-8")
    return product
