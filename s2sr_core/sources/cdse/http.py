"""HTTP as CDSE needs it: transient failures are tried again, others are clear errors, no token goes to other hosts."""

from __future__ import annotations

import json
import math
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import urljoin

import requests
import urllib3
from requests.auth import AuthBase
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential

from s2sr_core import __version__, stopping
from s2sr_core.errors import InputError, SourceError

_USER_AGENT = f"s2sr/{__version__}"
_TIMEOUT = (15.0, 120.0)
_REDIRECTS = 3
#: Bytes of JSON that are read, and seconds that they may take; 1000 products with their attributes have some 10 MB.
_LARGEST_JSON, _LONGEST_ANSWER = 100_000_000, 600.0
_CHUNK = 1 << 16
#: Longest wait that a server may ask for by Retry-After, seconds.
_LONGEST_WAIT = 300.0
#: Tries of a request whose refusal may be that of a firewall, or of a site that lags behind.
_FEW = 4
_SECRETS = re.compile(r"(?i)(bearer\s+|<AWSAccessKeyId>|(?:token|password|totp)\"?\s*(?:=|:\s*\")\s*)[^\s\"&,}<]+")
#: The beginning of an error's body that is read, bytes.
_SAID = 2000
#: Variables that name the file of trusted authorities: the first two are known to requests, the last to OpenSSL.
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
#: TLS errors that pass: the connection was cut, or bytes were lost on the way.
_PASSING_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError, ssl.SSLWantReadError)
#: Errors of urllib3 if there is no connection: refused, no such name, no answer in time, no proxy.
_UNREACHABLE = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.NameResolutionError,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.ProxyError,
)
_PASSING_TLS_REASONS = ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", "BAD_RECORD_MAC", "UNEXPECTED_EOF_WHILE_READING")


class CdseError(SourceError):
    """CDSE refused, or its answer makes no sense.

    Attributes
    ----------
    status: HTTP's; 0 if there was no answer.
    answer: the JSON object that the server gave as its reason; empty if it gave none.
    """

    def __init__(self, message: str, status: int = 0, answer: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, status)
        self.status = status
        self.answer = dict(answer or {})

    def __str__(self) -> str:
        return str(self.args[0])


class TransientError(CdseError):
    """A failure that may pass: 408, 429, 5xx, a broken connection, the page of a firewall.

    Attributes
    ----------
    wait: what the server asked for, seconds.
    is_refusal: the server said no, which is final if a few tries do not change it.
    went_on: something was gained all the same, so this try does not count.
    is_unreachable: there was no connection to the host at all.
    """

    def __init__(
        self,
        message: str,
        status: int = 0,
        answer: Mapping[str, Any] | None = None,
        *,
        wait: float | None = None,
        is_refusal: bool = False,
        went_on: bool = False,
        is_unreachable: bool = False,
    ) -> None:
        super().__init__(message, status, answer)
        self.wait, self.is_refusal, self.went_on, self.is_unreachable = wait, is_refusal, went_on, is_unreachable


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

    def run[R](self, request: Callable[[], R]) -> R:
        """The result of ``request``, which is called again after each TransientError; pauses end if the run does.

        Raises
        ------
        TransientError
            The last one, if none was a refusal.
        CdseError
            Any other error of ``request``, and a refusal that did not pass.
        """
        failures = 0

        def is_over(state: RetryCallState) -> bool:
            nonlocal failures
            error = _transient(state)
            failures = 0 if error.went_on else failures + 1
            return failures >= (min(_FEW, self.attempts) if error.is_refusal else self.attempts)

        exponential = wait_random_exponential(multiplier=self.first_wait, max=self.longest_wait)

        def wait(state: RetryCallState) -> float:
            return float(max(exponential(state), min(_transient(state).wait or 0.0, _LONGEST_WAIT)))

        retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            wait=wait,
            stop=is_over,
            sleep=stopping.pause,
            reraise=True,
        )
        try:
            return retrying(request)
        except TransientError as error:
            if not error.is_refusal:
                raise
            final = CdseError(str(error), error.status, error.answer)
        raise final


def _transient(state: RetryCallState) -> TransientError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, TransientError)  # noqa: S101  # tenacity asks after such an error alone
    return error


class Guard(Protocol):
    """Calls an exchange with the host of a URL: a request, and whatever is read of its answer.

    What it does if the host is down is its own affair.
    """

    def __call__[R](self, url: str, exchange: Callable[[], R]) -> R: ...


def _unguarded[R](url: str, exchange: Callable[[], R]) -> R:
    return exchange()


