"""One token for an account: shared by all threads, refreshed before it expires, with as few logins as possible.

CDSE's access token lives 10 minutes, its refresh token 60 and can be used again within that hour; each password login
opens one of an account's 100 sessions (CDSE documentation, "Access token"). So the password is sent once an hour.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from s2sr_core.errors import InputError
from s2sr_core.sources.cdse.http import CdseError, Http, redacted
from s2sr_core.sources.cdse.settings import Credentials

_PATH = "/auth/realms/CDSE/protocol/openid-connect/token"
_CLIENT = "cdse-public"
#: Share of its lifetime after which a token is replaced, so that none expires during a request.
_FRESH = 0.8
#: Seconds for which a refusal is remembered: if every thread asked again, the account would be locked.
_REMEMBERED = 300.0


class TokenSource:
    """Hands out the access token of an account; safe for threads."""

    def __init__(
        self, http: Http, identity_url: str, credentials: Credentials, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._http, self._url = http, identity_url + _PATH
        self._credentials, self._clock = credentials, clock
        self._lock = threading.Lock()
        self._access, self._refresh = "", ""
        self._access_until = self._refresh_until = 0.0
        self._refused: InputError | None = None
        self._refused_until = 0.0

    def token(self, rejected: str = "") -> str:
        """A valid token; ``rejected`` is one that the server has just called expired.

        Raises
        ------
        InputError
            If the account's name or password is refused.
        CdseError
            If the identity service keeps failing.
        """
        with self._lock:
            now = self._clock()
            if self._refused is not None and now < self._refused_until:
                raise self._refused
            if self._access and now < self._access_until and self._access != rejected:
                return self._access
            if self._refresh and now < self._refresh_until:
                try:
                    self._take(self._ask(grant_type="refresh_token", refresh_token=self._refresh))
                except CdseError as error:
                    if error.status not in (400, 401):
                        raise
                    self._refresh = ""  # ended on the server's side
                else:
                    return self._access
            self._login()
            return self._access

    def _login(self) -> None:
        name = self._credentials.username
        try:
            body = self._ask(grant_type="password", username=name, password=self._credentials.password())
        except CdseError as error:
            if error.status in (400, 401):
                problem = "CDSE refused this name with its password"
                self._refused = InputError("CDSE_USERNAME", name, problem, "check both, and log in by browser once")
                self._refused_until = self._clock() + _REMEMBERED
                raise self._refused from None
            raise
        self._take(body)

    def _ask(self, **form: str) -> dict[str, Any]:
        """Ask for a token.

        Raises
        ------
        CdseError
            Also for transient failures: they were tried again here, and retries of a download would multiply that.
        """
        secrets = [form[name] for name in ("password", "refresh_token") if form.get(name)]
        try:
            return self._http.post_form(self._url, {"client_id": _CLIENT, **form})
        except CdseError as error:
            message, status = redacted(str(error)), error.status
        for secret in secrets:
            message = message.replace(secret, "***")
        raise CdseError(message, status)  # outside the handler: its context would keep the request, with the password

    def _take(self, body: dict[str, Any]) -> None:
        now = self._clock()
        try:
            self._access = str(body["access_token"])
            self._access_until = now + _FRESH * float(body.get("expires_in", 600))
            self._refresh = str(body.get("refresh_token", ""))
            self._refresh_until = now + _FRESH * float(body.get("refresh_expires_in", 0))
        except (KeyError, TypeError, ValueError) as error:
            raise CdseError(f"{self._url}: the answer contains no token") from error
