import hashlib
import io
import socket
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import until

from s2sr_sandbox.server.nodes import PathError, parse_path

_STEPS = [
    "Products(05edf2bb-d103-49f1-a677-9e474138d84f)",
    "Products(x)",
    "Nodes(a(b).SAFE)",
    "Nodes('a')",
    "Nodes",
    "$value",
    "",
]


def _files(product: Path) -> dict[str, bytes]:
    return {str(path.relative_to(product)): path.read_bytes() for path in product.rglob("*") if path.is_file()}


def _error(answer: requests.Response) -> tuple[int, str]:
    body = answer.json()
    if "code" in body:
        assert list(body) == ["trace-id", "code", "message"]
        return answer.status_code, body["code"]
    return answer.status_code, body["detail"]


# ----------------------------------------------------------------------------------------------------------- listings


def test_listings_lead_to_every_file_without_a_token(client: Any, archive: Path, names: list[str]) -> None:
    product, found = archive / names[0], {}
    waiting = [(client.url(names[0], value="/Nodes"), "")]
    while waiting:
        url, above = waiting.pop()
        for node in requests.get(url, timeout=10).json()["result"]:
            path = f"{above}/{node['Name']}".lstrip("/")
            assert list(node) == ["Id", "Name", "ContentLength", "ChildrenNumber", "Nodes"]
            assert node["Id"] == node["Name"]
            children = list((archive / path).iterdir()) if (archive / path).is_dir() else []
            assert node["ChildrenNumber"] == len(children)
            if not children:
                found[path.removeprefix(f"{names[0]}/")] = node["ContentLength"]
            waiting.append((node["Nodes"]["uri"], path))
    assert found == {path: len(content) for path, content in _files(product).items()}


def test_one_node(client: Any, names: list[str]) -> None:
    answer = requests.get(client.url(names[0], names[0], "manifest.safe", value=""), timeout=10).json()
    assert [node["Name"] for node in answer["result"]] == ["manifest.safe"]


# -------------------------------------------------------------------------------------------------------------- bytes


def test_every_file_comes_as_it_is(client: Any, archive: Path, names: list[str]) -> None:
    headers = client.headers()
    for path, content in _files(archive / names[3]).items():
        answer = requests.get(client.url(names[3], names[3], *path.split("/")), headers=headers, timeout=10)
        assert answer.status_code == 200
        assert answer.headers["Content-Length"] == str(len(content))
        assert answer.content == content


def test_a_whole_product_is_an_uncompressed_zip(client: Any, archive: Path, names: list[str]) -> None:
    answer = requests.get(client.url(names[1]), headers=client.headers(), timeout=10)
    listed = client.products(filter=f"Name eq '{names[1]}'").json()["value"][0]
    assert answer.headers["Content-Type"] == "application/zip"
    assert len(answer.content) == int(answer.headers["Content-Length"]) == listed["ContentLength"]
    assert [item["Algorithm"] for item in listed["Checksum"]] == ["MD5"]
    assert hashlib.md5(answer.content).hexdigest() == listed["Checksum"][0]["Value"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        assert {info.compress_type for info in packed.infolist()} == {zipfile.ZIP_STORED}
        content = {name.removeprefix(f"{names[1]}/"): packed.read(name) for name in packed.namelist()}
    assert content == _files(archive / names[1])


def test_head_tells_the_size_and_is_no_byte_connection(client: Any, archive: Path, names: list[str]) -> None:
    headers = client.headers()
    answer = requests.head(client.url(names[0], names[0], "manifest.safe"), headers=headers, timeout=10)
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["Content-Length"]) == (archive / names[0] / "manifest.safe").stat().st_size
    assert requests.head(client.url(names[0]), timeout=10).status_code == 401
    assert client.sandbox.requests[-2].connections == 0


def test_a_token_may_come_in_the_query_string(client: Any, names: list[str]) -> None:
    token = client.login()["access_token"]
    url = client.url(names[0], names[0], "manifest.safe")
    assert requests.get(url, params={"token": token}, timeout=10).status_code == 200
    logged = client.sandbox.requests[-1]
    assert (logged.account, logged.query) == ("sandbox", "token=***")
    assert token not in repr(client.sandbox.requests)


@pytest.mark.parametrize("ranged", ["bytes=10-19", "bytes=10-", "bytes=-10"])
def test_ranges_are_ignored_unless_asked_for(client: Any, names: list[str], ranged: str) -> None:
    headers = client.headers() | {"Range": ranged}
    answer = requests.get(client.url(names[0], names[0], "manifest.safe"), headers=headers, timeout=10)
    assert answer.status_code == 200
    assert client.sandbox.requests[-1].range == ranged


