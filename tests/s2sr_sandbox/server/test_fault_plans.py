"""Every fault plan: what a plain client meets."""

from __future__ import annotations

import subprocess
import sys
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from s2sr_core.errors import InputError
from s2sr_sandbox.__main__ import main
from s2sr_sandbox.server import PLANS, Fault, SandboxSettings, running


@pytest.fixture
def meet(serve: Any, archive: Path, names: list[str]) -> Any:
    """Starts a sandbox with plans; gives a plain client of it, with the address of an image."""

    def start(*plans: str) -> tuple[Any, str]:
        client = serve(plans=plans)
        image = next((archive / names[0]).rglob("*_B04_20m.jp2")).relative_to(archive)
        return client, client.url(names[0], *image.parts)

    return start


def statuses(url: str, count: int, headers: dict[str, str]) -> list[int]:
    found = []
    for _ in range(count):
        try:
            found.append(requests.get(url, headers=headers, timeout=10, allow_redirects=False).status_code)
        except requests.exceptions.ChunkedEncodingError:
            found.append(0)  # it broke
    return found


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ("keys-rotated", [200, 200, 200, 200, 401, 401]),
        ("session-ended", [200, 200, 200, 200, 401, 401]),
        ("unauthorized", [200, 200, 401, 401, 200]),
        ("wrong-audience", [401, 401]),
        ("firewall-page", [403, 403, 200]),
        ("firewall-rate-limit", [429, 200]),
        ("retry-after-date", [429, 429, 200]),
        ("too-many-sessions", [429, 429, 429, 429, 429, 429, 200]),
        ("not-found-once", [404, 200]),
        ("request-timeout", [408, 200]),
        ("down", [503, 503]),
        ("redirect", [302, 302]),
        ("redirect-foreign", [302]),
        ("gzip", [200]),
        ("cut", [0, 0, 0, 200]),
        ("error-as-success", [200, 200, 200]),
    ],
)
def test_downloads(meet: Any, plan: str, expected: list[int]) -> None:
    client, url = meet(plan)
    headers = client.headers() if plan != "request-timeout" else (client.token(), client.headers())[1]
    assert statuses(url, len(expected), headers) == expected


def test_revoked_tokens(meet: Any) -> None:
    for plan, renewed in (("keys-rotated", 200), ("session-ended", 400)):
        client, url = meet(plan)
        login = client.login()
        headers = {"Authorization": f"Bearer {login['access_token']}"}
        assert statuses(url, 5, headers)[-1] == 401
        assert requests.get(url, headers=headers, timeout=10).json() == {"detail": "Invalid token!"}
        again = client.token(grant_type="refresh_token", refresh_token=login["refresh_token"])
        assert again.status_code == renewed
        assert requests.get(url, headers=client.headers(), timeout=10).status_code == 200


@pytest.mark.parametrize(
    ("plan", "status", "description"),
    [
        ("account-disabled", 400, "Account disabled"),
        ("account-not-set-up", 400, "Account is not fully set up"),
        ("totp", 401, "Invalid user credentials"),
    ],
)
def test_logins(meet: Any, plan: str, status: int, description: str) -> None:
    client, _ = meet(plan)
    fields = {"grant_type": "password", "username": "sandbox", "password": "sandbox-password"}
    answer = client.token(**fields)
    assert (answer.status_code, answer.json()["error_description"]) == (status, description)
    if plan == "totp":
        answers = [client.token(**fields, totp="123456").status_code for _ in range(2)]
        assert answers == [200, 401]  # each code is good for one login


def test_a_login_that_is_refused_later(meet: Any) -> None:
    client, _ = meet("login-refused-later")
    fields = {"grant_type": "password", "username": "sandbox", "password": "sandbox-password"}
    assert [client.token(**fields).status_code for _ in range(5)] == [200, 401, 401, 401, 200]


def test_redirects_lead_to_a_host_of_the_service_or_to_another_name(meet: Any) -> None:
    client, url = meet("redirect")
    allowed = client.sandbox.environment()["S2SR_REDIRECT_HOSTS"]
    location = requests.get(url, timeout=10, allow_redirects=False).headers["location"]
    assert location.startswith(f"http://{allowed}/odata/v1/Products(")
    assert requests.get(location, headers=client.headers(), timeout=10).status_code == 200
    foreign, url = meet("redirect-foreign")
    location = requests.get(url, timeout=10, allow_redirects=False).headers["location"]
    assert location.startswith("http://localhost:")
    requests.get(location, timeout=10)
    assert [request.host for request in foreign.sandbox.requests] == ["download", "zipper"]


