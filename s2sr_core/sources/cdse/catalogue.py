"""The OData catalogue: which L2A products there are of an area and a time.

Copernicus Data Space documentation, "OData API": ``$top`` at most 1000, ``$skip`` at most 10000, no order without
``$orderby``, no ``@odata.nextLink`` on the last page and once the next skip would be beyond the limit; ``$count`` slows
a query down, and long periods should be split. So nothing is counted: a year is listed at a time, and what lies beyond
the last page of a query is found by a query that starts at the sensing time where that page ended.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import compress
from typing import Any

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from s2sr_core.errors import OtherKindError, ProductError
from s2sr_core.geo import geometry
from s2sr_core.products.names import ProductName
from s2sr_core.products.product_xml import number
from s2sr_core.sources.cdse.http import CdseError, Http
from s2sr_core.sources.source import RemoteProduct, UnusableEntry, s3_path_of

_PATH = "/odata/v1/Products"
_PAGE = 1000
_MOST = 10_000
#: Bytes that a product can have; the whole ones have up to 1.3 GB.
_LARGEST_SIZE = 10**12
#: Characters of a name; those of products have 65.
_LONGEST_NAME = 255
#: Sentinel-2A was launched on 2015-06-23.
_FIRST_YEAR = 2015
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Catalogue:
    """Searches the catalogue at ``url`` (base URL); ``page`` and ``most`` are its limits for ``$top`` and ``$skip``."""

    http: Http
    url: str
    page: int = _PAGE
    most: int = _MOST

    def search(self, area: Polygon, start: datetime, end: datetime) -> Iterator[RemoteProduct | UnusableEntry]:
        """Products of type S2MSI2A whose footprint meets ``area`` with start ≤ sensing time < end, by sensing time.

        One page is held at a time. No product is given twice, unless the catalogue lists it out of order.

        Raises
        ------
        CdseError
            If the catalogue refuses the query (with what it said), keeps failing, or cannot list all products.
        """
        for first, last in _years(start, end):
            since: _Since | None = _Since(first)
            while since is not None:
                since = yield from self._listed(area, since, last)

    def _listed(
        self, area: Polygon, since: _Since, end: datetime
    ) -> Generator[RemoteProduct | UnusableEntry, None, _Since | None]:
        """The entries of one query, page by page; returns where the next one starts if there may be more of them."""
        page = self._page(area, since.time, end)
        count = page.get("@odata.count")
        seen, reached = 0, _Since(since.time)
        followed: set[str] = set()
        while True:
            entries = page.get("value")
            if not isinstance(entries, list):
                raise CdseError(f"{self.url}: the answer contains no products")
            for entry, found in zip(entries, parse_entries(entries), strict=True):
                time = _sensing_time(entry)
                if time is not None and time < end:
                    reached.note(found.id, time)
                if found.id not in since.listed:
                    yield found
            seen += len(entries)
            following = page.get("@odata.nextLink")
            if not following:
                break
            if following in followed or len(followed) >= self.most:
                raise CdseError(f"{self.url}: its pages lead in a circle or have no end")
            followed.add(following)
            page = self.http.get_json(str(following))
        if followed or seen >= self.page:  # the last page and the end of paging look alike
            if reached.time > since.time:
                return reached
            if (len(followed) + 1) * self.page > self.most:
                moment = _odata_time(since.time)
                raise CdseError(f"{self.url}: lists only {seen} of the products of {moment}; give a smaller bbox")
        if isinstance(count, int) and seen < count:
            _logger.warning("%s counts %d products and lists %d, which are used", self.url, count, seen)
        return None

    def _page(self, area: Polygon, start: datetime, end: datetime) -> dict[str, Any]:
        params = {
            "$filter": query_filter(area, start, end),
            "$orderby": "ContentDate/Start asc",
            "$top": str(self.page),
            "$expand": "Attributes",
        }
        return self.http.get_json(self.url + _PATH, params)


@dataclass
class _Since:
    """A place in the listing: a sensing time, and the ids of the products of that time that were listed."""

    time: datetime
    listed: set[str] = field(default_factory=set)

    def note(self, product_id: str, time: datetime) -> None:
        """Go on to an entry; one before this place is out of order and does not move it."""
        if time >= self.time:
            if time > self.time:
                self.time, self.listed = time, set()
            self.listed.add(product_id)


def _years(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The parts of start … end that lie in one year each; years without Sentinel-2 products are not parted."""
    for year in range(_FIRST_YEAR + 1, datetime.now(UTC).year + 1):
        new_year = datetime(year, 1, 1, tzinfo=UTC)
        if start < new_year < end:
            yield start, new_year
            start = new_year
    yield start, end


