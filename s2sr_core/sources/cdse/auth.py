"""One token for an account: shared by all threads, refreshed before it expires, with as few logins as possible.

CDSE's access token lives 10 minutes, its refresh token 60 and can be used again within that hour; each password login
opens one of an account's 100 sessions (CDSE documentation, "Access token"). So the password is sent once an hour.

The token endpoint has answered "Invalid user credentials" to right credentials after some 50 minutes of downloading
(eodag #803, opera-sds-pcm #672, RAiDER #634). So a refusal is believed at once only if no login has worked yet.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from s2sr_core import stopping
from s2sr_core.errors import InputError
from s2sr_core.sources.cdse.http import CdseError, Http, redacted
from s2sr_core.sources.cdse.settings import Credentials

_PATH = "/auth/realms/CDSE/protocol/openid-connect/token"
_CLIENT = "cdse-public"
#: Share of its lifetime after which a token is replaced, so that none expires during a request.
_FRESH = 0.8
#: Seconds for which a refusal is remembered: if every thread asked again, the account would be locked.
_REMEMBERED = 300.0
#: Logins in a row whose tokens were never accepted, and the seconds until another one: each opens a session.
_MOST_LOGINS, _BETWEEN_LOGINS = 2, 60.0
#: First and longest pause between logins that are refused although one has worked, seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
#: Refusals that no other try changes, in Keycloak's words (its ``ValidateUsername``), and what to do about them.
_FINAL = {
    "account disabled": "ask CDSE's support why, or use another account",
    "account is not fully set up": "log in by browser once, at https://dataspace.copernicus.eu, and complete what it "
    "asks for",
}


class TokenSource:
    """Hands out the access token of an account; safe for threads.

    Attributes
    ----------
    patience: how long a login is repeated that is refused although one has worked, seconds.
    may_want_code: whether the last login was refused in a way that a missing second factor is.
    """

    def __init__(
        self,
        http: Http,
        identity_url: str,
        credentials: Credentials,
        clock: Callable[[], float] = time.monotonic,
        patience: float = 600.0,
        pause: Callable[[float], None] = stopping.pause,
    ) -> None:
        self.patience, self.may_want_code = patience, False
        self._http, self._url = http, identity_url + _PATH
        self._credentials, self._clock, self._pause = credentials, clock, pause
        self._lock = threading.Lock()
        self._access, self._refresh = "", ""
        self._access_until = self._refresh_until = 0.0
        self._is_of_login = self._is_accepted = self._used_code = False
        self._useless_logins = 0
        self._login_at: float | None = None
        self._refused: InputError | None = None
        self._refused_until = 0.0

    def token(self, rejected: str = "") -> str:
        """A valid token; ``rejected`` is one that the server has just refused.

        A refreshed one replaces it, or that of a new login if the session has ended. If the server refuses the tokens
        of new logins too, it is given again for a minute: logins are few.

        Raises
        ------
        InputError
            If the account's name or password is refused.
        CdseError
            If the identity service keeps failing.
        """
        with self._lock:
            stopping.check()
            now = self._clock()
            if self._refused is not None and now < self._refused_until:
                raise self._refused
            if self._access and now < self._access_until:
                if self._access != rejected:
                    return self._access
                if not (self._is_of_login or self._is_accepted):
                    self._refresh = ""  # what it gives is refused
            if not self._refreshed() and not (self._access == rejected and self._must_wait()):
                self._log_in()
            return self._access

    def accepted(self, token: str) -> None:
        """Take note that the server has accepted ``token``."""
        with self._lock:
            if token == self._access:
                self._is_accepted, self._useless_logins = True, 0

    def _must_wait(self) -> bool:
        """Whether another login would be too soon."""
        is_recent = self._login_at is not None and self._clock() < self._login_at + _BETWEEN_LOGINS
        return is_recent and self._useless_logins >= _MOST_LOGINS

    def log_in(self, code: str = "") -> None:
        """Log in now, before any work, if that has not been done; ``code`` is that of a second factor.

        Raises
        ------
        InputError
            If the account is refused.
        CdseError
            If the identity service keeps failing.
        """
        with self._lock:
            if self._login_at is None:
                self._refused = None
                self._log_in(code)

    def _refreshed(self) -> bool:
        """Whether the session could be continued."""
        if not self._refresh or self._clock() >= self._refresh_until:
            return False
        try:
            self._take(self._ask(grant_type="refresh_token", refresh_token=self._refresh))
        except CdseError as error:
            if error.status not in (400, 401):
                raise
            self._refresh = ""  # ended on the server's side
            return False
        self._is_of_login = False
        return True

    def _log_in(self, code: str = "") -> None:
        """Log in, patiently if that has worked before."""
        began, pause = self._clock(), _FIRST_PAUSE
        while True:
            try:
                self._log_in_once(code or ("" if self._used_code else self._credentials.code()))
            except CdseError as error:
                if error.status not in (400, 401):
                    raise
                refusal, self.may_want_code = self._refusal(error), not _is_final(error)
                if self._login_at is None or self._used_code or _is_final(error):
                    self._refused, self._refused_until = refusal, self._clock() + _REMEMBERED
                    raise refusal from None
            else:
                return
            if self._clock() + pause > began + self.patience:
                self._refused, self._refused_until = refusal, self._clock() + _REMEMBERED
                raise refusal
            self._pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _log_in_once(self, code: str) -> None:
        form = {"username": self._credentials.username, "password": self._credentials.password()}
        if code:
            form["totp"] = code
        self._take(self._ask(grant_type="password", **form))
        self._is_of_login, self._login_at, self._used_code = True, self._clock(), self._used_code or bool(code)
        self._useless_logins += 1

    def _refusal(self, error: CdseError) -> InputError:
        """A refused login in one sentence, with what the server said."""
        said = str(error.answer.get("error_description") or error.answer.get("error") or f"HTTP {error.status}")
        said = redacted(" ".join(said.split())[:200])
        if _is_final(error):
            problem, remedy = f"CDSE refuses this account: {said}", _FINAL[said.lower()]
        elif self._login_at is None:
            problem = f"CDSE refused this name with its password ({said})"
            remedy = (
                "check both, and log in by browser once; if the account has a second factor, set CDSE_TOTP to its code "
                "of this moment"
            )
        elif self._used_code:
            problem = (
                f"the session that was opened with a second factor has ended, and CDSE wants another code ({said})"
            )
            remedy = "run again with a new code in CDSE_TOTP; what is complete is kept"
        else:
            problem = f"CDSE refuses this name with its password, which worked before ({said})"
            remedy = "run again later; what is complete is kept"
        return InputError("CDSE_USERNAME", self._credentials.username, problem, remedy)

    def _ask(self, **form: str) -> dict[str, Any]:
        """Ask for a token.

        Raises
        ------
        CdseError
            Also for transient failures: they were tried again here, and retries of a download would multiply that.
        """
        secrets = [form[name] for name in ("password", "refresh_token", "totp") if form.get(name)]
        try:
            return self._http.post_form(self._url, {"client_id": _CLIENT, **form})
        except CdseError as error:
            message, status, answer = redacted(str(error)), error.status, error.answer
        for secret in secrets:
            message = message.replace(secret, "***")
            answer = {name: str(value).replace(secret, "***") for name, value in answer.items()}
        raise CdseError(message, status, answer)  # outside the handler: its context would keep the password

    def _take(self, body: dict[str, Any]) -> None:
        now = self._clock()
        try:
            self._access = str(body["access_token"])
            self._access_until = now + _FRESH * float(body.get("expires_in", 600))
            self._refresh = str(body.get("refresh_token", ""))
            self._refresh_until = now + _FRESH * float(body.get("refresh_expires_in", 0))
        except (KeyError, TypeError, ValueError) as error:
            raise CdseError(f"{self._url}: the answer contains no token") from error
        self._is_accepted = False


def _is_final(error: CdseError) -> bool:
    return str(error.answer.get("error_description", "")).lower() in _FINAL
