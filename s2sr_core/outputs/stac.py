"""The composites of a folder as a STAC collection: one item per cell and period, an asset per raster.

Items are made of what is on disk: the rows of the index, the records, and the headers of the GeoTIFFs. An item is
written after its composites are complete, is removed with them, and is kept as long as their records are the same.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pystac
import shapely
from pystac.extensions.eo import Band, EOExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import DataType, RasterBand, RasterExtension, Statistics

from s2sr_core import __version__
from s2sr_core.composites.cog import open_raster
from s2sr_core.composites.composite_index import Row, rows_in
from s2sr_core.composites.composite_names import name_of
from s2sr_core.composites.recorded_files import RecordedFile, recorded_files
from s2sr_core.composites.records import inputs_in, scenes_in
from s2sr_core.files import read_record, write_record
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.products.bands import SPECTRA
from s2sr_core.workspace import Workspace

logger = logging.getLogger(__name__)

#: Where CDSE's STAC describes a product.
_PRODUCTS = "https://stac.dataspace.copernicus.eu/v1/collections/sentinel-2-l2a/items"
_NOTICE = "https://sentinel.esa.int/documents/247904/690755/Sentinel_Data_Legal_Notice"
_PROCESSING = "https://stac-extensions.github.io/processing/v1.2.0/schema.json"
#: Type and length of the checksums, as a multihash begins: SHA-256, 32 bytes.
_SHA256 = "1220"
_KEYS = "s2sr:keys"


@dataclass(frozen=True, slots=True)
class PublishedItem:
    """An item of the collection.

    Attributes
    ----------
    path: of its file.
    content: as written, plain JSON.
    rows: those of the index that it describes.
    """

    path: Path
    content: Mapping[str, Any]
    rows: tuple[Row, ...]


def publish(workspace: Workspace) -> list[PublishedItem]:
    """Write the items of all composites that the folder's index lists, then the collection; gives the items."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows_in(workspace):
        if row["path"]:
            groups.setdefault((row["cell_id"], row["period"]), []).append(row)
    items = [item for key, rows in sorted(groups.items()) if (item := _published(workspace, *key, rows)) is not None]
    current = {item.path for item in items}
    for cells in ("*", "*/*"):
        for path in workspace.composites.glob(f"{cells}/cell_*_stac.json"):
            if path not in current:
                path.unlink(missing_ok=True)
    if items:
        write_record(workspace.collection, _collection(workspace, items).to_dict(transform_hrefs=False))
    else:
        workspace.collection.unlink(missing_ok=True)
    return items


def _published(workspace: Workspace, cell_id: str, period: str, rows: Sequence[Row]) -> PublishedItem | None:
    """The item of a cell and period, written if it is not there as it should be; None without any record."""
    records = {row["band"]: _Described.of(workspace.composites / row["path"], row) for row in rows}
    described = {band: each for band, each in records.items() if each is not None}
    path = workspace.stac_item(cell_id, period)
    if not described:
        path.unlink(missing_ok=True)
        return None
    keys = {band: each.key for band, each in described.items()}
    content = read_record(path)
    if content is None or content.get("properties", {}).get(_KEYS) != keys:
        try:
            item = _item(workspace, cell_id, period, described, keys)
        except (RuntimeError, KeyError, ValueError) as error:  # a file of an earlier version, or that somebody changed
            logger.warning("no STAC item of gridcell %s %s: %r", cell_id, period, error)
            return None
        content = item.to_dict(include_self_link=False, transform_hrefs=False)
        write_record(path, content)
    return PublishedItem(path, content, tuple(row for row in rows if row["band"] in described))


@dataclass(frozen=True, slots=True)
class _Described:
    """A composite with its record."""

    path: Path
    row: Row
    record: Mapping[str, Any]
    inputs: Mapping[str, Any]

    @classmethod
    def of(cls, path: Path, row: Row) -> _Described | None:
        record = read_record(path.with_suffix(".json")) or {}
        inputs = inputs_in(record)
        return None if inputs is None or path.name not in recorded_files(record) else cls(path, row, record, inputs)

    @property
    def key(self) -> str:
        """Other rasters have another key."""
        return f"{self.record.get('key')} {' '.join(sorted(recorded_files(self.record)))}"

    def assets(self) -> Iterator[tuple[str, Path, RecordedFile]]:
        """Each raster with its key, the name of its variable."""
        for name, file in recorded_files(self.record).items():
            path = self.path.with_name(name)
            if (parts := name_of(path)) is not None:
                yield parts.variable, path, file


# ------------------------------------------------------------------------------------------------------------- an item


