"""What clients have met at CDSE, by name: ``python -m s2sr_sandbox --fault NAME``, ``running(…, plans=["NAME"])``.

Each plan is a server's behaviour that clients of CDSE reported or that its documentation names. A new plan is an entry
of ``PLANS``.
"""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from s2sr_core.errors import InputError
from s2sr_sandbox.server.faults import Fault, Host
from s2sr_sandbox.server.settings import SandboxSettings


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """One kind of misfortune.

    Attributes
    ----------
    description: what the server does, as part of a sentence.
    faults: what goes wrong, in the order in which they are tried on a request.
    settings: what the plan needs of the sandbox, as fields of SandboxSettings.
    """

    description: str
    faults: tuple[Fault, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


_BYTES = r"/\$value$"
_IMAGE = r"_20m\.jp2\)/\$value$"
_TOKEN = r"/token$"  # noqa: S105
_QUERY = r"/Products$"
_JSON = {"content-type": "application/json"}
_WAF = json.dumps({"error": "WAF", "message": "Rate limit exceeded", "status": 429})
_FIREWALL_PAGE = "<html><head><title>403 Forbidden</title></head><body><h1>Request blocked</h1></body></html>"


def _detail(path: str, status: int, text: str, *, times: int | None = None, skip: int = 0) -> Fault:
    """An error of the download host in its older form."""
    body = json.dumps({"detail": text})
    return Fault.answer(path, status, body, headers=_JSON, host="download", times=times, skip=skip)


def _refused_login(status: int, description: str, *, times: int | None = None, skip: int = 0) -> Fault:
    """A refusal in Keycloak's words."""
    body = json.dumps({"error": "invalid_grant", "error_description": description})
    return Fault.answer(_TOKEN, status, body, headers=_JSON, host="identity", times=times, skip=skip)


def _page(path: str, host: Host, *, times: int) -> Fault:
    """The page of a firewall in front of the service."""
    return Fault.answer(path, 403, _FIREWALL_PAGE, headers={"content-type": "text/html"}, host=host, times=times)


def _count_too_high(page: dict[str, Any]) -> dict[str, Any]:
    return page | {"@odata.count": page.get("@odata.count", len(page["value"])) + 3}


def _with_zarr(page: dict[str, Any]) -> dict[str, Any]:
    """The first product of the page a second time, under the name and id of its EOPF form."""
    first = next(iter(page["value"]), None)
    if first is None:
        return page
    other = first | {"Name": first["Name"].replace(".SAFE", ".zarr"), "Id": first["Id"][:-4] + "0a0a"}
    return page | {"value": [other, *page["value"]]}


PLANS: dict[str, FaultPlan] = {
    # ------------------------------------------------------------------------------------------------ the account
    "keys-rotated": FaultPlan(
        "access tokens become invalid in the middle of the downloads (401 'Invalid token!')",
        (Fault(path=_BYTES, host="download", revoke="access", skip=4, times=1),),
    ),
    "session-ended": FaultPlan(
        "the session ends in the middle of the downloads: neither its access token nor its refresh token is valid",
        (Fault(path=_BYTES, host="download", revoke="sessions", skip=4, times=1),),
    ),
    "unauthorized": FaultPlan(
        "a good token is refused twice with 401 'Unauthorized', then accepted again",
        (_detail(_IMAGE, 401, "Unauthorized", skip=2, times=2),),
    ),
    "login-refused-later": FaultPlan(
        "after a login that worked, the session ends and right credentials are refused three times",
        (
            Fault(path=_BYTES, host="download", revoke="sessions", skip=4, times=1),
            _refused_login(401, "Invalid user credentials", skip=1, times=3),
        ),
    ),
    "account-disabled": FaultPlan("the account is disabled", (_refused_login(400, "Account disabled"),)),
    "account-not-set-up": FaultPlan(
        "the account is not fully set up: its owner has to log in by browser once",
        (_refused_login(400, "Account is not fully set up"),),
    ),
    "totp": FaultPlan("a login needs the code 123456, which is good for one login", (), {"totp": SecretStr("123456")}),
    "wrong-audience": FaultPlan(
        "downloads refuse the tokens as made for another service (401 DAT-ZIP-609)", (), {"audience": "OTHER"}
    ),
    # ------------------------------------------------------------------------------------- firewalls and passing errors
    "firewall-page": FaultPlan(
        "a firewall answers with a page: 403 and HTML, twice for the catalogue and for bytes",
        (_page(_QUERY, "catalogue", times=2), _page(_BYTES, "download", times=2)),
    ),
    "firewall-rate-limit": FaultPlan(
        "a firewall answers 429 with its own JSON and Retry-After: 2, for the catalogue and for bytes",
        (
            Fault.answer(_QUERY, 429, _WAF, headers=_JSON | {"retry-after": "2"}, host="catalogue", times=1),
            Fault.answer(_BYTES, 429, _WAF, headers=_JSON | {"retry-after": "2"}, host="download", times=1),
        ),
    ),
    "retry-after-date": FaultPlan(
        "429 with Retry-After as an HTTP date, 2 seconds ahead",
        (Fault(path=_BYTES, host="download", status=429, body=_WAF, headers=_JSON, retry_after_date=2, times=2),),
    ),
    "too-many-sessions": FaultPlan(
        "downloads are refused with 429 DAT-ZIP-100 'Max session number exceeded', six times",
        (Fault.error(_BYTES, 429, "DAT-ZIP-100", "Max session number exceeded", host="download", times=6),),
    ),
    "not-found-once": FaultPlan(
        "a second site that lags behind answers 404, once for the catalogue and once for bytes",
        (
            Fault.answer(_QUERY, 404, '{"detail": "Not Found"}', headers=_JSON, host="catalogue", times=1),
            Fault.html(_IMAGE, 404, host="download", times=1),
        ),
    ),
    "request-timeout": FaultPlan(
        "408, once for each host",
        (
            Fault.answer(_TOKEN, 408, host="identity", times=1),
            Fault.answer(_QUERY, 408, host="catalogue", times=1),
            Fault.answer(_BYTES, 408, host="download", times=1),
        ),
    ),
    "forbidden": FaultPlan(
        "the download host forbids the first image (403 DAT-ZIP-608), finally",
        (Fault.error(r"_SCL_20m\.jp2\)/\$value$", 403, "DAT-ZIP-608", "Forbidden", host="download", times=1),),
    ),
    "down": FaultPlan("the download host is down: 503 for everything", (Fault.html(_BYTES, 503, host="download"),)),
    "catalogue-down": FaultPlan("the catalogue is down: 503 for everything", (Fault.html("", 503, host="catalogue"),)),
    "identity-down": FaultPlan("nobody can log in: 503 for everything", (Fault.html("", 503, host="identity"),)),
    "short-outage": FaultPlan(
        "each host is down at first: 503 for everything, 4 times, and 12 times for bytes",
        (
            Fault.html("", 503, host="identity", times=4),
            Fault.html("", 503, host="catalogue", times=4),
            Fault.html(_BYTES, 503, host="download", times=12),
        ),
    ),
    "broken-bodies": FaultPlan(
        "whatever is downloaded breaks off after 100 bytes",
        (Fault(path=_BYTES, host="download", close_after=100),),
    ),
    # ---------------------------------------------------------------------------------------------------- redirects
    "redirect": FaultPlan(
        "downloads are redirected to another host of the service",
        (Fault(path=_BYTES, host="download", redirect_to="zipper"),),
    ),
    "redirect-foreign": FaultPlan(
        "downloads are redirected to a host that is not the service's",
        (Fault(path=_BYTES, host="download", redirect_to="foreign"),),
    ),
    # -------------------------------------------------------------------------------------------------- the catalogue
    "count-too-high": FaultPlan(
        "the catalogue counts three products more than it lists, whether it was asked for a count or not",
        (Fault(path=_QUERY, host="catalogue", rewrite=_count_too_high),),
    ),
    "slow-count": FaultPlan(
        "every answer with $count takes 5 seconds longer",
        (Fault(path=_QUERY, host="catalogue", query=r"(?i)(\$|%24)count=true", delay=5),),
    ),
    "zarr": FaultPlan(
        "the catalogue lists an entry of another kind (.zarr) under the same product type",
        (Fault(path=_QUERY, host="catalogue", rewrite=_with_zarr),),
    ),
    # -------------------------------------------------------------------------------------------------------- bytes
    "gzip": FaultPlan(
        "a proxy compresses what it may, and Content-Length is that of the compressed bytes",
        (Fault(path=_BYTES, host="download", gzipped="accepted"),),
    ),
    "gzip-always": FaultPlan(
        "a proxy compresses everything, also for clients that do not accept it",
        (Fault(path=_BYTES, host="download", gzipped="always"),),
    ),
    "cut": FaultPlan(
        "the connection closes after 1000 bytes of an image, three times; parts of files cannot be asked for",
        (Fault(path=_IMAGE, host="download", close_after=1000, times=3),),
    ),
    "cut-ranges": FaultPlan(
        "the connection closes after 1000 bytes of an image, three times; the rest can be asked for (206)",
        (Fault(path=_IMAGE, host="download", close_after=1000, times=3),),
        {"ranges": True},
    ),
    "ranges-refused": FaultPlan(
        "the connection closes after 1000 bytes of an image, three times; a request for the rest is refused (416, 400)",
        (
            Fault(path=_IMAGE, host="download", ranged=True, status=416, times=1),
            Fault(path=_IMAGE, host="download", ranged=True, status=400, body='{"detail": "Bad"}', headers=_JSON),
            Fault(path=_IMAGE, host="download", close_after=1000, times=3),
        ),
    ),
    "stall": FaultPlan(
        "an image stalls at its 1000th byte for 200 seconds",
        (Fault(path=_IMAGE, host="download", stall_after=1000, stall_seconds=200, times=1),),
    ),
    "corrupt": FaultPlan(
        "one byte of an image is wrong, twice", (Fault(path=_IMAGE, host="download", corrupt_at=500, times=2),)
    ),
    "error-as-success": FaultPlan(
        "an error text comes with status 200 instead of an image, twice",
        (Fault.error(_IMAGE, 200, "DAT-ZIP-500", "Something went wrong", host="download", times=2),),
    ),
    # ---------------------------------------------------------------------------------------------------------- TLS
    "untrusted-certificate": FaultPlan(
        "an inspecting proxy stands before CDSE's hosts, and its certificate is not trusted",
        (),
        {"proxy": True, "trusted": False},
    ),
}


def check_plans(names: Sequence[str]) -> None:
    """See that each of ``names`` is a plan.

    Raises
    ------
    InputError
        If one is not.
    """
    for name in names:
        if name not in PLANS:
            similar = difflib.get_close_matches(name, PLANS, n=1)
            remedy = f"did you mean {similar[0]!r}?" if similar else "--fault list prints the names"
            raise InputError("fault", name, "is not a fault plan", remedy)


def described_plans() -> str:
    """Every plan with its description, one per line."""
    width = max(map(len, PLANS))
    return "\n".join(f"{name:<{width}}  {plan.description}" for name, plan in PLANS.items())


def faults_of_plans(names: Sequence[str]) -> tuple[Fault, ...]:
    """The faults of the plans, in their order.

    Raises
    ------
    InputError
        If one of ``names`` is not a plan.
    """
    check_plans(names)
    return tuple(itertools.chain.from_iterable(PLANS[name].faults for name in names))


def settings_of_plans(names: Sequence[str], settings: SandboxSettings) -> SandboxSettings:
    """``settings`` with what the plans need; a field that was given explicitly stays as it is.

    Raises
    ------
    InputError
        If one of ``names`` is not a plan.
    """
    check_plans(names)
    needed = {field: value for name in names for field, value in PLANS[name].settings.items()}
    given = {field: getattr(settings, field) for field in settings.model_fields_set}
    return SandboxSettings(**(needed | given))
