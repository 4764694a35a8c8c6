from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from support.waiting import DEADLINE, until

from s2sr_core import stopping
from s2sr_core.errors import InputError
from s2sr_core.sources.cdse import client as client_module
from s2sr_core.sources.cdse.auth import TokenSource
from s2sr_core.sources.cdse.http import CdseError, redacted
from s2sr_core.sources.cdse.settings import Credentials, Endpoints
from s2sr_sandbox.server import Fault


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_one_login_serves_all_threads(connect) -> None:
    client = connect()
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(client.tokens.token())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert (client.sandbox.logins, client.sandbox.renewals) == (1, 0)


def test_a_token_is_refreshed_ahead_of_its_expiry_and_the_password_sent_once_a_refresh_lifetime(connect) -> None:
    """Tokens of 600 s and 3600 s: an hour in steps of 5 minutes costs refreshes, and one login more at its end."""
    client, clock = connect(), Clock()
    credentials = Credentials("sandbox", client.sandbox.password_file)
    tokens = TokenSource(client.http, client.sandbox.identity_url, credentials, clock)
    first = tokens.token()
    clock.now += 470
    assert tokens.token() == first
    clock.now += 20
    assert tokens.token() != first
    for _ in range(20):
        clock.now += 120
        tokens.token()
    assert client.sandbox.logins == 1
    assert client.sandbox.renewals >= 4
    clock.now += 3600
    tokens.token()
    assert client.sandbox.logins == 2


def test_a_token_that_the_server_calls_expired_is_replaced(connect) -> None:
    client = connect()
    old = client.tokens.token()
    assert client.tokens.token(rejected=old) != old
    assert (client.sandbox.logins, client.sandbox.renewals) == (1, 1)


def test_a_session_that_the_server_ended_leads_to_a_login(connect) -> None:
    client = connect()
    old = client.tokens.token()
    client.sandbox.faults.add(Fault.answer("/token", 400, '{"error": "invalid_grant"}', times=1))
    assert client.tokens.token(rejected=old) != old
    assert client.sandbox.logins == 2


def test_a_wrong_password_is_one_sentence_asked_once_and_never_shown(connect, tmp_path: Path) -> None:
    client = connect()
    file = tmp_path / "password"
    file.write_text("wr0ng-secret\n")
    file.chmod(0o600)
    tokens = TokenSource(client.http, client.sandbox.identity_url, Credentials("sandbox", file))
    for _ in range(3):
        with pytest.raises(InputError) as caught:
            tokens.token()
        assert str(caught.value).startswith(
            "CDSE_USERNAME = 'sandbox': CDSE refused this name with its password (Invalid user credentials); check both"
        )
        assert caught.value.__cause__ is None
        assert "wr0ng" not in repr(caught.value)
    assert client.sandbox.refusals == 1


def test_an_identity_service_that_stays_down_is_an_error_without_the_password(connect) -> None:
    client = connect()
    client.sandbox.faults.add(Fault.html("/token", 503))
    with pytest.raises(CdseError) as caught:
        client.tokens.token()
    assert "503" in str(caught.value)
    assert caught.value.__context__ is None
    assert "sandbox-password" not in repr(caught.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o700])
