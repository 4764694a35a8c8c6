"""HTTP as CDSE needs it: transient failures are tried again, others are clear errors, no token goes to other hosts."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from s2sr_core import __version__, stopping
from s2sr_core.errors import SourceError

_USER_AGENT = f"s2sr/{__version__}"
_TIMEOUT = (15.0, 120.0)
_REDIRECTS = 3
#: Longest wait that a server may ask for by Retry-After, seconds.
_LONGEST_WAIT = 300.0
_SECRETS = re.compile(r"(?i)(bearer\s+|(?:token|password)\"?\s*(?:=|:\s*\")\s*)[^\s\"&,}]+")


class CdseError(SourceError):
    """CDSE refused, or its answer makes no sense; ``status`` is HTTP's, 0 if there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message, status)
        self.status = status

    def __str__(self) -> str:
        return str(self.args[0])


class TransientError(CdseError):
    """A failure that may pass: 429, 5xx, a broken connection. ``wait`` is what the server asked for, seconds."""

    def __init__(self, message: str, status: int = 0, wait: float | None = None) -> None:
        super().__init__(message, status)
        self.wait = wait


@dataclass(frozen=True)
class RetryPolicy:
    """How often a request is tried, and the waits between: random, up to a limit that doubles each time, bounded.

    Attributes
    ----------
    attempts: tries in all.
    first_wait, longest_wait: the limit of the first wait and of any, seconds.
    """

    attempts: int = 8
    first_wait: float = 1.0
    longest_wait: float = 60.0

    def retrying(self, sleep: Callable[[float], None] = stopping.pause) -> Retrying:
        exponential = wait_random_exponential(multiplier=self.first_wait, max=self.longest_wait)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.wait if isinstance(error, TransientError) and error.wait is not None else 0.0
            return float(max(exponential(state), min(asked, _LONGEST_WAIT)))

        return Retrying(
            retry=retry_if_exception_type(TransientError),
            wait=wait,
            stop=stop_after_attempt(self.attempts),
            sleep=sleep,
            reraise=True,
        )


@dataclass
class Http:
    """Requests to a few known hosts, each thread with a session of its own.

    Attributes
    ----------
    hosts: base URLs of the only hosts that are asked, also after a redirect.
    retries: what happens after transient failures.
    """

    hosts: Iterable[str]
    retries: RetryPolicy = RetryPolicy()
    _local: threading.local = field(default_factory=threading.local, repr=False)

    def __post_init__(self) -> None:
        self._origins = {_origin(url) for url in self.hosts}

    def get_json(self, url: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """GET a JSON object; transient failures are tried again.

        Raises
        ------
        CdseError
            If the server refuses (with what it said), or keeps failing.
        """
        for attempt in self.retries.retrying():
            with attempt:
                return self._json(self.request("GET", url, params=params))
        raise AssertionError("unreachable")

    def post_form(self, url: str, form: Mapping[str, str]) -> dict[str, Any]:
        """POST a form and read a JSON object; transient failures are tried again."""
        for attempt in self.retries.retrying():
            with attempt:
                return self._json(self.request("POST", url, data=form))
        raise AssertionError("unreachable")

    def request(self, method: str, url: str, *, token: str | None = None, **options: Any) -> requests.Response:
        """One request; redirects are followed to known hosts only, and these get the token too.

        Raises
        ------
        TransientError
            429, 5xx, or no answer.
        CdseError
            Any other refusal, a redirect to another host, or an address on one.
        """
        for _ in range(_REDIRECTS + 1):
            if _origin(url) not in self._origins:
                raise CdseError(f"refused to follow CDSE to {_shown(url)}: not one of its known hosts")
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            try:
                response = self._session().request(
                    method, url, headers=headers, timeout=_TIMEOUT, allow_redirects=False, **options
                )
            except requests.RequestException as error:
                failure: TransientError | None = TransientError(f"{_shown(url)}: {type(error).__name__}")
            else:
                failure = None
            if failure is not None:
                raise failure  # outside the handler: its context would keep the request, with the token or password
            if not response.is_redirect:
                return _checked(response)
            response.close()
            url = urljoin(url, response.headers["Location"])
            options.pop("params", None)
        raise CdseError(f"{_shown(url)}: too many redirects")

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.headers["User-Agent"] = _USER_AGENT
            session.trust_env = True
            session.auth = _no_auth  # else requests would look into ~/.netrc
        return session

    @staticmethod
    def _json(response: requests.Response) -> dict[str, Any]:
        try:
            body = response.json()
        except (ValueError, RecursionError) as error:
            # Maintenance pages come with status 200; they are transient.
            raise TransientError(
                f"{_shown(response.url)}: not JSON: {_said(response)}", response.status_code
            ) from error
        if not isinstance(body, dict):
            raise CdseError(f"{_shown(response.url)}: unexpected JSON", response.status_code)
        return body


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _checked(response: requests.Response) -> requests.Response:
    if response.ok:
        return response
    status = response.status_code
    message = f"{_shown(response.url)}: HTTP {status}: {_said(response)}"
    response.close()
    if status == 429 or status >= 500:
        raise TransientError(message, status, _retry_after(response))
    raise CdseError(message, status)


def _retry_after(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else None


def _said(response: requests.Response) -> str:
    """The beginning of the server's answer, on one line, without anything that looks like a secret."""
    try:
        text = next(response.iter_content(2000, decode_unicode=False), b"").decode("utf-8", "replace")
    except requests.RequestException:
        text = ""
    return redacted(" ".join(text.split())[:300]) or "nothing"


def redacted(text: str) -> str:
    """``text`` without bearer tokens and passwords."""
    return _SECRETS.sub(r"\1***", text)


def _shown(url: str) -> str:
    """A URL without its query, which is long and may contain secrets."""
    return url.partition("?")[0]


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    try:
        return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return parts.scheme, "", None
