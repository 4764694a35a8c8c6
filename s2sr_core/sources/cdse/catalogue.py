"""The OData catalogue: which L2A products there are of an area and a time.

Copernicus Data Space documentation, "OData API": ``$top`` at most 1000, ``$skip`` at most 10000, no order without
``$orderby``, no ``@odata.nextLink`` on the last page and once the next skip would be beyond the limit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from s2sr_core.errors import OtherKindError, ProductError
from s2sr_core.geo import geometry
from s2sr_core.products.names import ProductName
from s2sr_core.products.product_xml import number
from s2sr_core.sources.cdse.http import CdseError, Http
from s2sr_core.sources.source import RemoteProduct, UnusableEntry

_PATH = "/odata/v1/Products"
_PAGE = 1000
#: A query with more products than this is split by time: pages beyond skip 10000 cannot be had.
_MOST = 10_000
#: Bytes that a product can have; the whole ones have up to 1.3 GB.
_LARGEST_SIZE = 10**12
#: Characters of a name; those of products have 65.
_LONGEST_NAME = 255
_SHORTEST = timedelta(seconds=1)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True)
class Catalogue:
    """Searches the catalogue at ``url`` (base URL); ``page`` and ``most`` are its limits."""

    http: Http
    url: str
    page: int = _PAGE
    most: int = _MOST

    def search(self, area: Polygon, start: datetime, end: datetime) -> Iterator[RemoteProduct | UnusableEntry]:
        """Products of type S2MSI2A whose footprint meets ``area`` with start ≤ sensing time < end, by sensing time.

        Raises
        ------
        CdseError
            If the catalogue refuses the query (with what it said), or keeps failing.
        """
        first = self._page(area, start, end)
        count = first.get("@odata.count")
        if isinstance(count, int) and count > self.most and end - start > _SHORTEST:
            middle = start + (end - start) / 2
            yield from self.search(area, start, middle)
            yield from self.search(area, middle, end)
            return
        page = first
        seen = 0
        followed: set[str] = set()
        while True:
            entries = page.get("value")
            if not isinstance(entries, list):
                raise CdseError(f"{self.url}: the answer contains no products")
            for entry in entries:
                yield parse_entry(entry)
            seen += len(entries)
            following = page.get("@odata.nextLink")
            if not following:
                break
            if following in followed:
                raise CdseError(f"{self.url}: its pages lead in a circle")
            followed.add(following)
            page = self.http.get_json(str(following))
        if isinstance(count, int) and seen < count:
            raise CdseError(f"{self.url}: gave {seen} of {count} products")

    def _page(self, area: Polygon, start: datetime, end: datetime) -> dict[str, Any]:
        params = {
            "$filter": query_filter(area, start, end),
            "$orderby": "ContentDate/Start asc",
            "$top": str(self.page),
            "$count": "True",
            "$expand": "Attributes",
        }
        return self.http.get_json(self.url + _PATH, params)


def query_filter(area: Polygon, start: datetime, end: datetime) -> str:
    """The ``$filter`` of a search; times are UTC, to the millisecond."""
    ring = ",".join(f"{x:.8f} {y:.8f}" for x, y in shapely.get_coordinates(area.exterior))
    product_type = (
        "Attributes/OData.CSC.StringAttribute/any(att:att/Name eq 'productType' and "
        "att/OData.CSC.StringAttribute/Value eq 'S2MSI2A')"
    )
    return " and ".join(
        [
            "Collection/Name eq 'SENTINEL-2'",
            product_type,
            f"OData.CSC.Intersects(area=geography'SRID=4326;POLYGON(({ring}))')",
            f"ContentDate/Start ge {_odata_time(start)}",
            f"ContentDate/Start lt {_odata_time(end)}",
        ]
    )


def is_uuid(text: str) -> bool:
    """Whether ``text`` is an id as the catalogue gives them; it becomes part of an address."""
    return _UUID.fullmatch(text) is not None


def parse_entry(entry: Any) -> RemoteProduct | UnusableEntry:
    """One entry of ``value``, which is foreign input: nothing in it raises an exception."""
    if not isinstance(entry, Mapping):
        return UnusableEntry("", "", "is not an object")
    product_id, title = (_text(entry.get(key)) for key in ("Id", "Name"))
    if not is_uuid(product_id):
        return UnusableEntry(product_id[:64], title, "has no UUID")
    try:
        name = ProductName.parse(title)
    except ProductError as error:
        return UnusableEntry(product_id, title, error.reason, is_other_kind=isinstance(error, OtherKindError))
    size = entry.get("ContentLength")
    return RemoteProduct(
        id=product_id,
        name=name,
        size=size if isinstance(size, int) and 0 <= size <= _LARGEST_SIZE else 0,
        cloud_cover=_attribute(entry, "cloudCover"),
        online=entry.get("Online") is not False,
        footprint=_footprint(entry),
    )


def _text(value: object) -> str:
    """``value`` for a table and a screen: no longer than a name can be, without control characters."""
    text = value if isinstance(value, str) else ""
    return "".join(character if character.isprintable() else "?" for character in text[:_LONGEST_NAME])


def _attribute(entry: Mapping[str, Any], name: str) -> float | None:
    attributes = entry.get("Attributes")
    for attribute in attributes if isinstance(attributes, list) else []:
        if isinstance(attribute, Mapping) and attribute.get("Name") == name:
            value = attribute.get("Value")
            return number(str(value)) if isinstance(value, int | float) else None
    return None


def _footprint(entry: Mapping[str, Any]) -> Polygon | MultiPolygon | None:
    """From ``Footprint`` (EWKT in OData's quotes) or ``GeoFootprint`` (GeoJSON), cut at ±180."""
    text = entry.get("Footprint")
    shape = None
    if isinstance(text, str):
        [shape] = geometry.from_wkt([text.rpartition(";")[2].rstrip("'")])
    if shape is None and isinstance(entry.get("GeoFootprint"), Mapping):
        try:
            shape = shapely.from_geojson(json.dumps(entry["GeoFootprint"]), on_invalid="ignore")
        except (shapely.errors.ShapelyError, ValueError, RecursionError):  # ValueError: of half a character
            return None
    if not isinstance(shape, Polygon | MultiPolygon) or shape.is_empty:
        return None
    rings = [shapely.get_coordinates(part.exterior) for part in shapely.get_parts(shape)]
    if not all(np.isfinite(ring).all() for ring in rings):
        return None
    return geometry.of_rings(rings)


def _odata_time(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"