@pytest.mark.parametrize(
    ("ranged", "status", "part"),
    [
        ("bytes=10-19", 206, slice(10, 20)),
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=-7", 206, slice(-7, None)),
        ("bytes=5-99999999", 206, slice(5, None)),
        ("bytes=-99999999", 206, slice(None)),
        ("bytes=99999999-", 416, slice(0, 0)),
        ("bytes=-0", 416, slice(0, 0)),
        ("bytes=9-5", 200, slice(None)),
        ("bytes=0-1,3-4", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
    ],
)
def test_ranges_where_the_settings_allow_them(
    serve: Any, archive: Path, names: list[str], ranged: str, status: int, part: slice
) -> None:
    client = serve(ranges=True)
    content = (archive / names[0] / "manifest.safe").read_bytes()
    headers = client.headers() | {"Range": ranged}
    answer = requests.get(client.url(names[0], names[0], "manifest.safe"), headers=headers, timeout=10)
    assert (answer.status_code, answer.content) == (status, content[part])
    if status == 206:
        first, last, _ = part.indices(len(content))
        assert answer.headers["Content-Range"] == f"bytes {first}-{last - 1}/{len(content)}"
    whole = requests.get(client.url(names[0]), headers=headers, timeout=10)
    assert whole.status_code == 200


# ------------------------------------------------------------------------------------------------------------- errors


def test_the_table_of_errors(client: Any, names: list[str]) -> None:
    headers, base = client.headers(), f"{client.sandbox.download_url}/odata/v1"
    product = f"{base}/Products({client.sandbox.catalogue[names[0]].id})"

    def error(url: str, headers: dict[str, str] = headers) -> tuple[int, str]:
        return _error(requests.get(url, headers=headers, timeout=10))

    assert error(f"{product}/$value", {}) == (401, "DAT-ZIP-604")
    assert error(f"{product}/$value", {"Authorization": "Basic c2FuZGJveDp4"}) == (401, "DAT-ZIP-604")
    assert error(f"{product}/$value", {"Authorization": "Bearer x"}) == (401, "Invalid token!")
    assert error(f"{product}/$value", {"Authorization": "Bearer \xe9.a.b"}) == (401, "Invalid token!")
    forged = headers["Authorization"][:-3] + "AAA"
    assert error(f"{product}/$value", {"Authorization": forged}) == (401, "Invalid token!")
    refresh = client.login()["refresh_token"]
    assert error(f"{product}/$value", {"Authorization": f"Bearer {refresh}"}) == (401, "Invalid token!")
    assert error(f"{product}/Nodes('{names[0]}')/Nodes('manifest.safe')/$value") == (400, "DAT-ZIP-104")
    assert error(f"{product}/Nodes({names[0]})/Things(manifest.safe)/$value") == (400, "DAT-ZIP-104")
    assert error(f"{product}/Nodes()/$value") == (400, "DAT-ZIP-104")
    assert error(f"{base}/Assets({uuid4()})/$value") == (400, "DAT-ZIP-104")
    assert error(f"{base}/Products(12-34)/$value") == (422, "DAT-ZIP-111")
    assert error(f"{base}/Products({uuid4()})/$value") == (404, "Product not found")
    assert error(f"{base}/Products({uuid4()})/Nodes") == (404, "Product not found")
    assert error(f"{product}/Nodes({names[0]})/Nodes(gone.xml)/$value") == (404, "Node not found")
    assert error(f"{product}/Nodes({names[0]})/Nodes(GRANULE)/$value") == (404, "Node not found")
    assert error(f"{product}/Nodes({names[1]})/Nodes(manifest.safe)/$value") == (404, "Node not found")
    assert error(f"{product}/Nodes({names[0]})/Nodes(manifest.safe)/Nodes(x)/Nodes") == (404, "Node not found")


@pytest.mark.parametrize("node", ["..", "../..", ".", "/etc/passwd", "a/../../b", "\0", "é", "%2e%2e", "x" * 5000])
def test_no_path_leaves_the_product(client: Any, names: list[str], node: str) -> None:
    url = client.url(names[0], names[0], quote(node, safe=""))
    answer = requests.get(url, headers=client.headers(), timeout=10)
    assert answer.status_code in (400, 404)


def test_expired_foreign_forbidden_gone_and_offline(serve: Any, names: list[str]) -> None:
    client = serve(forbidden={names[0]}, deleted={names[1]}, offline={names[2]})
    headers = client.headers()
    errors = [_error(requests.get(client.url(name), headers=headers, timeout=10)) for name in names[:3]]
    assert errors == [(403, "DAT-ZIP-608"), (404, "Product not found"), (404, "Product not found")]
    assert client.names("ContentDate/Start ge 2000-01-01") == names
    client.sandbox.expire_access_tokens()
    late = requests.get(client.url(names[3]), headers=headers, timeout=10)
    assert _error(late) == (401, "Expired signature!")
    foreign = serve(audience="SOMEBODY_ELSE")
    refused = requests.get(foreign.url(names[0]), headers=foreign.headers(), timeout=10)
    assert _error(refused) == (401, "DAT-ZIP-609")


def test_a_product_deleted_between_query_and_download(serve: Any, names: list[str]) -> None:
    client = serve()
    headers, url = client.headers(), client.url(names[0], names[0], "manifest.safe")
    assert requests.get(url, headers=headers, timeout=10).status_code == 200
    client.sandbox.catalogue.remove(names[0])
    assert requests.get(url, headers=headers, timeout=10).status_code == 404


def test_the_catalogue_sends_to_the_download_host_where_the_token_is_lost(client: Any, names: list[str]) -> None:
    url = client.url(names[0], names[0], "manifest.safe")
    asked = url.replace(client.sandbox.download_url, client.sandbox.catalogue_url)
    headers = client.headers()
    answer = requests.get(asked, headers=headers, timeout=10)
    assert [step.status_code for step in answer.history] == [301]
    assert answer.history[0].headers["Location"] == answer.url == url
    assert _error(answer) == (401, "DAT-ZIP-604")
    token = headers["Authorization"].removeprefix("Bearer ")
    kept = requests.get(asked, params={"token": token}, timeout=10)
    assert (kept.status_code, kept.url.partition("?")[0]) == (200, url)


@given(st.one_of(st.text(max_size=40), st.lists(st.sampled_from(_STEPS), max_size=6).map("/".join)))
def test_whatever_path_comes_is_a_place_or_an_error_of_its_own(path: str) -> None:
    try:
        place = parse_path(path)
    except PathError:
        return
    assert place.wanted in ("", "Nodes", "$value")
    assert all(place.nodes)


@pytest.mark.parametrize("host", ["catalogue", "identity", "download"])
@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /odata/v1/Products?%00=\xff HTTP/1.1\r\nHost: [",
        b"GET /odata/v1/Products(x)/Nodes/$value?a=%ff&token=%00 HTTP/1.1\r\nHost: [",
        b"GET /odata/v1/Products(%F0%9F)/$value HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer",
        b"GET /odata/v1/Products/ HTTP/1.1\r\nHost: x",
        b"GET //// HTTP/1.1\r\nHost: x",
        b"OPTIONS * HTTP/1.1\r\nHost: x",
        b"BREW /odata/v1/Products HTTP/1.1\r\nHost: x",
        b"POST /auth/realms/CDSE/protocol/openid-connect/token/ HTTP/1.1\r\nHost: [\r\nContent-Length: 0",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x",
        b"\x00\x01\x02",
    ],
)
def test_hostile_requests_are_not_the_servers_fault(client: Any, host: str, request_line: bytes) -> None:
    port = int(getattr(client.sandbox, f"{host}_url").rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request_line + b"\r\n\r\n")
        status = int(connection.recv(1000).split(b" ")[1])
    assert 200 <= status < 500