@dataclass
class Http:
    """Requests to a few known hosts, each thread with a session of its own.

    Attributes
    ----------
    hosts: base URLs of the only hosts that are asked first.
    retries: what happens after transient failures.
    redirect_hosts: further hosts to which these may redirect, separated by commas: ``name``, ``name:port``, or
        ``.domain`` for a domain with all its hosts. They are asked by https alone, unless they are this machine.
    guard: makes each exchange, and knows what to do if the host is down.
    """

    hosts: Iterable[str]
    retries: RetryPolicy = RetryPolicy()
    redirect_hosts: str = ""
    guard: Guard = _unguarded
    _local: threading.local = field(default_factory=threading.local, repr=False)

    def __post_init__(self) -> None:
        self._origins = {_origin(url) for url in self.hosts}

    def get_json(self, url: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        """GET a JSON object; transient failures are tried again.

        Raises
        ------
        CdseError
            If the server refuses (with what it said), or keeps failing.
        InputError
            If the connection cannot be trusted.
        """
        return self.retries.run(lambda: self._guarded_json("GET", url, params=params))

    def post_form(self, url: str, form: Mapping[str, str]) -> dict[str, Any]:
        """POST a form and read a JSON object; transient failures are tried again."""
        return self.retries.run(lambda: self._guarded_json("POST", url, data=form))

    def _guarded_json(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        return self.guard(url, lambda: self._json(self.ask(method, url, stream=True, **options)))

    def ask(
        self,
        method: str,
        url: str,
        *,
        auth: AuthBase | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> requests.Response:
        """One request; redirects are followed to known hosts only, and these get what ``auth`` adds too.

        With ``auth``, it asks for bytes of a product, as they are: no proxy on the way should compress them.

        Raises
        ------
        TransientError
            408, 429, 5xx, no answer, or a refusal that is not the service's own.
        CdseError
            Any other refusal, a redirect to another host, or an address on one.
        InputError
            If the connection cannot be trusted.
        """
        sent = dict(headers or {})
        if auth is not None:
            sent |= {"Accept-Encoding": "identity"}
            options["auth"] = auth
        allowed = _origin(url) in self._origins
        for _ in range(_REDIRECTS + 1):
            if not allowed:
                raise CdseError(f"refused to follow CDSE to {_shown(url)}: not one of its known hosts")
            response = self._answered(method, url, headers=sent, **options)
            if not response.is_redirect:
                return _checked(response, is_download=auth is not None)
            response.close()
            if method == "POST" and response.status_code not in (307, 308):
                raise CdseError(f"{_shown(url)}: a redirect (HTTP {response.status_code}) came instead of an answer")
            url = urljoin(url, response.headers["Location"])
            allowed = self._may_follow(url)
            options.pop("params", None)
        raise CdseError(f"{_shown(url)}: too many redirects")

    def _answered(self, method: str, url: str, **options: Any) -> requests.Response:
        failure: CdseError | InputError
        try:
            return self._session().request(method, url, timeout=_TIMEOUT, allow_redirects=False, **options)
        except requests.RequestException as error:
            failure = _failure(url, error)
        except ValueError as error:  # requests reads the address of a redirect, also if it need not follow it
            failure = CdseError(f"{_shown(url)}: a redirect to something that is not an address ({error})")
        except OSError as error:
            if "certificate" not in str(error):
                raise
            failure = _untrusted(url, str(error))  # requests found no file of authorities where a variable says
        raise failure  # outside the handler: its context would keep the request, with the token or password

    def _may_follow(self, url: str) -> bool:
        """Whether a redirect may lead to ``url``, with the token."""
        scheme, host, port = origin = _origin(url)
        if origin in self._origins:
            return True
        if scheme != "https" and host not in ("127.0.0.1", "localhost", "[::1]"):
            return False
        for entry in filter(None, (entry.strip().lower() for entry in self.redirect_hosts.split(","))):
            if entry.startswith("."):
                if port == 443 and f".{host}".endswith(entry):
                    return True
            elif entry in (f"{host}:{port}", host if port == 443 else ""):
                return True
        return False

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.headers["User-Agent"] = _USER_AGENT
            session.trust_env = True
            session.auth = _no_auth  # else requests would look into ~/.netrc
            session.verify = os.environ.get("SSL_CERT_FILE") or True  # unless a variable of its own says more
        return session

    @staticmethod
    def _json(response: requests.Response) -> dict[str, Any]:
        content = b""
        try:
            content = _whole(response)
            body = json.loads(content)
        except (ValueError, RecursionError) as error:
            # Maintenance pages come with status 200; they are transient.
            raise TransientError(
                f"{_shown(response.url)}: not JSON: {_shortened(content[:_SAID])}", response.status_code
            ) from error
        except requests.RequestException as error:
            failure = _failure(response.url, error)
        else:
            if isinstance(body, dict):
                return body
            failure = CdseError(f"{_shown(response.url)}: unexpected JSON", response.status_code)
        raise failure


def _whole(response: requests.Response) -> bytes:
    """The body of an answer that should be JSON.

    Raises
    ------
    CdseError
        If it is larger than any, or takes longer.
    requests.RequestException
        If it breaks off.
    """
    content, began = bytearray(), time.monotonic()
    with response:
        for chunk in response.iter_content(_CHUNK):
            stopping.check()
            content += chunk
            if len(content) > _LARGEST_JSON:
                raise CdseError(f"{_shown(response.url)}: the answer has more than {_LARGEST_JSON // 10**6} MB")
            if time.monotonic() - began > _LONGEST_ANSWER:
                raise TransientError(f"{_shown(response.url)}: the answer takes more than {_LONGEST_ANSWER:.0f} s")
    return bytes(content)


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _failure(url: str, error: requests.RequestException) -> CdseError | InputError:
    """What an exchange without a whole answer means; nothing of the request is in it."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            if isinstance(cause, _PASSING_TLS) or cause.reason in _PASSING_TLS_REASONS:
                break
            return _untrusted(url, getattr(cause, "verify_message", "") or cause.reason or str(cause))
    reasons = [cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror]
    reason = f" ({reasons[0]})" if reasons else ""
    is_unreachable = any(isinstance(each, _UNREACHABLE) for each in causes)
    return TransientError(f"{_shown(url)}: {type(error).__name__}{reason}", is_unreachable=is_unreachable)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and the errors behind it, which requests and urllib3 keep in several places."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        here = waiting.pop(0)
        if isinstance(here, BaseException) and id(here) not in seen:
            seen.add(id(here))
            yield here
            waiting += [here.__cause__, here.__context__, getattr(here, "reason", None), *here.args]


def _untrusted(url: str, reason: str) -> InputError:
    """TLS failed: no other try helps, and the user has to say whom to trust."""
    name = next((name for name in _CA_VARIABLES if os.environ.get(name)), _CA_VARIABLES[0])
    host = _origin(url)[1]
    return InputError(
        name,
        os.environ.get(name, ""),
        f"no trusted TLS connection to {host} is possible ({' '.join(reason.split())[:200]})",
        "if a proxy of your network inspects TLS, set REQUESTS_CA_BUNDLE or SSL_CERT_FILE to the file (PEM) with its "
        "authority; otherwise unset them",
    )


def _checked(response: requests.Response, *, is_download: bool) -> requests.Response:
    if response.ok:
        return response
    status = response.status_code
    body = _beginning(response)
    response.close()
    answer = _answer_in(redacted(body.decode("utf-8", "replace")))
    said = f"{answer['code']}: {answer['message']}" if b"<Error>" in body and answer else _shortened(body)
    message = f"{_shown(response.url)}: HTTP {status}: {said}"
    if status in (408, 429) or status >= 500:
        raise TransientError(message, status, answer, wait=_retry_after(response), is_refusal=status == 408)
    is_own = isinstance(answer.get("code"), str) or isinstance(answer.get("detail"), str)
    if (status in (403, 404) and not (is_download and is_own)) or (
        status == 401 and not is_download and not answer.get("error")
    ):
        raise TransientError(message, status, answer, wait=_retry_after(response), is_refusal=True)
    raise CdseError(message, status, answer)


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that the server asks to wait (RFC 9110, 10.2.3): a number of them, or a date by its own clock."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    try:
        now = parsedate_to_datetime(response.headers.get("Date", ""))
    except ValueError:
        now = datetime.now(UTC)
    if until.tzinfo is None or now.tzinfo is None:
        return None
    seconds = (until - now).total_seconds()
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def _beginning(response: requests.Response) -> bytes:
    try:
        return next(response.iter_content(_SAID), b"")
    except requests.RequestException:
        return b""


def _answer_in(text: str) -> dict[str, Any]:
    """The JSON object of an error's body; of S3's XML, which may quote keys elsewhere, code and message alone."""
    if "<Error>" in text:
        code, message = (re.search(f"<{name}>([^<]*)<", text) for name in ("Code", "Message"))
        return {} if code is None else {"code": code[1], "message": "" if message is None else message[1]}
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _shortened(body: bytes) -> str:
    """The beginning of a server's answer, on one line, without anything that looks like a secret."""
    return redacted(" ".join(body.decode("utf-8", "replace").split())[:300]) or "nothing"


def redacted(text: str) -> str:
    """``text`` without bearer tokens, passwords and codes."""
    return _SECRETS.sub(r"\1***", text)


def _shown(url: str) -> str:
    """A URL without its query, which is long and may contain secrets."""
    return url.partition("?")[0]


def _origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port as requests would ask them: another reading of a strange URL would let a token out."""
    try:
        parts = urllib3.util.parse_url(url)
    except urllib3.exceptions.LocationParseError:
        return "", "", None
    if parts.auth:
        return "", "", None
    scheme = (parts.scheme or "").lower()
    return scheme, (parts.host or "").lower(), parts.port or {"https": 443, "http": 80}.get(scheme)