def _sensing_time(entry: Any) -> datetime | None:
    """``ContentDate/Start``, to the millisecond, which is as exact as a query; None if the entry has none."""
    dates = entry.get("ContentDate") if isinstance(entry, dict) else None
    try:
        time = datetime.fromisoformat(dates["Start"]).astimezone(UTC) if isinstance(dates, dict) else None
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return None if time is None else time.replace(microsecond=time.microsecond // 1000 * 1000)


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


def parse_entries(entries: Sequence[Any]) -> list[RemoteProduct | UnusableEntry]:
    """The entries of ``value``, read from JSON, which is foreign input: nothing in it raises an exception."""
    identities = [_identity(entry) for entry in entries]
    usable = [not isinstance(identity, UnusableEntry) for identity in identities]
    footprints = iter(_footprints(list(compress(entries, usable))))
    return [
        identity if isinstance(identity, UnusableEntry) else _product(*identity, entry, next(footprints))
        for identity, entry in zip(identities, entries, strict=True)
    ]


def _identity(entry: Any) -> tuple[str, ProductName] | UnusableEntry:
    """Id and name, or why there is none."""
    if not isinstance(entry, dict):
        return UnusableEntry("", "", "is not an object")
    product_id, title = _text(entry.get("Id")), _text(entry.get("Name"))
    if not is_uuid(product_id):
        return UnusableEntry(product_id[:64], title, "has no UUID")
    try:
        name = ProductName.parse(title)
    except ProductError as error:
        return UnusableEntry(product_id, title, error.reason, is_other_kind=isinstance(error, OtherKindError))
    return product_id, name


def _product(
    product_id: str, name: ProductName, entry: Mapping[str, Any], footprint: Polygon | MultiPolygon | None
) -> RemoteProduct:
    size = entry.get("ContentLength")
    return RemoteProduct(
        id=product_id,
        name=name,
        size=size if type(size) is int and 0 <= size <= _LARGEST_SIZE else 0,
        cloud_cover=_attribute(entry, "cloudCover"),
        online=entry.get("Online") is not False,
        footprint=footprint,
        s3_path=s3_path_of(name, entry.get("S3Path")),
    )


def _text(value: object) -> str:
    """``value`` for a table and a screen: no longer than a name can be, without control characters."""
    text = value[:_LONGEST_NAME] if isinstance(value, str) else ""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "?" for character in text)


def _attribute(entry: Mapping[str, Any], name: str) -> float | None:
    attributes = entry.get("Attributes")
    for attribute in attributes if isinstance(attributes, list) else []:
        if isinstance(attribute, dict) and attribute.get("Name") == name:
            value = attribute.get("Value")
            return number(str(value)) if isinstance(value, int | float) else None
    return None


def _footprints(entries: Sequence[Mapping[str, Any]]) -> list[Polygon | MultiPolygon | None]:
    """From ``Footprint`` (EWKT in OData's quotes) or ``GeoFootprint`` (GeoJSON) of each, cut at ±180."""
    texts = [entry.get("Footprint") for entry in entries]
    shapes = geometry.from_wkt([_wkt(text) if isinstance(text, str) else "" for text in texts])
    shapes = [
        _from_geojson(entry.get("GeoFootprint")) if shape is None else shape
        for shape, entry in zip(shapes, entries, strict=True)
    ]
    return geometry.of_outlines(shapes)


def _wkt(text: str) -> str:
    return text.rpartition(";")[2].rstrip("'")


def _from_geojson(value: Any) -> BaseGeometry | None:
    if not isinstance(value, dict):
        return None
    try:
        with np.errstate(all="ignore"):  # numbers of any size
            shape: BaseGeometry | None = shapely.from_geojson(json.dumps(value), on_invalid="ignore")
    except (shapely.errors.ShapelyError, ValueError, RecursionError):  # ValueError: of half a character
        return None
    return shape


def _odata_time(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"