# -------------------------------------------------------------------------------------------------- connections, speed


def test_one_connection_too_many_is_refused(serve: Any, names: list[str]) -> None:
    client = serve(connections=2, bandwidth=4_000, retry_after=3)
    headers = client.headers()
    started = [requests.get(client.url(name), headers=headers, stream=True, timeout=10) for name in names[:2]]
    third = requests.get(client.url(names[2]), headers=headers, timeout=10)
    assert _error(third) == (429, "DAT-ZIP-100")
    assert third.json()["message"] == "Max session number exceeded"
    assert third.headers["Retry-After"] == "3"
    other_login = requests.get(client.url(names[2]), headers=client.headers(), timeout=10)
    assert other_login.status_code == 429
    for answer in started:
        answer.close()

    def is_answered() -> bool:
        with requests.get(client.url(names[2]), headers=headers, stream=True, timeout=10) as answer:
            return answer.status_code == 200

    until(is_answered)
    assert client.sandbox.connections_high_water == 2


def test_no_retry_after_unless_set(serve: Any, names: list[str]) -> None:
    client = serve(connections=1, bandwidth=4_000)
    headers = client.headers()
    with requests.get(client.url(names[0]), headers=headers, stream=True, timeout=10):
        refused = requests.get(client.url(names[1]), headers=headers, timeout=10)
    assert refused.status_code == 429
    assert "Retry-After" not in refused.headers


def test_as_many_connections_as_allowed_are_never_refused(serve: Any, archive: Path, names: list[str]) -> None:
    client = serve(connections=4)
    headers = client.headers()
    paths = [(name, path) for name in names for path in _files(archive / name)]

    def status(place: tuple[str, str]) -> int:
        name, path = place
        answer = requests.get(client.url(name, name, *path.split("/")), headers=headers, timeout=10)
        return answer.status_code if len(answer.content) == (archive / name / path).stat().st_size else 0

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(status, paths * 3)) == {200}
    assert 1 <= client.sandbox.connections_high_water <= 4
    assert len(client.sandbox.byte_requests()) == 3 * len(paths)
    assert sum(request.bytes for request in client.sandbox.byte_requests()) == 3 * sum(
        (archive / name / path).stat().st_size for name, path in paths
    )


def test_bandwidth_is_that_of_a_connection(serve: Any, names: list[str]) -> None:
    client = serve(bandwidth=60_000)
    headers, size = client.headers(), client.sandbox.catalogue[names[0]].content_length
    took: list[float] = []

    def fetch(name: str) -> None:
        began = time.monotonic()
        requests.get(client.url(name), headers=headers, timeout=30)
        took.append(time.monotonic() - began)

    threads = [threading.Thread(target=fetch, args=(names[0],)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert min(took) > 0.5 * size / 60_000  # never faster; how much slower depends on the machine