def test_a_password_file_for_others_eyes_is_refused_with_the_line_to_type(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "password"
    file.write_text("secret\n")
    file.chmod(mode)
    with pytest.raises(InputError, match=f"mode 0{mode:o}.*type: chmod 600 {file}"):
        Credentials("me", file).password()


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_password_file_of_its_owner_is_read_to_the_end_of_its_first_line(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "password"
    file.write_text(" pa ss= \r\nsecond line\n")
    file.chmod(mode)
    assert Credentials("me", file).password() == " pa ss= "


def test_credentials_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CDSE_USERNAME", "CDSE_PASSWORD", "CDSE_PASSWORD_FILE"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(InputError, match="CDSE_USERNAME = '': is not set; export"):
        Credentials.from_environment()
    monkeypatch.setenv("CDSE_USERNAME", "me")
    with pytest.raises(InputError, match="CDSE_PASSWORD_FILE = '': is not set; export"):
        Credentials.from_environment()
    monkeypatch.setenv("CDSE_PASSWORD", "from-variable")
    assert Credentials.from_environment().password() == "from-variable"
    assert "from-variable" not in repr(Credentials.from_environment())
    file = tmp_path / "password"
    monkeypatch.setenv("CDSE_PASSWORD_FILE", str(file))
    with pytest.raises(InputError, match="cannot be read"):
        Credentials.from_environment()
    file.write_text("\n")
    file.chmod(0o600)
    with pytest.raises(InputError, match="is empty"):
        Credentials.from_environment()
    file.write_text("from-file\n")
    assert Credentials.from_environment().password() == "from-file"


def test_endpoints_are_the_real_ones_unless_the_environment_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("S2SR_CATALOGUE_URL", "S2SR_IDENTITY_URL", "S2SR_DOWNLOAD_URL"):
        monkeypatch.delenv(variable, raising=False)
    assert Endpoints().download_url == "https://download.dataspace.copernicus.eu"
    monkeypatch.setenv("S2SR_DOWNLOAD_URL", "http://127.0.0.1:8000/")
    assert Endpoints().download_url == "http://127.0.0.1:8000"
    for bad in ("http://example.org", "ftp://example.org", "nonsense", "https://example.org/?a=b"):
        monkeypatch.setenv("S2SR_DOWNLOAD_URL", bad)
        with pytest.raises(ValueError, match=r"base URL|unencrypted"):
            Endpoints()


def test_what_a_server_said_is_shown_without_secrets() -> None:
    text = 'Bearer eyJhbGciOi.JIUzI1NiIs "access_token": "abcdefghijkl" password=hunter2!# and "password":"pw!#x"'
    assert redacted(text) == 'Bearer *** "access_token": "***" password=*** and "password":"***"'
    assert redacted("openid-connect/token: ConnectionError") == "openid-connect/token: ConnectionError"


def test_a_password_file_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "password", 0o600)
    with pytest.raises(InputError, match="is not a regular file; give a file of mode 0600"):
        Credentials("sandbox", tmp_path / "password").password()


# ------------------------------------------------------------------------------------------ refusals after a login


def source(client, **options) -> tuple[TokenSource, Clock, list[float]]:
    """Tokens by a clock that pauses move."""
    clock, pauses = Clock(), []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        clock.now += seconds

    credentials = Credentials("sandbox", client.sandbox.password_file)
    return (
        TokenSource(client.http, client.sandbox.identity_url, credentials, clock, pause=pause, **options),
        clock,
        pauses,
    )


def refused(description: str, status: int = 401, **options) -> Fault:
    body = json.dumps({"error": "invalid_grant", "error_description": description})
    return Fault.answer("/token", status, body, host="identity", **options)


def test_after_a_login_that_worked_a_refusal_is_not_believed_for_some_minutes(connect) -> None:
    client = connect()
    tokens, clock, pauses = source(client, patience=100)
    first = tokens.token()
    clock.now += 4000  # beyond the session
    client.sandbox.faults.add(refused("Invalid user credentials", times=3))
    assert tokens.token() != first
    assert pauses == [1, 2, 4]
    assert client.sandbox.logins == 2

    clock.now += 4000
    client.sandbox.faults.add(refused("Invalid user credentials"))
    began = clock.now
    with pytest.raises(InputError) as caught:
        tokens.token()
    assert 37 <= clock.now - began <= 100  # 1 + 2 + 4 + 8 + 16 + 32 = 63; the next would be 60 more
    assert str(caught.value) == (
        "CDSE_USERNAME = 'sandbox': CDSE refuses this name with its password, which worked before (Invalid user "
        "credentials); run again later; what is complete is kept."
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Account disabled", "CDSE refuses this account: Account disabled; ask CDSE's support why"),
        ("Account is not fully set up", "CDSE refuses this account: Account is not fully set up; log in by browser"),
    ],
)
def test_accounts_that_cannot_log_in_are_refused_at_once_also_later(connect, said: str, expected: str) -> None:
    client = connect()
    tokens, clock, pauses = source(client)
    client.sandbox.faults.add(refused(said, 400, times=1))
    with pytest.raises(InputError, match=expected):
        tokens.token()
    clock.now += 4000
    tokens.token()
    clock.now += 4000
    client.sandbox.faults.add(refused(said, 400))
    with pytest.raises(InputError, match=expected):
        tokens.token()
    assert pauses == []


