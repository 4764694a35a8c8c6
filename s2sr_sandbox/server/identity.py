"""The identity host: Keycloak's token endpoint with the password and refresh grants, and the discovery documents.

https://documentation.dataspace.copernicus.eu/APIs/Token.html; errors as RFC 6749, section 5.2, in Keycloak's words.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from s2sr_sandbox.server.settings import CLIENT_ID, SandboxSettings
from s2sr_sandbox.server.tokens import TokenError, TokenMint, same

REALM = "/auth/realms/CDSE"
_ENDPOINT = f"{REALM}/protocol/openid-connect"
_MAX_BODY = 1 << 16


class RefusedError(Exception):
    """A token request that is refused."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(error, description)
        self.status = status
        self.body = {"error": error, "error_description": description}


class Identity:
    """Logins and renewals of one account.

    Attributes
    ----------
    logins: password grants that succeeded.
    renewals: refresh grants that succeeded.
    refusals: requests that were refused.
    """

    def __init__(self, mint: TokenMint, settings: SandboxSettings) -> None:
        self.logins = self.renewals = self.refusals = 0
        self._mint = mint
        self._settings = settings
        self._used_codes: set[str] = set()

    def answer(self, form: dict[str, str]) -> dict[str, Any]:
        """The answer to a token request.

        Raises
        ------
        RefusedError
            If it is refused.
        """
        try:
            return self._answer(form)
        except RefusedError:
            self.refusals += 1
            raise

    def _answer(self, form: dict[str, str]) -> dict[str, Any]:
        if form.get("client_id") != CLIENT_ID:
            raise RefusedError(401, "invalid_client", "Invalid client or Invalid client credentials")
        match form.get("grant_type"):
            case None:
                raise RefusedError(400, "invalid_request", "Missing form parameter: grant_type")
            case "password":
                return self._login(form)
            case "refresh_token":
                return self._renew(form)
            case _:
                raise RefusedError(400, "unsupported_grant_type", "Unsupported grant_type")

    def _login(self, form: dict[str, str]) -> dict[str, Any]:
        settings = self._settings
        right = [
            same(form.get("username", ""), settings.username),
            same(form.get("password", ""), settings.password.get_secret_value()),
            settings.totp is None or self._is_new_code(form.get("totp", ""), settings.totp.get_secret_value()),
        ]
        if not all(right):
            raise RefusedError(401, "invalid_grant", "Invalid user credentials")
        self._used_codes.add(form.get("totp", ""))
        self.logins += 1
        return self._mint.answer(self._mint.login(settings.username))

    def _is_new_code(self, given: str, right: str) -> bool:
        """Whether it is the code, and no login has used it yet: Keycloak accepts none twice."""
        return same(given, right) and given not in self._used_codes

    def _renew(self, form: dict[str, str]) -> dict[str, Any]:
        if "refresh_token" not in form:
            raise RefusedError(400, "invalid_request", "No refresh token")
        try:
            token = self._mint.read(form["refresh_token"], "Refresh")
        except TokenError as error:
            raise RefusedError(
                400, "invalid_grant", "Token is not active" if error.expired else "Invalid refresh token"
            ) from error
        self.renewals += 1
        return self._mint.answer(token)


def identity_app(identity: Identity, mint: TokenMint, base_url: str) -> FastAPI:
    """The application behind ``base_url``."""
    app = FastAPI(openapi_url=None, redirect_slashes=False)

    @app.post(f"{_ENDPOINT}/token")
    async def token(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            return JSONResponse({"error": "HTTP 415 Unsupported Media Type"}, 415)
        try:
            return JSONResponse(identity.answer(await _form(request)), headers={"Cache-Control": "no-store"})
        except RefusedError as refused:
            return JSONResponse(refused.body, refused.status)

    @app.get(f"{_ENDPOINT}/certs")
    async def certs() -> dict[str, Any]:
        return mint.key_set()

    @app.get(f"{REALM}/.well-known/openid-configuration")
    async def configuration() -> dict[str, Any]:
        return {
            "issuer": f"{base_url}{REALM}",
            "token_endpoint": f"{base_url}{_ENDPOINT}/token",
            "authorization_endpoint": f"{base_url}{_ENDPOINT}/auth",
            "jwks_uri": f"{base_url}{_ENDPOINT}/certs",
            "grant_types_supported": ["refresh_token", "password"],
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["HS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
            "scopes_supported": ["openid", "AUDIENCE_PUBLIC", "email", "profile"],
            "claims_supported": ["aud", "sub", "iss"],
        }

    return app


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; of a field that appears twice, the first value, as in Keycloak."""
    body = b""
    async for block in request.stream():
        body += block
        if len(body) > _MAX_BODY:
            raise RefusedError(413, "invalid_request", "Request body too large")
    try:
        fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError as error:
        raise RefusedError(400, "invalid_request", "Malformed form") from error
    return {name: values[0] for name, values in fields.items()}