def _item(
    workspace: Workspace, cell_id: str, period: str, described: Mapping[str, _Described], keys: Mapping[str, str]
) -> pystac.Item:
    first = next(iter(described.values()))
    polygon = shapely.from_wkt(str(first.inputs["polygon"]))
    with open_raster(first.path) as raster:
        tags = raster.GetMetadata()
        place = _projection(raster)
    start, end = (_time(text) for text in tags["PERIOD"].split("/"))
    products = sorted({product for each in described.values() for product in scenes_in(each.inputs)})
    item = pystac.Item(
        id="_".join(filter(None, (cell_id, period))),
        geometry=shapely.geometry.mapping(polygon),
        bbox=list(polygon.bounds),
        datetime=start,
        start_datetime=start,
        end_datetime=end,
        properties={
            "title": " ".join(filter(None, ("Sentinel-2 composite of gridcell", cell_id, period))),
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            "processing:level": "L3",
            "processing:software": {"s2sr": __version__},
            "processing:lineage": f"{tags['STATISTIC']} of {len(products)} Level-2A products; mask: {tags['MASK']}",
            "s2sr:attribution": tags["TIFFTAG_COPYRIGHT"],
            "s2sr:first_acquisition": tags.get("FIRST_ACQUISITION"),
            "s2sr:last_acquisition": tags.get("LAST_ACQUISITION"),
            _KEYS: dict(keys),
        },
        collection=_collection_id(workspace),
    )
    item.stac_extensions.append(_PROCESSING)
    ProjectionExtension.ext(item, add_if_missing=True).apply(**place)
    folder = workspace.cell_folder(cell_id, period)
    for each in described.values():
        for key, path, file in each.assets():
            _add_raster(item, key, path, file, each.row["band"] if path == each.path else None)
        record = each.path.with_suffix(".json")
        item.add_asset(
            f"{each.row['band']}_record",
            pystac.Asset(f"./{record.name}", media_type=pystac.MediaType.JSON, roles=["metadata"]),
        )
    if (picture := workspace.quicklook(cell_id, period)).exists():
        roles = ["thumbnail"]
        item.add_asset("thumbnail", pystac.Asset(f"./{picture.name}", media_type=pystac.MediaType.PNG, roles=roles))
    collection = os.path.relpath(workspace.collection, folder)
    for relation in (pystac.RelType.ROOT, pystac.RelType.PARENT, pystac.RelType.COLLECTION):
        item.add_link(pystac.Link(relation, collection, media_type=pystac.MediaType.JSON))
    for product in products:
        link = pystac.Link(pystac.RelType.DERIVED_FROM, f"{_PRODUCTS}/{product}", pystac.MediaType.GEOJSON, product)
        item.add_link(link)
    return item


def _add_raster(item: pystac.Item, key: str, path: Path, file: RecordedFile, band: str | None) -> None:
    """Add an asset; that of the composite itself names its ``band``, so that no common name has two assets."""
    with open_raster(path) as raster:
        layer = raster.GetRasterBand(1)
        metadata, unit, nodata = layer.GetMetadata(), layer.GetUnitType(), layer.GetNoDataValue()
        kind = gdal.GetDataTypeName(layer.DataType).lower()
        title = layer.GetDescription()
    asset = pystac.Asset(f"./{path.name}", title, media_type=pystac.MediaType.COG, roles=["data"])
    item.add_asset(key, asset)
    FileExtension.ext(asset, add_if_missing=True).apply(checksum=f"{_SHA256}{file.sha256}", size=file.size)
    scale = metadata.get("REFLECTANCE_SCALE")
    statistics = {name: metadata.get(f"STATISTICS_{name.upper()}") for name in ("minimum", "maximum", "mean", "stddev")}
    numbers = {name: float(text) for name, text in statistics.items() if text is not None}
    described = RasterBand.create(
        nodata=nodata,
        data_type=DataType(kind),
        unit=unit or None,
        scale=None if scale is None else float(scale),
        offset=None if scale is None else 0.0,
        statistics=Statistics.create(**numbers) if numbers else None,
    )
    RasterExtension.ext(asset, add_if_missing=True).apply(bands=[described])
    if band is not None:
        spectrum = SPECTRA[band]
        of_band = Band.create(
            name=band,
            common_name=spectrum.common_name,
            center_wavelength=spectrum.centre,
            full_width_half_max=spectrum.width,
        )
        EOExtension.ext(asset, add_if_missing=True).apply(bands=[of_band])


def _projection(raster: gdal.Dataset) -> dict[str, Any]:
    """What the projection extension says of a raster."""
    left, dx, rx, top, ry, dy = raster.GetGeoTransform()
    reference = raster.GetSpatialRef()
    authority, code = reference.GetAuthorityName(None), reference.GetAuthorityCode(None)
    named = {"code": f"{authority}:{code}"} if authority and code else {"wkt2": reference.ExportToWkt(["FORMAT=WKT2"])}
    return {**named, "shape": [raster.RasterYSize, raster.RasterXSize], "transform": [dx, rx, left, ry, dy, top]}


# ------------------------------------------------------------------------------------------------------ the collection


def _collection(workspace: Workspace, items: Sequence[PublishedItem]) -> pystac.Collection:
    boxes = [item.content["bbox"] for item in items]
    whole = [
        *(min(box[side] for box in boxes) for side in (0, 1)),
        *(max(box[side] for box in boxes) for side in (2, 3)),
    ]
    times = [item.content["properties"] for item in items]
    interval = [min(time["start_datetime"] for time in times), max(time["end_datetime"] for time in times)]
    collection = pystac.Collection(
        id=_collection_id(workspace),
        title=f"Sentinel-2 composites, {workspace.work_dir.name}",
        description="Composites of Sentinel-2 Level-2A surface reflectance, one item per gridcell and period, by s2sr. "
        "Contains modified Copernicus Sentinel data.",
        license="other",
        keywords=["Sentinel-2", "composite", "surface reflectance"],
        providers=[
            pystac.Provider(
                "Copernicus Sentinel-2, ESA",
                roles=[pystac.ProviderRole.PRODUCER, pystac.ProviderRole.LICENSOR],
                url="https://dataspace.copernicus.eu",
            )
        ],
        extent=pystac.Extent(
            pystac.SpatialExtent([whole]), pystac.TemporalExtent([[_time(interval[0]), _time(interval[1])]])
        ),
    )
    collection.add_link(pystac.Link("license", _NOTICE, title="Legal notice on the use of Copernicus Sentinel data"))
    for item in items:
        href = f"./{item.path.relative_to(workspace.composites).as_posix()}"
        collection.add_link(pystac.Link(pystac.RelType.ITEM, href, pystac.MediaType.GEOJSON, item.content["id"]))
    return collection


def _collection_id(workspace: Workspace) -> str:
    return f"s2sr-{workspace.work_dir.name}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
