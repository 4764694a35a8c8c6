import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from s2sr_core.products.names import ProductName
from s2sr_sandbox.server import Catalogue, Entry, SandboxSettings, running
from s2sr_sandbox.server.odata_query import next_page

SENTINEL_2 = "Collection/Name eq 'SENTINEL-2'"
PAGES = ("odata_page_1.json", "odata_page_2.json", "odata_page_3.json", "odata_sentinel2_l1c_page.json")


def _shape(value: Any) -> Any:
    """The keys, in their order, and types of JSON."""
    match value:
        case dict():
            return [(key, _shape(item)) for key, item in value.items()]
        case list():
            return sorted({repr(_shape(item)) for item in value})
        case _:
            return type(value).__name__


# -------------------------------------------------------------------------------------------------- recorded answers


def test_a_product_has_the_keys_and_types_of_a_recorded_one(client: Any, shared_data: Path) -> None:
    real = json.loads((shared_data / "cdse" / "odata_sentinel2_l1c_page.json").read_text())
    query = parse_qsl(urlsplit(real["@odata.nextLink"]).query)
    params = [("$filter", SENTINEL_2), *[(key, value) for key, value in query if key == "$expand"], ("$top", "2")]
    ours = requests.get(f"{client.sandbox.catalogue_url}/odata/v1/Products", params=params, timeout=10).json()
    assert list(ours) == list(real)
    assert ours["@odata.context"] == real["@odata.context"]
    for product in ours["value"]:
        for recorded in real["value"]:
            assert list(product) == list(recorded)
            for key in set(recorded) - {"Attributes", "Assets"}:
                assert _shape(product[key]) == _shape(recorded[key]), key
            attributes = {item["Name"]: item for item in product["Attributes"]}
            for item in recorded["Attributes"]:
                assert _shape(attributes[item["Name"]]) == _shape(item)
                assert attributes[item["Name"]]["@odata.type"] == item["@odata.type"]
                assert attributes[item["Name"]]["ValueType"] == item["ValueType"]


@pytest.mark.parametrize("page", PAGES)
def test_next_links_are_written_as_recorded(shared_data: Path, page: str) -> None:
    link = json.loads((shared_data / "cdse" / page).read_text())["@odata.nextLink"]
    query = urlsplit(link).query
    pairs = parse_qsl(query)
    skip = int(dict(pairs)["$skip"])
    assert next_page([(key, "0" if key == "$skip" else value) for key, value in pairs], skip) == query
    if pairs[-1][0] == "$skip":  # as on the page whose query had none
        assert next_page(pairs[:-1], skip) == query


def test_recorded_products_of_another_collection_keep_their_envelope(client: Any, shared_data: Path) -> None:
    real = json.loads((shared_data / "cdse" / "odata_page_1.json").read_text())
    pairs = parse_qsl(urlsplit(real["@odata.nextLink"]).query)[:-1]
    ours = requests.get(f"{client.sandbox.catalogue_url}/odata/v1/Products", params=pairs, timeout=10).json()
    assert ours == {"@odata.context": real["@odata.context"], "@odata.count": 0, "value": []}


# ------------------------------------------------------------------------------------------------------------ entries


def test_what_a_product_says(client: Any, archive: Path, names: list[str]) -> None:
    name = ProductName.parse(names[0])
    product = client.products(filter=f"Name eq '{names[0]}'", expand="Attributes").json()["value"][0]
    assert product["Id"] == str(uuid.uuid5(uuid.NAMESPACE_URL, names[0]))
    assert product["ContentDate"]["Start"] == f"{name.sensing_time:%Y-%m-%dT%H:%M:%S}.024000Z"
    assert product["S3Path"] == f"/eodata/Sentinel-2/MSI/L2A/{name.sensing_time:%Y/%m/%d}/{names[0]}"
    assert product["Footprint"].startswith("geography'SRID=4326;POLYGON ((-149.")
    ring = product["GeoFootprint"]["coordinates"][0]
    assert (
        product["Footprint"] == f"geography'SRID=4326;POLYGON (({', '.join(f'{x:.15g} {y:.15g}' for x, y in ring)}))'"
    )
    attributes = {item["Name"]: item["Value"] for item in product["Attributes"]}
    assert attributes["tileId"] == name.tile == "06WUB"
    assert attributes["processorVersion"] == name.baseline
    assert attributes["relativeOrbitNumber"] == name.relative_orbit
    assert attributes["productType"] == "S2MSI2A"
    metadata = (archive / names[0] / "MTD_MSIL2A.xml").read_text()
    assert f">{attributes['cloudCover']:.6f}<" in metadata