def test_the_dates_of_retry_after(meet: Any) -> None:
    _, url = meet("retry-after-date")
    answer = requests.get(url, timeout=10)
    ahead = parsedate_to_datetime(answer.headers["retry-after"]) - parsedate_to_datetime(answer.headers["date"])
    assert 1 <= ahead.total_seconds() <= 3


def test_the_catalogue(meet: Any, names: list[str]) -> None:
    client, _ = meet("count-too-high", "slow-count")
    page = client.products(count="True").json()
    assert (page["@odata.count"], len(page["value"])) == (len(names) + 3, len(names))
    assert client.products().json()["@odata.count"] == len(names) + 3
    client, _ = meet("zarr")
    listed = [product["Name"] for product in client.products().json()["value"]]
    assert len(listed) == len(names) + 1
    assert [name for name in listed if not name.endswith(".SAFE")] == [listed[1].replace(".SAFE", ".zarr")]
    client, _ = meet("slow-count")
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(
            f"{client.sandbox.catalogue_url}/odata/v1/Products", params={"$count": "True", "$top": "1"}, timeout=0.5
        )
    assert client.products(top="1").status_code == 200


def test_a_proxy_that_compresses(meet: Any) -> None:
    plain, url = meet()
    content = requests.get(url, headers=plain.headers(), timeout=10).content
    for plan, identity in (("gzip", None), ("gzip-always", "gzip")):
        client, url = meet(plan)
        for encoding, expected in (("gzip", "gzip"), ("identity", identity)):
            answer = requests.get(
                url, headers=client.headers() | {"Accept-Encoding": encoding}, timeout=10, stream=True
            )
            assert answer.headers.get("content-encoding") == expected
            assert (int(answer.headers["content-length"]) == len(content)) == (expected is None)
            assert answer.content == content


def test_parts_of_files(meet: Any) -> None:
    client, url = meet("cut-ranges")
    headers = client.headers()
    assert statuses(url, 3, headers) == [0, 0, 0]
    whole = requests.get(url, headers=headers, timeout=10)
    etag, content = whole.headers["etag"], whole.content
    for condition, status in ((etag, 206), ('"other"', 200)):
        ranged = {"Range": "bytes=1000-", "If-Range": condition}
        rest = requests.get(url, headers=headers | ranged, timeout=10)
        assert rest.status_code == status
        assert rest.content == (content[1000:] if status == 206 else content)
    client, url = meet("ranges-refused")
    headers = client.headers() | {"Range": "bytes=1000-"}
    assert statuses(url, 3, headers) == [416, 400, 400]


def test_an_untrusted_certificate(meet: Any) -> None:
    client, _ = meet("untrusted-certificate")
    variables = client.sandbox.environment() | client.sandbox.proxy_environment()
    assert set(variables) == {"CDSE_USERNAME", "CDSE_PASSWORD_FILE", "HTTPS_PROXY"}
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(
            "https://catalogue.dataspace.copernicus.eu/odata/v1/Products",
            proxies={"https": variables["HTTPS_PROXY"]},
            timeout=10,
        )


def test_names(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = pytest.raises(InputError, match="fault = 'key-rotated': is not a fault plan; did you mean 'keys-rotated'")
    with problem, running(archive, plans=["key-rotated"]):
        pass
    assert main(["--serve", "--folder", str(archive), "--fault", "no such thing at all"]) == 2
    assert "--fault list prints the names" in capsys.readouterr().err
    assert main(["--fault", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(PLANS)
    for plan in PLANS.values():
        assert all(isinstance(fault, Fault) for fault in plan.faults)


def test_what_is_given_explicitly_counts_more_than_a_plan(archive: Path) -> None:
    with running(archive, SandboxSettings(audience="MINE"), plans=["wrong-audience", "cut-ranges"]) as sandbox:
        assert (sandbox.settings.audience, sandbox.settings.ranges) == ("MINE", True)


def test_the_command_line_serves_a_plan(archive: Path) -> None:
    command = [sys.executable, "-m", "s2sr_sandbox", "--serve", "--folder", str(archive), "--fault", "redirect"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = []
        while not lines or "products of" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1]
        process.terminate()
    assert "# fault redirect: downloads are redirected to another host of the service\n" in lines
