"""manifest.safe: every file of a product with its size and checksum, and where and when the product was seen."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from s2sr_sandbox.elements import add, document, instant
from s2sr_sandbox.granule import Granule
from s2sr_sandbox.metadata import Checksum


def manifest(product: Path, granule: Granule, checksum: Checksum) -> bytes:
    """The content of manifest.safe over the files in the folder ``product``, with their sizes and checksums."""
    root = Element(
        "xfdu:XFDU",
        {
            "xmlns:xfdu": "urn:ccsds:schema:xfdu:1",
            "xmlns:safe": "http://www.esa.int/safe/sentinel/1.1",
            "xmlns:gml": "http://www.opengis.net/gml",
            "version": "esa/safe/sentinel/1.1/sentinel-2/msi/archive_l2a_user_product",
        },
    )
    _describe(add(root, "metadataSection"), granule)
    titles = {path: f"IMG_DATA_Band_{band}_10m_Tile1_Data" for band, path in granule.images_10m.items()}
    titles |= {path: f"IMG_DATA_Band_{band}_20m_Tile1_Data" for band, path in granule.images.items()}
    titles[granule.folder / "MTD_TL.xml"] = "S2_Level-2A_Tile1_Metadata"
    titles[PurePosixPath("MTD_MSIL2A.xml")] = "S2_Level-2A_Product_Metadata"
    objects = add(root, "dataObjectSection")
    for path, title in titles.items():
        if (product / path).exists():
            _list(objects, product, path, title, checksum)
    return document(root)


def _describe(section: Element, granule: Granule) -> None:
    name = granule.name
    period = _item(section, "acquisitionPeriod", "safe:acquisitionPeriod")
    add(period, "safe:startTime", instant(name.sensing_time))
    orbit = _item(section, "measurementOrbitReference", "safe:orbitReference")
    add(orbit, "safe:orbitNumber", f"{granule.orbit:06d}", type="start", groundTrackDirection="descending")
    add(orbit, "safe:relativeOrbitNumber", f"{name.relative_orbit:03d}", type="start")
    platform = _item(section, "platform", "safe:platform")
    add(platform, "safe:familyName", "SENTINEL")
    add(platform, "safe:number", name.mission[1:])
    frames = _item(section, "measurementFrameSet", "safe:frameSet")
    outline = add(frames, "safe:footPrint", srsName="http://www.opengis.net/gml/srs/epsg.xml#4326")
    add(outline, "gml:coordinates", granule.footprint_text)


def _item(section: Element, title: str, tag: str) -> Element:
    """A new metadata object; returns the element ``tag`` inside it."""
    item = add(section, "metadataObject", ID=title, classification="DESCRIPTION", category="DMD")
    return add(add(item, "metadataWrap", mimeType="text/xml", vocabularyName="Sentinel-SAFE"), f"xmlData/{tag}")


def _list(objects: Element, product: Path, path: PurePosixPath, title: str, checksum: Checksum) -> None:
    content = (product / path).read_bytes()
    kind = "text/xml" if path.suffix == ".xml" else "application/octet-stream"
    stream = add(add(objects, "dataObject", ID=title), "byteStream", mimeType=kind, size=str(len(content)))
    add(stream, "fileLocation", locatorType="URL", href=f"./{path}")
    value = hashlib.new(checksum.lower().replace("-", "_"), content).hexdigest()
    # Real manifests write the SHA3-256 of images in upper case and everything else in lower case.
    upper_case = checksum == "SHA3-256" and path.suffix == ".jp2"
    add(stream, "checksum", value.upper() if upper_case else value, checksumName=checksum)