def test_collection_1_lies_under_another_prefix(client: Any) -> None:
    products = client.products(filter="contains(Name,'_N0500_')").json()["value"]
    assert [product["S3Path"].split("/")[4] for product in products] == ["L2A_N0500"]


def test_one_product_by_its_id(client: Any, names: list[str]) -> None:
    base = f"{client.sandbox.catalogue_url}/odata/v1"
    product = client.sandbox.catalogue[names[3]]
    one = requests.get(f"{base}/Products({product.id})", timeout=10).json()
    assert one["Name"] == names[3]
    assert one["@odata.context"] == "$metadata#Products/$entity"
    assert "Attributes" not in one
    more = requests.get(f"{base}/Products({product.id.upper()})?$expand=Attributes", timeout=10).json()
    assert more["Attributes"]
    assert requests.get(f"{base}/Products({uuid.uuid4()})", timeout=10).status_code == 404
    assert requests.get(f"{base}/Products(nonsense)", timeout=10).status_code == 422
    assert requests.get(f"{base}/Nothing(1)", timeout=10).status_code == 400


def test_attributes_of_the_collection(client: Any) -> None:
    base = f"{client.sandbox.catalogue_url}/odata/v1"
    listed = requests.get(f"{base}/Attributes(SENTINEL-2)", timeout=10).json()
    assert {"Name": "cloudCover", "ValueType": "Double"} in listed
    assert requests.get(f"{base}/Attributes(SENTINEL-9)", timeout=10).status_code == 404


def test_unreadable_products_are_left_out(tmp_path: Path, archive: Path, names: list[str], caplog: Any) -> None:
    (tmp_path / names[0]).symlink_to(archive / names[0])
    (tmp_path / "nonsense.SAFE").mkdir()
    with running(tmp_path) as sandbox:
        assert [entry.name for entry in sandbox.catalogue] == [names[0]]
    assert "nonsense" in caplog.text


# ------------------------------------------------------------------------------------------------------------ options


def test_without_expand_there_are_no_attributes(client: Any) -> None:
    page = client.products(filter=SENTINEL_2).json()
    assert page["@odata.context"] == "$metadata#Products"
    assert "Attributes" not in page["value"][0]
    assert "@odata.count" not in page


@pytest.mark.parametrize("yes", ["True", "true", "1"])
def test_count_is_that_of_all_matches(client: Any, yes: str) -> None:
    assert client.products(filter=SENTINEL_2, count=yes, top="2").json()["@odata.count"] == 9


def test_select_gives_the_keys_asked_for(client: Any) -> None:
    page = client.products(select="Id,Name", top="1").json()
    assert list(page["value"][0]) == ["@odata.mediaContentType", "Id", "Name"]
    assert client.products(select="Nmae").status_code == 400


@pytest.mark.parametrize("field", ["ContentDate/Start", "ContentDate/End", "PublicationDate", "ModificationDate"])
def test_order_with_the_id_behind_it(client: Any, field: str) -> None:
    def key(product: dict[str, Any]) -> str:
        outer, _, inner = field.partition("/")
        return product[outer][inner] if inner else product[outer]

    up = client.products(orderby=field).json()["value"]
    down = client.products(orderby=f"{field} desc").json()["value"]
    assert up == client.products(orderby=f"{field} asc").json()["value"]
    assert up == sorted(up, key=lambda product: (key(product), product["Id"]))
    assert [key(product) for product in down] == sorted(map(key, up), reverse=True)


def test_paging_sees_every_product_once(client: Any, names: list[str]) -> None:
    page = client.products(filter=SENTINEL_2, orderby="ContentDate/Start asc", top="4", count="True").json()
    seen, pages = [product["Name"] for product in page["value"]], 1
    while "@odata.nextLink" in page:
        link = page["@odata.nextLink"]
        assert link.startswith(f"{client.sandbox.catalogue_url}/odata/v1/Products?%24filter=Collection%2FName+eq+")
        page = requests.get(link, timeout=10).json()
        seen, pages = seen + [product["Name"] for product in page["value"]], pages + 1
    assert seen == names
    assert pages == 3


