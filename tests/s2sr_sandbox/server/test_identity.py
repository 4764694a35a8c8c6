import base64
import json
import time
from typing import Any

import pytest
import requests
from support.waiting import until

REALM = "/auth/realms/CDSE"


def _claims(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return claims


def test_login_gives_ten_minutes_and_an_hour(client: Any) -> None:
    logins, now = client.sandbox.logins, time.time()
    answer = client.login()
    assert (answer["expires_in"], answer["token_type"]) == (600, "Bearer")
    assert answer["refresh_expires_in"] in (3599, 3600)
    claims = _claims(answer["access_token"])
    assert claims["exp"] == pytest.approx(now + 600, abs=2)
    assert claims["iss"] == client.sandbox.identity_url + REALM
    assert "CLOUDFERRO_PUBLIC" in claims["aud"]
    assert client.sandbox.logins == logins + 1


def test_a_refresh_token_can_be_used_again(client: Any) -> None:
    first, logins, renewals = client.login(), client.sandbox.logins, client.sandbox.renewals
    tokens = [client.token(grant_type="refresh_token", refresh_token=first["refresh_token"]).json() for _ in range(2)]
    later = client.token(grant_type="refresh_token", refresh_token=tokens[1]["refresh_token"]).json()
    issued = {answer["access_token"] for answer in (first, *tokens, later)}
    assert len(issued) == 4
    assert {answer["session_state"] for answer in tokens} == {first["session_state"]}
    assert (client.sandbox.logins, client.sandbox.renewals) == (logins, renewals + 3)


@pytest.mark.parametrize("wrong", [{"password": "x"}, {"username": "x"}, {"password": ""}, {"password": "ß"}])
def test_wrong_credentials_are_refused_in_keycloaks_words(client: Any, wrong: dict[str, str]) -> None:
    answer = client.token(grant_type="password", **({"username": "sandbox", "password": "sandbox-password"} | wrong))
    assert answer.status_code == 401
    assert answer.json() == {"error": "invalid_grant", "error_description": "Invalid user credentials"}


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({}, 400, "invalid_request"),
        ({"grant_type": "password"}, 401, "invalid_grant"),
        ({"grant_type": "client_credentials"}, 400, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, 400, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "x.y.z"}, 400, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "é"}, 400, "invalid_grant"),
        ({"client_id": "other", "grant_type": "password"}, 401, "invalid_client"),
    ],
)
def test_other_refusals(client: Any, fields: dict[str, str], status: int, error: str) -> None:
    refusals = client.sandbox.refusals
    answer = client.token(**fields)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert client.sandbox.refusals == refusals + 1


def test_an_access_token_is_no_refresh_token(client: Any) -> None:
    token = client.login()["access_token"]
    answer = client.token(grant_type="refresh_token", refresh_token=token)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_only_forms_are_read(client: Any) -> None:
    url = client.sandbox.identity_url + REALM + "/protocol/openid-connect/token"
    assert requests.post(url, json={"grant_type": "password"}, timeout=10).status_code == 415
    assert requests.get(url, timeout=10).status_code == 405
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert requests.post(url, data=b"password=%FF", headers=form, timeout=10).status_code == 400
    assert requests.post(url, data=b"x" * 100_000, headers=form, timeout=10).status_code == 413
    assert requests.post(url, data="&".join("a=1" for _ in range(99)), headers=form, timeout=10).status_code == 400


def test_a_second_factor_can_be_asked_for(serve: Any) -> None:
    client = serve(totp="123456")
    fields = {"grant_type": "password", "username": "sandbox", "password": "sandbox-password"}
    assert client.token(**fields).status_code == 401
    assert client.token(**fields, totp="123456").status_code == 200


def test_an_access_token_expires_by_the_clock(serve: Any, names: list[str]) -> None:
    client = serve(access_token_seconds=0.5)
    url, headers = client.url(names[0], names[0], "manifest.safe"), client.headers()

    def refused() -> tuple[int, Any] | None:
        answer = requests.get(url, headers=headers, timeout=10)
        return None if answer.status_code == 200 else (answer.status_code, answer.json())

    assert until(refused) == (401, {"detail": "Expired signature!"})


def test_a_session_expires_by_the_clock_however_often_it_is_renewed(serve: Any) -> None:
    client = serve(refresh_token_seconds=2.0)
    login = client.login()
    lifetimes, token = [login["refresh_expires_in"]], login["refresh_token"]

    def refused() -> tuple[int, str] | None:
        nonlocal token
        answer = client.token(grant_type="refresh_token", refresh_token=token)
        if answer.status_code == 200:
            token = answer.json()["refresh_token"]
            lifetimes.append(answer.json()["refresh_expires_in"])
            return None
        return answer.status_code, answer.json()["error_description"]

    assert until(refused) == (400, "Token is not active")
    assert lifetimes == sorted(lifetimes, reverse=True)
    assert (client.sandbox.logins, client.sandbox.renewals) == (1, len(lifetimes) - 1)


def test_discovery_document_has_the_keys_of_the_real_one(client: Any, shared_data: Any) -> None:
    real = json.loads((shared_data / "cdse" / "openid-configuration.json").read_text())
    base = client.sandbox.identity_url
    ours = requests.get(base + REALM + "/.well-known/openid-configuration", timeout=10).json()
    assert set(ours) <= set(real)
    for key, value in ours.items():
        assert type(value) is type(real[key])
        if isinstance(value, str):
            assert value.replace(base, "https://identity.dataspace.copernicus.eu") == real[key]
        else:
            assert set(value) <= set(real[key])
    assert len(requests.get(ours["jwks_uri"], timeout=10).json()["keys"]) == 1
