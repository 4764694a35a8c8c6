"""The outlines of all composites of a folder as a GeoPackage, with counts, dates and paths, for a GIS."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import shapely

from s2sr_core.files import written_atomically
from s2sr_core.geo.gdal_runtime import gdal, ogr, osr
from s2sr_core.outputs.stac import PublishedItem

#: Attributes of a composite. ``location`` is what GDAL's own tile indices call the path, here below ``composites/``.
_FIELDS = {
    "cell_id": ogr.OFTString,
    "period": ogr.OFTString,
    "band": ogr.OFTString,
    "scenes": ogr.OFTInteger,
    "valid_share": ogr.OFTReal,
    "start": ogr.OFTDateTime,
    "end": ogr.OFTDateTime,
    "first_acquisition": ogr.OFTDateTime,
    "last_acquisition": ogr.OFTDateTime,
    "location": ogr.OFTString,
}
LAYER = "composites"


def write_tile_index(path: Path, items: Sequence[PublishedItem]) -> None:
    """Write one feature per composite, or remove the file if there are none."""
    if not items:
        path.unlink(missing_ok=True)
        return
    driver = ogr.GetDriverByName("GPKG")
    if driver is None:  # a GDAL built without SQLite
        return
    with written_atomically(path) as temporary:
        # GDAL warns of names that do not end in .gpkg, and puts the time of writing into the file.
        moment = max(str(item.content["properties"]["end_datetime"]) for item in items)
        with gdal.quiet_errors(), gdal.config_option("OGR_CURRENT_DATE", moment):
            source = driver.CreateDataSource(str(temporary))
            _fill(source, items)
            source.Close()


def _fill(source: ogr.DataSource, items: Sequence[PublishedItem]) -> None:
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(4326)
    reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    layer = source.CreateLayer(LAYER, reference, ogr.wkbMultiPolygon)
    for name, kind in _FIELDS.items():
        layer.CreateField(ogr.FieldDefn(name, kind))
    layer.StartTransaction()
    for item in items:
        outline = shapely.geometry.shape(item.content["geometry"])
        polygons = shapely.MultiPolygon(shapely.get_parts(outline).tolist())
        for values in _attributes(item):
            feature = ogr.Feature(layer.GetLayerDefn())
            for name, value in values.items():
                if value not in (None, ""):
                    feature.SetField(name, value)
            feature.SetGeometry(ogr.CreateGeometryFromWkb(shapely.to_wkb(polygons)))
            layer.CreateFeature(feature)
    layer.CommitTransaction()


def _attributes(item: PublishedItem) -> list[dict[str, Any]]:
    properties = item.content["properties"]
    times = {
        "start": properties["start_datetime"],
        "end": properties["end_datetime"],
        "first_acquisition": properties.get("s2sr:first_acquisition"),
        "last_acquisition": properties.get("s2sr:last_acquisition"),
    }
    return [
        {
            "cell_id": row["cell_id"],
            "period": row["period"],
            "band": row["band"],
            "scenes": int(row["scenes"] or 0),
            "valid_share": float(row["valid_share"] or 0),
            **{name: text and _shown(text) for name, text in times.items()},
            "location": row["path"],
        }
        for row in item.rows
    ]


def _shown(text: str) -> str:
    """A time as OGR reads it, UTC."""
    return f"{datetime.fromisoformat(text):%Y/%m/%d %H:%M:%S}+00"