def test_the_default_page_and_its_limit(serve: Any) -> None:
    client = serve(page=3, top_max=5, skip_max=6)
    assert len(client.products().json()["value"]) == 3
    assert len(client.products(top="5").json()["value"]) == 5
    assert client.products(top="0").json() == {"@odata.context": "$metadata#Products", "value": []}
    page = client.products(top="3", skip="3").json()
    assert "%24skip=6" in page["@odata.nextLink"]
    assert "@odata.nextLink" not in client.products(top="3", skip="6").json()  # the last page
    assert "@odata.nextLink" not in client.products(top="2", skip="5").json()  # two are left, 7 is past the limit


def test_a_skip_past_the_limit_answers_as_recorded(client: Any) -> None:
    answer = client.products(skip="10001")
    assert answer.status_code == 422
    assert answer.text == (
        '{"detail":[{"type":"less_than_equal","loc":["query","$skip"],"msg":"Input should be less than or equal to '
        '10000","input":"10001","ctx":{"le":10000}}]}'
    )
    assert client.products(skip="10000").json()["value"] == []


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("top", "1001", "less_than_equal"),
        ("top", "-1", "greater_than_equal"),
        ("skip", "-1", "greater_than_equal"),
        ("skip", "ten", "int_parsing"),
        ("top", "9" * 5000, "int_parsing_size"),
        ("count", "perhaps", "bool_parsing"),
    ],
)
def test_options_out_of_their_limits(client: Any, option: str, value: str, kind: str) -> None:
    answer = client.products(**{option: value})
    assert answer.status_code == 422
    (detail,) = answer.json()["detail"]
    assert (detail["type"], detail["loc"], detail["input"]) == (kind, ["query", f"${option}"], value)


@pytest.mark.parametrize(
    "query",
    [
        "$orderby=Name",
        "$orderby=ContentDate/Start%20sideways",
        "$expand=Everything",
        "$filter=%ff",
        "$filter=" + "(" * 5000,
        "&".join(f"a{n}=1" for n in range(200)),
    ],
)
def test_what_is_not_understood_answers_400(client: Any, query: str) -> None:
    answer = requests.get(f"{client.sandbox.catalogue_url}/odata/v1/Products?{query}", timeout=10)
    assert answer.status_code == 400
    assert isinstance(answer.json()["detail"], str)


# ------------------------------------------------------------------------------------- many, odd and changing products


def _many(count: int) -> Catalogue:
    name = ProductName.parse("S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126")
    start = datetime(2022, 4, 1, tzinfo=UTC)
    others = [
        ProductName(name.mission, start + timedelta(minutes=n), "04.00", 25, "33XWJ", start + timedelta(days=99))
        for n in range(count)
    ]
    return Catalogue([Entry.of_name(other, size=0, online=n % 2 == 0) for n, other in enumerate(others)])


def test_more_products_than_can_be_paged_through() -> None:
    with running(_many(45), SandboxSettings(top_max=10, skip_max=30)) as sandbox:
        url = f"{sandbox.catalogue_url}/odata/v1/Products?$orderby=ContentDate/Start&$top=10&$count=True"
        seen: set[str] = set()
        while url:
            page = requests.get(url, timeout=10).json()
            assert page["@odata.count"] == 45
            seen |= {product["Id"] for product in page["value"]}
            url = page.get("@odata.nextLink", "")
        assert len(seen) == 40
        (old,) = {json.dumps(product["Checksum"]) for product in page["value"]}
        assert (old, page["value"][0]["ContentLength"], page["value"][0]["Footprint"]) == ("[]", 0, None)


def test_products_change_while_the_server_runs(serve: Any, names: list[str]) -> None:
    client = serve(offline={names[1]}, null_footprints={names[2]})
    assert client.names("Online eq false") == [names[1]]
    found = client.products(filter=f"Name eq '{names[2]}'").json()["value"][0]
    assert found["Footprint"] is found["GeoFootprint"] is None
    assert names[2] not in client.names(
        "OData.CSC.Intersects(area=geography'SRID=4326;POLYGON((-150 68,-149 68,-149 69,-150 69,-150 68))')"
    )
    client.sandbox.catalogue.change(names[1], online=True)
    client.sandbox.catalogue.remove(names[0])
    assert client.names("Online eq true") == names[1:]
