from __future__ import annotations

import itertools
import json
import re
import tracemalloc
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest
import shapely

from s2sr_core.products.names import ProductName
from s2sr_core.sources.cdse.catalogue import Catalogue, parse_entries, query_filter
from s2sr_core.sources.cdse.http import CdseError, Http
from s2sr_core.sources.source import RemoteProduct, UnusableEntry
from s2sr_sandbox.server import Catalogue as Entries
from s2sr_sandbox.server import Entry, Fault

AREA = shapely.box(-149.7, 68.6, -149.5, 68.7)
START, END = datetime(2019, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)


@dataclass
class Replay(Http):
    """Recorded answers in place of a server: the first page for a query, the others by their nextLink."""

    first: dict[str, Any] = field(default_factory=dict)
    pages: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, Mapping[str, str] | None]] = field(default_factory=list)

    def get_json(self, url: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        self.asked.append((url, params))
        return self.first if params is not None else self.pages[url]


def test_the_recorded_pages_are_followed_by_their_links(shared_data: Path) -> None:
    """Three consecutive pages as CDSE gave them (of Sentinel-1, so no entry of them can be used)."""
    pages = [json.loads((shared_data / "cdse" / f"odata_page_{n}.json").read_text()) for n in (1, 2, 3)]
    for page in pages:
        page.pop("@odata.count", None)
    links = [page["@odata.nextLink"] for page in pages[:2]]
    pages[2].pop("@odata.nextLink", None)
    replay = Replay(("https://catalogue.dataspace.copernicus.eu",), first=pages[0])
    replay.pages = dict(zip(links, pages[1:], strict=True))
    year = (START, START + timedelta(days=365))
    found = list(Catalogue(replay, "https://catalogue.dataspace.copernicus.eu").search(AREA, *year))
    expected = [entry["Name"] for page in pages for entry in page["value"]]
    assert [entry.title for entry in found if isinstance(entry, UnusableEntry)] == expected
    assert [url for url, _ in replay.asked[1:3]] == links


def test_recorded_sentinel_2_entries_are_read(shared_data: Path) -> None:
    """Level-1C is all that was recorded: the same entries under an L2A name give what stands in them."""
    page = json.loads((shared_data / "cdse" / "odata_sentinel2_l1c_page.json").read_text())
    assert page["value"]
    for entry in page["value"]:
        [refused] = parse_entries([entry])
        assert isinstance(refused, UnusableEntry)
        renamed = dict(entry, Name=entry["Name"].replace("MSIL1C", "MSIL2A"))
        [found] = parse_entries([renamed])
        if isinstance(found, UnusableEntry):
            assert "named" in found.reason  # old entries have other names
            continue
        assert (found.id, found.size, found.online) == (entry["Id"], entry["ContentLength"], entry["Online"])
        wkt = re.search(r"POLYGON\s*\(\(.*\)\)", entry["Footprint"])
        assert wkt is not None
        assert found.footprint is not None
        expected = shapely.from_wkt(wkt[0])
        if expected.bounds[2] - expected.bounds[0] < 180:
            assert found.footprint.symmetric_difference(expected).area < 1e-9
        clouds = [a["Value"] for a in entry["Attributes"] if a["Name"] == "cloudCover"]
        assert found.cloud_cover == (clouds[0] if clouds else None)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"Footprint": None}, None),
        ({"Footprint": None, "GeoFootprint": None}, None),
        ({"Footprint": "geography'SRID=4326;POLYGON ((0 0, 1"}, None),
        ({"Footprint": "geography'SRID=4326;POINT (0 0)'"}, None),
        ({"Footprint": "geography'SRID=4326;MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)), ((2 0, 3 0, 3 1, 2 0)))'"}, 1.0),
        (
            {"Footprint": None, "GeoFootprint": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}},
            0.5,
        ),
        ({"Footprint": "geography'SRID=4326;POLYGON ((179 0, -179 0, -179 1, 179 1, 179 0))'"}, 2.0),
        ({"Footprint": 7}, None),
    ],
)
def test_odd_footprints(change: dict[str, Any], expected: float | None) -> None:
    entry = {"Id": "a" * 8 + "-0000-0000-0000-" + "b" * 12, "Name": NAMES[0] + ".SAFE", "ContentLength": 0} | change
    [found] = parse_entries([entry])
    assert isinstance(found, RemoteProduct)
    assert (None if found.footprint is None else found.footprint.area) == expected


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        {},
        {"Id": "../../etc", "Name": "x"},
        {"Id": "00000000-0000-0000-0000-000000000000", "Name": None},
        {"Id": 3, "Name": "S2A_MSIL2A_20190701T214529_N0214_R072_T05WPM_20190702T014529.SAFE"},
    ],
)
def test_entries_that_cannot_be_used_are_no_exception(entry: Any) -> None:
    assert isinstance(parse_entries([entry])[0], UnusableEntry)


