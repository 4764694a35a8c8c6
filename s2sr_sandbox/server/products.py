"""The catalogue's entries: .SAFE folders as CDSE's OData describes products."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import shapely
from shapely import MultiPolygon, Polygon
from zipstream import ZipStream

from s2sr_core.errors import InputError, ProductError
from s2sr_core.products.names import ProductName
from s2sr_core.products.safe import product_paths, read_product
from s2sr_sandbox.orbit import absolute_orbit
from s2sr_sandbox.server.settings import SandboxSettings

COLLECTION = "SENTINEL-2"

type Value = str | bool | int | float | datetime

_logger = logging.getLogger(__name__)
# Sensing starts of real products end in .024 in the metadata; the name has whole seconds.
_MILLISECONDS = timedelta(milliseconds=24)
_NEVER = "9999-12-31T23:59:59.999999Z"


@dataclass(frozen=True)
class Entry:
    """One product of the catalogue.

    Attributes
    ----------
    name: with ``.SAFE``.
    attributes: by name, in CDSE's order; the type of a value is the attribute's.
    start, end: of sensing, UTC.
    published: when it was published, UTC.
    footprint: outline (EPSG:4326); None if the catalogue has none.
    folder: the folder of its files; None for an entry that exists only in the catalogue.
    size: bytes, and
    md5: of the whole product; None takes both from the folder (of the zip that is served).
    online: whether it can be downloaded.
    """

    name: str
    attributes: dict[str, Value]
    start: datetime
    end: datetime
    published: datetime
    footprint: Polygon | MultiPolygon | None = None
    folder: Path | None = None
    size: int | None = None
    md5: str | None = None
    online: bool = True
    collection: str = COLLECTION

    @cached_property
    def id(self) -> str:
        """The product's UUID, the same at each start."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, self.name))

    @cached_property
    def content_length(self) -> int:
        """Bytes of the whole product."""
        if self.size is not None:
            return self.size
        return 0 if self.folder is None else len(zipped(self.folder))

    @cached_property
    def checksum(self) -> str | None:
        """MD5 of the whole product."""
        if self.md5 is not None or self.folder is None or self.size is not None:
            return self.md5
        digest = hashlib.md5(usedforsecurity=False)
        for block in zipped(self.folder):
            digest.update(block)
        return digest.hexdigest()

    def document(self, *, attributes: bool, assets: bool) -> dict[str, Any]:
        """The product as the catalogue gives it, its keys in CDSE's order."""
        published = instant(self.published)
        checksum = self.checksum
        document: dict[str, Any] = {
            "@odata.mediaContentType": "application/octet-stream",
            "Id": self.id,
            "Name": self.name,
            "ContentType": "application/octet-stream",
            "ContentLength": self.content_length,
            "OriginDate": published,
            "PublicationDate": published,
            "ModificationDate": published,
            "Online": self.online,
            "EvictionDate": _NEVER,
            "S3Path": self.s3_path,
            "Checksum": []
            if checksum is None
            else [{"Value": checksum, "Algorithm": "MD5", "ChecksumDate": published}],
            "ContentDate": {"Start": instant(self.start), "End": instant(self.end)},
            "Footprint": None if self.footprint is None else f"geography'SRID=4326;{self.footprint.wkt}'",
            "GeoFootprint": None if self.footprint is None else shapely.geometry.mapping(self.footprint),
        }
        if attributes:
            document["Attributes"] = [_attribute(name, value) for name, value in self.attributes.items()]
        if assets:
            document["Assets"] = []
        return document

    @property
    def s3_path(self) -> str:
        """The product's path in the bucket; Collection 1 has its own prefix."""
        version = "_N0500" if "_N0500_" in self.name else ""
        return f"/eodata/Sentinel-2/MSI/L2A{version}/{self.start:%Y/%m/%d}/{self.name}"

    @classmethod
    def of_name(cls, name: ProductName, *, cloud_cover: float | None = None, **others: Any) -> Self:
        """An entry made from a product's name; ``others`` are attributes of the entry."""
        sensed = name.sensing_time + _MILLISECONDS
        return cls(
            name=name.folder,
            attributes=_attributes(name, sensed, cloud_cover),
            start=sensed,
            end=sensed,
            published=name.discriminator + timedelta(hours=1),
            **others,
        )

    @classmethod
    def of_folder(cls, folder: Path) -> Self:
        """The entry of a .SAFE folder.

        Raises
        ------
        ProductError
            If it is not that of a Level-2A product.
        """
        product = read_product(folder)
        return cls.of_name(
            product.name, cloud_cover=product.cloud_cover, footprint=product.footprint, folder=product.path
        )