def test_a_pause_between_logins_ends_if_the_run_does(connect) -> None:
    client = connect()
    clock = Clock()
    credentials = Credentials("sandbox", client.sandbox.password_file)
    tokens = TokenSource(client.http, client.sandbox.identity_url, credentials, clock)
    tokens.token()
    clock.now += 4000
    client.sandbox.faults.add(refused("Invalid user credentials"))
    caught: list[stopping.StoppedError] = []

    def ask() -> None:
        try:
            tokens.token()
        except stopping.StoppedError as error:
            caught.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    try:
        for thread in threads:
            thread.start()
        until(lambda: client.sandbox.requests[-1].status == 401)
        stopping.request(stopping.Reason.SIGNAL)
        for thread in threads:
            thread.join(DEADLINE)
    finally:
        stopping.withdraw(stopping.Reason.SIGNAL)
    assert len(caught) == 3


def test_tokens_that_are_never_accepted_do_not_lead_to_login_after_login(connect) -> None:
    client = connect()
    tokens, clock, _ = source(client)
    token = tokens.token()
    for _ in range(20):
        token = tokens.token(rejected=token)
    assert client.sandbox.logins == 2
    clock.now += 61
    again = tokens.token(rejected=token)
    assert client.sandbox.logins == 3
    tokens.accepted(again)
    for _ in range(2):  # a session that is used is worth a new login at once
        client.sandbox.faults.add(refused("Token is not active", 400, times=1))
        new = tokens.token(rejected=again)
        tokens.accepted(new)
        assert new != again
        again = new
    assert client.sandbox.logins == 5


def test_a_code_of_a_second_factor_is_sent_once(connect, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect(totp="918273")
    tokens, clock, pauses = source(client)
    with pytest.raises(InputError, match="if the account has a second factor, set CDSE_TOTP to its code") as caught:
        tokens.token()
    assert tokens.may_want_code
    monkeypatch.setenv("CDSE_TOTP", " 918273 ")
    tokens.log_in()
    first = tokens.token()
    assert client.sandbox.logins == 1
    tokens.log_in()
    assert client.sandbox.logins == 1
    clock.now += 490
    assert tokens.token() != first  # a refresh needs no code
    clock.now += 4000
    with pytest.raises(InputError, match=r"wants another code .*run again with a new code in CDSE_TOTP") as caught:
        tokens.token()
    assert pauses == []
    assert "918273" not in repr(caught.value) + repr(tokens.__dict__)


def test_a_code_is_asked_for_on_a_terminal_alone(connect, monkeypatch: pytest.MonkeyPatch) -> None:
    server = connect(totp="918273").sandbox
    for variable, value in server.environment().items():
        monkeypatch.setenv(variable, value)
    client_module.check_account()  # nobody to ask, and no code: the login comes with the first download
    assert server.requests == []
    questions: list[str] = []

    def asked(question: str) -> str:
        questions.append(question)
        return "918273"

    monkeypatch.setattr(client_module, "_is_on_terminal", lambda: True)
    monkeypatch.setattr(client_module.getpass, "getpass", asked)
    client_module.check_account()
    client_module.check_account()
    assert len(questions) == 1
    assert questions[0].endswith("Code of the second factor (Enter if there is none): ")
    assert (server.refusals, server.logins) == (1, 1)

    other = connect().sandbox
    other.faults.add(refused("Account disabled", 400))
    for variable, value in other.environment().items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(InputError, match="Account disabled"):
        client_module.check_account()
    assert len(questions) == 1