@pytest.mark.parametrize(
    ("name", "is_other_kind"),
    [
        ("S2A_MSIL2A_20250701T214529_N0511_R072_T05WPM_20250702T014529.zarr", True),
        ("S2A_MSIL2A_20250701T214529_N0511_R072_T05WPM_20250702T014529.SAFE.zarr", True),
        ("S2A_MSIL2A_20250701T214529_N0511_R072_T05WPM_20250702T014529_COG.SAFE", True),
        ("S2A_MSIL1C_20250701T214529_N0511_R072_T05WPM_20250702T014529.SAFE", True),
        ("S2A_OPER_AUX_GNSSRD_POD__20171211T090358_V20151217T235941_20151218T235941", True),
        ("S2A_MSIL2A_20250701T214529_N511_R072_T05WPM_20250702T014529.SAFE", False),
        ("S2A_MSIL2A_20250731T214529_N0511_R072_T61WPM_20250702T014529.SAFE", False),
        ("S2A_OPER_PRD_MSIL2A_PDMC_20160401T000000_R072_V20160401T000000_20160401T000000.SAFE", False),
        ("", False),
        ("nonsense", False),
    ],
)
def test_products_of_another_kind_are_told_from_broken_entries(name: str, is_other_kind: bool) -> None:
    [found] = parse_entries([{"Id": "00000000-0000-0000-0000-000000000000", "Name": name}])
    assert isinstance(found, UnusableEntry)
    assert found.is_other_kind is is_other_kind
    assert found.reason


NAMES = [
    str(ProductName("S2A", START + timedelta(hours=n), "02.14", 72, "05WPM", START + timedelta(days=9)))
    for n in range(23)
]


def entries() -> Entries:
    """Twenty-three products, an hour apart."""
    return Entries(Entry.of_name(ProductName.parse(name), footprint=AREA) for name in NAMES)


def found_names(catalogue: Catalogue, start: datetime = START, end: datetime = END) -> list[str]:
    found = list(catalogue.search(AREA, start, end))
    assert all(isinstance(entry, RemoteProduct) for entry in found)
    return [str(entry.name) for entry in found if isinstance(entry, RemoteProduct)]


def queries(client) -> list[str]:
    return [request.query for request in client.sandbox.requests if request.host == "catalogue"]


def test_pages_are_followed_to_the_last_and_long_periods_are_asked_for_by_year(connect) -> None:
    """The first year has five pages, after which one more query sees that nothing follows; the others are empty."""
    client = connect(entries(), top_max=5)
    assert found_names(client.catalogue(page=5)) == NAMES
    asked = queries(client)
    assert ["%24skip" in query or "$skip" in query for query in asked] == [False] + 4 * [True] + 6 * [False]
    starts = [re.search(r"Start ge (\S+)", unquote_plus(query)) for query in asked]
    assert [start[1][:16] for start in (starts[0], *starts[5:]) if start is not None] == [
        "2019-01-01T00:00",
        "2019-01-01T22:00",
        *(f"{year}-01-01T00:00" for year in range(2020, 2025)),
    ]
    assert not [query for query in asked if "count" in query]


def test_years_without_sentinel_2_are_not_asked_for_one_by_one(connect) -> None:
    client = connect(entries())
    assert found_names(client.catalogue(), datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)) == NAMES
    assert len(queries(client)) == datetime.now(UTC).year - 2015 + 1


def test_what_lies_beyond_the_last_page_is_found_from_the_last_sensing_time_on(connect) -> None:
    """Skip ends at 6, so a query gives 8 products at the most: 23 of them are found once each all the same."""
    client = connect(entries(), top_max=2, skip_max=6)
    assert found_names(client.catalogue(page=2)) == NAMES


def test_products_of_one_sensing_time_are_found_wherever_paging_ends(connect) -> None:
    """Four granules of each datatake have one time, and the seventh page ends within a datatake."""
    tiles = ("05WPM", "05WPN", "05WPP", "05WPQ")
    names = [
        str(ProductName("S2A", START + timedelta(hours=n), "02.14", 72, tile, START + timedelta(days=9)))
        for n in range(12)
        for tile in tiles
    ]
    client = connect(Entries(Entry.of_name(ProductName.parse(n), footprint=AREA) for n in names), skip_max=11)
    found = found_names(client.catalogue(page=2))
    assert len(found) == len(set(found))
    assert sorted(found) == sorted(names)


def test_more_products_of_one_sensing_time_than_can_be_listed_are_an_error_and_not_silence(connect) -> None:
    same = [f"S2A_MSIL2A_20190701T214529_N0214_R072_T{n:02}WPM_20190702T014529" for n in range(1, 24)]
    client = connect(Entries(Entry.of_name(ProductName.parse(n), footprint=AREA) for n in same), skip_max=6)
    with pytest.raises(
        CdseError, match=r"lists only 8 of the products of 2019-07-01T21:45:29\.024Z; give a smaller bbox"
    ):
        found_names(client.catalogue(page=2, most=6))


