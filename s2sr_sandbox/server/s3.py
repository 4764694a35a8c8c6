"""The object storage: files of products by path-style addresses, for requests that the account's keys signed."""

from __future__ import annotations

import hmac
from pathlib import PurePosixPath
from xml.sax.saxutils import escape

import requests
from fastapi import FastAPI, Request
from fastapi.responses import Response
from requests_aws4auth import AWS4Auth

from s2sr_sandbox.server.connections import Connections
from s2sr_sandbox.server.download import ByteStream, file_bytes, span_of
from s2sr_sandbox.server.products import Catalogue
from s2sr_sandbox.server.settings import SandboxSettings

_REGION = "default"


def s3_app(catalogue: Catalogue, connections: Connections, settings: SandboxSettings, url: str) -> FastAPI:
    """The application of the object storage at ``url``."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)

    @app.api_route("/{path:path}", methods=["GET", "HEAD"])
    async def answer(request: Request, path: str) -> Response:
        if (refused := _refused(request, settings, url)) is not None:
            return refused
        request.state.account = settings.username
        place = PurePosixPath("/" + path)
        entry = next((each for each in catalogue if place.is_relative_to(each.s3_path)), None)
        missing = _error(404, "NoSuchKey", "The specified key does not exist.")
        if entry is None or not entry.online or entry.name in settings.deleted:
            return missing
        if entry.name in settings.forbidden:
            return _error(403, "AccessDenied", "Access Denied.")
        source = file_bytes(entry, (entry.name, *place.relative_to(entry.s3_path).parts))
        if source is None:
            return missing
        if request.method == "HEAD":
            return source.headers_only()
        slot = connections.slot(settings.username)
        if slot is None:
            return _error(503, "SlowDown", "Please reduce your request rate.")
        return ByteStream(source, slot, settings, span_of(request, source), takes_ranges=True)

    return app


def _refused(request: Request, settings: SandboxSettings, url: str) -> Response | None:
    """Why a request is refused; None if the account's keys signed it."""
    given = request.headers.get("authorization", "")
    date = request.headers.get("x-amz-date", "")
    if not given or not date:
        return _error(403, "AccessDenied", "Access Denied.")
    if f"Credential={settings.s3_access_key}/" not in given:
        return _error(403, "InvalidAccessKeyId", "The Access Key Id you provided does not exist in our records.")
    signed = _signature(request, settings, url)
    if not hmac.compare_digest(given.encode(), signed.encode()):
        return _error(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.", given)
    return None


def _signature(request: Request, settings: SandboxSettings, url: str) -> str:
    """The header that the keys give for the same request."""
    names = _signed_headers(request.headers.get("authorization", ""))
    headers = {name: request.headers[name] for name in names if name in request.headers}
    target = request.scope["raw_path"].decode("ascii")
    again = requests.Request(request.method, f"{url}{target}", headers=headers).prepare()
    signer = AWS4Auth(
        settings.s3_access_key,
        settings.s3_secret_key.get_secret_value(),
        _REGION,
        "s3",
        include_hdrs=names,
        date=request.headers["x-amz-date"][:8],
    )
    signer(again)
    return str(again.headers["Authorization"])


def _signed_headers(authorization: str) -> list[str]:
    _, _, rest = authorization.partition("SignedHeaders=")
    return rest.partition(",")[0].split(";")


def _error(status: int, code: str, message: str, more: str = "") -> Response:
    quoted = f"<Quoted>{escape(more)}</Quoted>" if more else ""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message>{quoted}</Error>"
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>{body}', status, media_type="application/xml")
