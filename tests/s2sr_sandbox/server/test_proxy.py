import socket
from pathlib import Path
from typing import Any

import pytest
import requests

from s2sr_sandbox.server import SandboxSettings, running

CATALOGUE = "https://catalogue.dataspace.copernicus.eu/odata/v1/Products?$count=True"


def test_cdses_own_hosts_are_the_sandbox_behind_the_proxy(
    archive: Path, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(archive, SandboxSettings(proxy=True)) as sandbox, requests.Session() as session:
        for name, value in sandbox.proxy_environment().items():
            monkeypatch.setenv(name, value)
        assert session.get(CATALOGUE, timeout=10).json()["@odata.count"] == 9
        form = {"client_id": "cdse-public", "grant_type": "password"}
        form |= {"username": "sandbox", "password": "sandbox-password"}
        token_url = "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token"
        token = session.post(token_url, data=form, timeout=10).json()["access_token"]
        url = f"https://download.dataspace.copernicus.eu/odata/v1/Products({sandbox.catalogue[names[0]].id})/$value"
        answer = session.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10)
        assert len(answer.content) == sandbox.catalogue[names[0]].content_length
        assert [request.host for request in sandbox.requests] == ["catalogue", "identity", "download"]
        assert set(sandbox.proxy_environment()) >= {"HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"}
        assert "PRIVATE" not in sandbox.certificate_file.read_text()


def test_it_is_trusted_only_by_whoever_is_told(archive: Path) -> None:
    with running(archive, SandboxSettings(proxy=True)) as sandbox:
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(CATALOGUE, proxies={"https": sandbox.proxy_url}, timeout=10)
        options: Any = {"proxies": {"https": sandbox.proxy_url}, "verify": str(sandbox.certificate_file), "timeout": 10}
        assert requests.get(CATALOGUE, **options).status_code == 200


@pytest.mark.parametrize(
    "request_line",
    [
        b"CONNECT example.org:443 HTTP/1.1",
        b"CONNECT catalogue.dataspace.copernicus.eu:80 HTTP/1.1",
        b"GET http://catalogue.dataspace.copernicus.eu/ HTTP/1.1",
        b"CONNECT",
        b"\xff\x00",
    ],
)
def test_nothing_goes_through_to_anywhere_else(archive: Path, request_line: bytes) -> None:
    with running(archive, SandboxSettings(proxy=True)) as sandbox:
        port = int(str(sandbox.proxy_url).rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(request_line + b"\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 403 ")
        assert sandbox.requests == []


def test_a_client_that_speaks_no_tls(archive: Path) -> None:
    with running(archive, SandboxSettings(proxy=True)) as sandbox:
        port = int(str(sandbox.proxy_url).rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"CONNECT catalogue.dataspace.copernicus.eu:443 HTTP/1.1\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while connection.recv(1000):
                pass
        options: Any = {"proxies": {"https": sandbox.proxy_url}, "verify": str(sandbox.certificate_file), "timeout": 10}
        assert requests.get(CATALOGUE, **options).status_code == 200