def test_a_count_above_what_is_listed_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    """Products are deleted while they are listed, and some are counted twice."""
    replay = Replay(("https://catalogue.dataspace.copernicus.eu",))
    replay.first = {"@odata.count": 3, "value": [], "@odata.nextLink": "https://catalogue.dataspace.copernicus.eu/2"}
    documents = [entry.document(attributes=True, assets=False) for entry in entries()]
    replay.pages = {"https://catalogue.dataspace.copernicus.eu/2": {"value": documents[:2]}}
    catalogue = Catalogue(replay, "https://catalogue.dataspace.copernicus.eu")
    with caplog.at_level("WARNING", "s2sr_core"):
        found = list(catalogue.search(AREA, START + timedelta(days=1), START + timedelta(days=2)))
    assert [str(entry.name) for entry in found if isinstance(entry, RemoteProduct)] == NAMES[:2]
    assert "counts 3 products and lists 2, which are used" in caplog.text


def test_one_page_is_held_at_a_time() -> None:
    """Whatever is done with the products: twenty pages take the memory of a few."""
    document = next(iter(entries())).document(attributes=True, assets=False)
    page = json.dumps({"value": [document] * 20})

    @dataclass
    class Long(Http):
        asked: int = 0

        def get_json(self, url: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
            self.asked += 1
            found: dict[str, Any] = json.loads(page)
            return found | ({"@odata.nextLink": f"{url}{self.asked}"} if self.asked < 20 else {})

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            listed = Catalogue(Long(("https://a.org",)), "https://a.org").search(AREA, START, START + timedelta(days=9))
            assert sum(1 for _ in itertools.islice(listed, count)) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(400) < 2 * peak(60)


def test_the_window_is_half_open(connect) -> None:
    client = connect(entries())
    assert found_names(client.catalogue(), START + timedelta(hours=2), START + timedelta(hours=5)) == NAMES[2:5]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_what_passes_is_tried_again(connect, status: int) -> None:
    client = connect(entries())
    client.sandbox.faults.add(Fault.error("/Products", status, host="catalogue", times=2))
    assert found_names(client.catalogue()) == NAMES


def test_an_html_page_with_status_200_is_tried_again(connect) -> None:
    client = connect(entries())
    client.sandbox.faults.add(Fault.html("/Products", host="catalogue", times=2))
    assert found_names(client.catalogue()) == NAMES


def test_what_does_not_pass_ends_in_an_error_that_shows_what_the_server_said(connect) -> None:
    client = connect(entries())
    client.sandbox.faults.add(Fault.error("/Products", 503, "X", "down for the day", host="catalogue"))
    with pytest.raises(CdseError, match=r"HTTP 503: .*down for the day"):
        found_names(client.catalogue())
    client.sandbox.faults.clear()
    asked = len(client.sandbox.requests)
    with pytest.raises(CdseError, match=r"HTTP 422: .*less_than_equal|HTTP 422: .*\$top"):
        found_names(client.catalogue(page=5000))
    assert len(client.sandbox.requests) == asked + 1  # a refusal is final


def test_a_next_link_to_a_foreign_host_is_refused(connect) -> None:
    client = connect(entries(), top_max=5)
    body = {"value": [], "@odata.nextLink": "http://127.0.0.1:9/odata/v1/Products?$skip=5"}
    client.sandbox.faults.add(
        Fault.answer("/Products", 200, json.dumps(body), headers={"content-type": "application/json"})
    )
    with pytest.raises(CdseError, match="not one of its known hosts"):
        found_names(client.catalogue(page=5))


def test_the_filter_is_odatas_language() -> None:
    text = query_filter(shapely.box(-150, 68, -149, 69), START, datetime(2019, 8, 31, 12, 30, 15, 250_000, tzinfo=UTC))
    assert "ContentDate/Start ge 2019-01-01T00:00:00.000Z" in text
    assert "ContentDate/Start lt 2019-08-31T12:30:15.250Z" in text
    assert "POLYGON((-149.00000000 68.00000000," in text
    assert "'S2MSI2A'" in text


def test_pages_that_lead_in_a_circle_end(connect) -> None:
    client = connect(entries(), top_max=5)
    body = {"value": [], "@odata.nextLink": f"{client.sandbox.catalogue_url}/odata/v1/Products?again"}
    client.sandbox.faults.add(
        Fault.answer("/Products", 200, json.dumps(body), headers={"content-type": "application/json"})
    )
    with pytest.raises(CdseError, match="in a circle"):
        found_names(client.catalogue(page=5))
