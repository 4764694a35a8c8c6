"""What is tried again, how long it waits, where it goes, and whom it trusts."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate

import pytest
import requests

from s2sr_core import stopping
from s2sr_core.errors import InputError
from s2sr_core.sources.cdse.http import CdseError, Http, RetryPolicy, TransientError
from s2sr_core.sources.cdse.road import Bearer
from s2sr_sandbox.server import Fault


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, none of which takes any time."""
    found: list[float] = []
    monkeypatch.setattr(stopping, "pause", found.append)
    return found


def failing(*errors: Exception | str) -> Callable[[], str]:
    """Raises the errors one after the other, then returns what is not an error."""
    waiting = list(errors)

    def request() -> str:
        outcome = waiting.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return request


def test_tries_are_counted_by_what_went_wrong(pauses: list[float]) -> None:
    policy = RetryPolicy(attempts=6)
    passing, refusal = TransientError("broke"), TransientError("no", 403, is_refusal=True)
    assert policy.run(failing(*[passing] * 5, "there")) == "there"
    assert policy.run(failing(*[refusal] * 3, "there")) == "there"
    with pytest.raises(TransientError):
        policy.run(failing(*[passing] * 6))
    with pytest.raises(CdseError) as caught:
        policy.run(failing(*[refusal] * 4))
    assert not isinstance(caught.value, TransientError)  # nobody needs to try it again
    gained = TransientError("broke", went_on=True)
    assert policy.run(failing(*([passing] * 5 + [gained]) * 3, "there")) == "there"
    with pytest.raises(CdseError):
        policy.run(failing(CdseError("final"), "there"))


def test_retry_after_is_honoured_within_bounds(connect, pauses: list[float]) -> None:
    client = connect(retries=RetryPolicy(first_wait=0.001, longest_wait=60))
    far = formatdate(time.time() + 100_000, usegmt=True)
    past, nonsense = "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 99 Oct 2015 07:28:00 GMT"
    for value, least, most in (
        *(("7", 7, 8), ("0", 0, 1), (far, 300, 300), ("86400", 300, 300), ("9" * 400, 300, 300)),
        *((past, 0, 1), (nonsense, 0, 1), ("soon", 0, 1), ("-5", 0, 1), ("", 0, 1)),
    ):
        for status in (429, 503, 403):
            client.sandbox.faults.add(
                Fault.answer("/Products", status, headers={"retry-after": value}, host="catalogue", times=1)
            )
        pauses.clear()
        client.http.get_json(f"{client.sandbox.catalogue_url}/odata/v1/Products", {"$top": "1"})
        assert len(pauses) == 3
        assert all(least <= pause <= most for pause in pauses), value


def test_a_date_of_retry_after_is_read_by_the_servers_clock(connect, pauses: list[float]) -> None:
    client = connect(retries=RetryPolicy(first_wait=0.001))
    client.sandbox.faults.add(Fault(path="/Products", host="catalogue", status=503, retry_after_date=40, times=1))
    client.http.get_json(f"{client.sandbox.catalogue_url}/odata/v1/Products", {"$top": "1"})
    (pause,) = pauses
    assert 35 <= pause <= 41


@pytest.mark.parametrize("status", [408, 403, 404])
def test_refusals_of_catalogue_and_identity_are_tried_a_few_times(connect, status: int) -> None:
    client = connect()
    for path, host in (("/Products", "catalogue"), ("/token", "identity")):
        client.sandbox.faults.add(Fault.answer(path, status, '{"detail": "no"}', host=host, times=3))
    client.http.get_json(f"{client.sandbox.catalogue_url}/odata/v1/Products", {"$top": "1"})
    client.tokens.token()
    assert [request.status for request in client.sandbox.requests] == [*[status] * 3, 200] * 2