class Catalogue:
    """The entries, in the order of their names; they can change while the server runs."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name)}

    @classmethod
    def of_folder(cls, folder: Path, settings: SandboxSettings) -> Self:
        """All products in ``folder``; one that cannot be read is left out with a warning in the log.

        Raises
        ------
        InputError
            If the settings name a product that is not there.
        """
        catalogue = cls(_read(folder))
        for field in ("offline", "forbidden", "null_footprints", "deleted"):
            for name in getattr(settings, field):
                if name not in catalogue:
                    raise InputError(field, name, f"is not a product in {folder}", "give names of .SAFE folders there")
        for name in settings.offline:
            catalogue.change(name, online=False)
        for name in settings.null_footprints:
            catalogue.change(name, footprint=None)
        return catalogue

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def by_id(self, identifier: str) -> Entry | None:
        """The entry of a UUID, whatever its case."""
        return next((entry for entry in self if entry.id == identifier.lower()), None)

    def add(self, entry: Entry) -> None:
        self._entries[entry.name] = entry

    def remove(self, name: str) -> None:
        """Delete a product, as CDSE does after reprocessing it."""
        del self._entries[name]

    def change(self, name: str, **changes: Any) -> None:
        """Replace attributes of an entry."""
        self._entries[name] = replace(self._entries[name], **changes)


def instant(time: datetime) -> str:
    """A time as the catalogue writes it: UTC, six decimals, Z."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


def value_type(value: Value) -> str:
    """The name of an attribute's type in OData."""
    match value:
        case datetime():
            return "DateTimeOffset"
        case bool():
            return "Boolean"
        case int():
            return "Integer"
        case float():
            return "Double"
        case _:
            return "String"


def _read(folder: Path) -> Iterator[Entry]:
    for path in product_paths(folder):
        try:
            yield Entry.of_folder(path)
        except (ProductError, OSError) as error:
            _logger.warning("left out of the sandbox's catalogue: %s", error)


def zipped(folder: Path) -> ZipStream:
    """``folder`` as an uncompressed zip, with the folder itself at its root, as CDSE packs products.

    It is written while it is sent: its size (``len``) is known beforehand, and the same files make the same bytes.
    """
    stream = ZipStream(sized=True)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        stream.add_path(path, str(path.relative_to(folder.parent)))
    return stream


def _attribute(name: str, value: Value) -> dict[str, Any]:
    kind = value_type(value)
    shown = instant(value) if isinstance(value, datetime) else value
    return {"@odata.type": f"#OData.CSC.{kind}Attribute", "Name": name, "Value": shown, "ValueType": kind}


def _attributes(name: ProductName, sensed: datetime, cloud_cover: float | None) -> dict[str, Value]:
    orbit, stamp = absolute_orbit(name), f"{name.discriminator:%Y%m%dT%H%M%S}"
    sensing = f"{name.sensing_time:%Y%m%dT%H%M%S}"
    origin = f"{name.mission}_OPER_MSI_L2A_{{}}_2APS_{stamp}_{{}}_N{name.baseline}"
    attributes: dict[str, Value] = {"origin": "ESA", "tileId": name.tile}
    if cloud_cover is not None:
        attributes["cloudCover"] = cloud_cover
    return attributes | {
        "datastripId": origin.format("DS", f"S{sensing}"),
        "orbitNumber": orbit,
        "processingDate": name.discriminator,
        "productGroupId": f"G{name.mission}_{sensing}_{orbit:06d}_N{name.baseline}",
        "operationalMode": "INS-NOBS",
        "processingLevel": "S2MSI2A",
        "processorVersion": name.baseline,
        "granuleIdentifier": origin.format("TL", f"A{orbit:06d}_T{name.tile}"),
        "platformShortName": "SENTINEL-2",
        "instrumentShortName": "MSI",
        "relativeOrbitNumber": name.relative_orbit,
        "platformSerialIdentifier": name.mission[2:],
        "productType": "S2MSI2A",
        "beginningDateTime": sensed,
        "endingDateTime": sensed,
    }
