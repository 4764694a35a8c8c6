import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import requests

from s2sr_sandbox.server import Fault, Faults

MANIFEST = r"Nodes\(manifest\.safe\)"


def _manifest(client: Any, name: str, **options: Any) -> requests.Response:
    return requests.get(client.url(name, name, "manifest.safe"), headers=client.headers(), timeout=10, **options)


def test_a_connection_that_closes_early(serve: Any, archive: Path, names: list[str]) -> None:
    client = serve(Fault.close(MANIFEST, 1000, times=1))
    answer = _manifest(client, names[0], stream=True)
    assert answer.status_code == 200
    size = int(answer.headers["Content-Length"])
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match=f"1000 bytes read, {size - 1000} more"):
        assert answer.content
    again = _manifest(client, names[0])
    assert again.content == (archive / names[0] / "manifest.safe").read_bytes()
    assert [request.bytes for request in client.sandbox.byte_requests()] == [1000, size]


def test_a_connection_that_closes_before_any_byte(serve: Any, names: list[str]) -> None:
    client = serve(Fault.close(MANIFEST, 0, times=1))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        _manifest(client, names[0])


def test_a_stall_keeps_the_connection(serve: Any, names: list[str]) -> None:
    client = serve(Fault.stall(MANIFEST, 4000, 600, times=1), connections=1)
    with _manifest(client, names[0], stream=True) as answer:
        assert len(next(answer.iter_content(4000))) == 4000
        assert _manifest(client, names[1]).status_code == 429


def test_after_a_stall_the_rest_comes_and_the_connection_is_free(serve: Any, archive: Path, names: list[str]) -> None:
    client = serve(Fault.stall(MANIFEST, 4000, 0.1, times=1), connections=1)
    assert _manifest(client, names[0]).content == (archive / names[0] / "manifest.safe").read_bytes()
    assert _manifest(client, names[1]).status_code == 200


def test_a_client_can_lose_patience(serve: Any, names: list[str]) -> None:
    client = serve(Fault.stall(MANIFEST, 100, 30, times=1))
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(client.url(names[0], names[0], "manifest.safe"), headers=client.headers(), timeout=0.2)


@pytest.mark.parametrize("at", [0, 1234])
def test_one_wrong_byte(serve: Any, archive: Path, names: list[str], at: int) -> None:
    client = serve(Fault.corrupt(MANIFEST, at, times=1))
    right = (archive / names[0] / "manifest.safe").read_bytes()
    wrong = _manifest(client, names[0]).content
    assert len(wrong) == len(right)
    assert [place for place, (one, other) in enumerate(zip(wrong, right, strict=True)) if one != other] == [at]
    assert hashlib.sha256(_manifest(client, names[0]).content).digest() == hashlib.sha256(right).digest()


def test_an_error_that_looks_like_success(serve: Any, names: list[str]) -> None:
    client = serve(Fault.error(MANIFEST, 200, "DAT-ZIP-500", "Something went wrong", times=1))
    answer = _manifest(client, names[0])
    assert (answer.status_code, answer.json()["code"]) == (200, "DAT-ZIP-500")


def test_the_first_requests_fail(serve: Any, names: list[str]) -> None:
    client = serve(
        Fault.error("/Products$", 503, "", "Service Unavailable", host="catalogue", times=2),
        Fault.error("/Products$", 429, retry_after=7, host="catalogue", times=1),
        Fault.html("/token$", 502, host="identity", times=1),
    )
    answers = [client.products(top="1") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [503, 503, 429, 200]
    assert answers[2].headers["Retry-After"] == "7"
    assert "<html>" in client.token(grant_type="password").text
    assert client.token(grant_type="password").status_code == 401
    assert names[0] in client.names("Online eq true")


def test_a_page_for_people(serve: Any) -> None:
    client = serve(Fault.html("/Products$"))
    answer = client.products()
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html")
    with pytest.raises(requests.exceptions.JSONDecodeError):
        answer.json()


def test_a_fault_can_wait_and_be_added_later(serve: Any) -> None:
    client = serve()
    client.sandbox.faults.add(Fault.answer("/Products$", 500, "no", skip=1, times=1))
    assert [client.products().status_code for _ in range(3)] == [200, 500, 200]


def test_faults_are_met_by_host_method_and_pattern() -> None:
    faults = Faults((Fault(path="a", host="download", method="GET", times=1), Fault(path="^/ab")))
    assert faults.meeting("catalogue", "GET", "/a") is None
    assert faults.meeting("download", "HEAD", "/a") is None
    met = [faults.meeting("download", "GET", "/ab") for _ in range(2)]
    assert [fault and fault.path for fault in met] == ["a", "^/ab"]
    with pytest.raises(re.error):
        faults.add(Fault(path="("))