ALLOWED = (
    "https://zipper.dataspace.copernicus.eu/odata/v1/x",
    "https://dataspace.copernicus.eu/x",
    "https://ZIPPER.dataspace.COPERNICUS.eu:443/x",
    "https://other.example:8443/x",
    "https://plain.example/x",
)
REFUSED = (
    "http://zipper.dataspace.copernicus.eu/x",
    "https://zipper.dataspace.copernicus.eu:8080/x",
    "https://evildataspace.copernicus.eu/x",
    "https://dataspace.copernicus.eu.evil.example/x",
    "https://dataspace.copernicus.eu@evil.example/x",
    "https://user@zipper.dataspace.copernicus.eu/x",
    "https://evil.example\\@zipper.dataspace.copernicus.eu/x",
    "https://evil.example#.dataspace.copernicus.eu/x",
    "https://other.example/x",
    "https://plain.example:8443/x",
    "https://sub.plain.example/x",
    "ftp://zipper.dataspace.copernicus.eu/x",
    "https:///x",
    "https://[::1/x",
    "http://169.254.169.254/latest",
)


def test_redirects_are_followed_within_the_allow_list_alone(connect, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect()
    http = Http(
        (client.sandbox.download_url,), redirect_hosts=".dataspace.copernicus.eu, other.example:8443,plain.example,"
    )
    sent: list[object] = []
    real = requests.Session.send

    def send(session: requests.Session, request: requests.PreparedRequest, **options: object) -> requests.Response:
        if str(request.url).startswith(client.sandbox.download_url):
            return real(session, request, **options)
        sent.append(request.headers.get("Authorization"))
        raise requests.ConnectionError("stopped here")

    monkeypatch.setattr(requests.Session, "send", send)
    for url in (*ALLOWED, *REFUSED):
        client.sandbox.faults.add(Fault.answer("manifest.safe", 302, headers={"location": url}, times=1))
        expected = "ConnectionError" if url in ALLOWED else "not one of its known hosts|is not an address"
        with pytest.raises(CdseError, match=expected):
            http.ask("GET", client.url(), auth=Bearer("secret-token"))
    assert sent == ["Bearer secret-token"] * len(ALLOWED)


def test_a_login_is_never_turned_into_another_request(connect) -> None:
    client = connect()
    client.sandbox.faults.add(
        Fault.answer("/token", 302, headers={"location": f"{client.sandbox.catalogue_url}/x"}, host="identity")
    )
    with pytest.raises(CdseError, match="a redirect"):
        client.tokens.token()
    assert [request.host for request in client.sandbox.requests] == ["identity"]


def test_what_is_said_of_a_connection_that_is_refused(connect) -> None:
    client = connect()
    with pytest.raises(TransientError, match=r"http://127\.0\.0\.1:9: ConnectionError \(Connection refused\)"):
        Http(("http://127.0.0.1:9",)).ask("GET", "http://127.0.0.1:9", auth=Bearer("secret-token"))
    assert client.sandbox.requests == []


def test_a_connection_that_cannot_be_trusted_ends_at_once(
    connect, monkeypatch: pytest.MonkeyPatch, pauses: list[float], tmp_path
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    sandbox = connect(plans=["untrusted-certificate"]).sandbox
    monkeypatch.setenv("HTTPS_PROXY", str(sandbox.proxy_url))
    url = "https://catalogue.dataspace.copernicus.eu"
    address = f"{url}/odata/v1/Products"
    with pytest.raises(InputError) as caught:
        Http((url,)).get_json(address, {"$top": "1"})
    assert str(caught.value) == (
        "REQUESTS_CA_BUNDLE = '': no trusted TLS connection to catalogue.dataspace.copernicus.eu is possible (unable "
        "to get local issuer certificate); if a proxy of your network inspects TLS, set REQUESTS_CA_BUNDLE or "
        "SSL_CERT_FILE to the file (PEM) with its authority; otherwise unset them."
    )
    assert caught.value.__context__ is None
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, str(sandbox.certificate_file))
            assert Http((url,)).get_json(address, {"$top": "1"})["value"]
            for wrong in (tmp_path / "missing", tmp_path):
                patch.setenv(name, str(wrong))
                with pytest.raises(InputError, match=f"^{name} = .*{wrong.name}"):
                    Http((url,)).get_json(address, {"$top": "1"})
    assert pauses == []
