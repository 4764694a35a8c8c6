"""Sessions and their tokens: JSON Web Tokens (RFC 7519) that expire by the clock."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
import uuid
from dataclasses import dataclass
from typing import Any, Literal

import jwt
from jwt.algorithms import HMACAlgorithm
from jwt.types import Options

from s2sr_sandbox.server.faults import Revoked
from s2sr_sandbox.server.settings import CLIENT_ID, SandboxSettings

type Kind = Literal["Bearer", "Refresh"]

_ALGORITHM = "HS256"


class TokenError(Exception):
    """A token that is not valid; ``expired`` if it once was."""

    def __init__(self, *, expired: bool) -> None:
        super().__init__("expired" if expired else "invalid")
        self.expired = expired


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says.

    Attributes
    ----------
    account: of the login.
    session: of the login.
    session_end: when that session ends, seconds since 1970.
    audience: the service that the token is for.
    """

    account: str
    session: str
    session_end: float
    audience: str


class TokenMint:
    """Issues and reads tokens, with a key that lives as long as the object.

    A token is valid only if it was issued here. The signature alone proves nothing, because the key is published for
    clients that verify their tokens (CDSETool and eodag do); real services use a key pair.
    """

    def __init__(self, issuer: str, settings: SandboxSettings) -> None:
        self._issuer = issuer
        self._settings = settings
        self._key = secrets.token_bytes(64)
        self._key_id = secrets.token_hex(8)
        self._issued: dict[str, tuple[Kind, float, Token]] = {}

    def key_set(self) -> dict[str, Any]:
        """The key for clients that verify tokens (RFC 7517)."""
        key = {"kid": self._key_id, "alg": _ALGORITHM, "use": "sig", **HMACAlgorithm.to_jwk(self._key, as_dict=True)}
        return {"keys": [key]}

    def login(self, account: str) -> Token:
        """A new session."""
        end = time.time() + self._settings.refresh_token_seconds
        return Token(account, str(uuid.uuid4()), end, self._settings.audience)

    def answer(self, token: Token) -> dict[str, Any]:
        """The token endpoint's answer: a new access token and a new refresh token of the session."""
        now = time.time()
        access_end = now + self._settings.access_token_seconds
        return {
            "access_token": self._issue("Bearer", now, access_end, token),
            "expires_in": _seconds(self._settings.access_token_seconds),
            "refresh_expires_in": _seconds(max(0.0, token.session_end - now)),
            "refresh_token": self._issue("Refresh", now, token.session_end, token),
            "token_type": "Bearer",
            "not-before-policy": 0,
            "session_state": token.session,
            "scope": "AUDIENCE_PUBLIC openid email profile ondemand_processing user-context",
        }

    def read(self, text: str, kind: Kind) -> Token:
        """What the token ``text`` says.

        Raises
        ------
        TokenError
            If it was not issued here as a token of this kind, or has expired.
        """
        issued_as, end, token = self._issued.get(self._identifier(text), ("", 0.0, None))
        if token is None or issued_as != kind:
            raise TokenError(expired=False)
        if time.time() >= end:
            raise TokenError(expired=True)
        return token

    def expire_access_tokens(self) -> None:
        """Expire every access token issued so far."""
        for identifier, (kind, _, token) in list(self._issued.items()):
            if kind == "Bearer":
                self._issued[identifier] = (kind, 0.0, token)

    def revoke(self, what: Revoked) -> None:
        """Forget the access tokens issued so far, or these with their sessions: they are invalid, not expired."""
        for identifier, (kind, _, _) in list(self._issued.items()):
            if what == "sessions" or kind == "Bearer":
                del self._issued[identifier]

    def _issue(self, kind: Kind, now: float, end: float, token: Token) -> str:
        identifier = str(uuid.uuid4())
        self._issued[identifier] = (kind, end, token)
        claims = {
            "exp": _seconds(end),
            "iat": int(now),
            "jti": identifier,
            "iss": self._issuer,
            "aud": [token.audience, "account"] if kind == "Bearer" else self._issuer,
            "sub": str(uuid.uuid5(uuid.NAMESPACE_URL, token.account)),
            "typ": kind,
            "azp": CLIENT_ID,
            "sid": token.session,
        }
        return jwt.encode(claims, self._key, _ALGORITHM, headers={"kid": self._key_id})

    def _identifier(self, text: str) -> str:
        """The identifier of a token that is signed with this key; empty for any other text."""
        unchecked: Options = {"verify_exp": False, "verify_iat": False, "verify_aud": False}
        try:
            return str(jwt.decode(text, self._key, [_ALGORITHM], options=unchecked).get("jti", ""))
        except (jwt.InvalidTokenError, UnicodeEncodeError):
            return ""


def same(given: str, right: str) -> bool:
    """Whether two secrets are the same, in a time that does not depend on them."""
    return hmac.compare_digest(
        *(hashlib.sha256(text.encode(errors="surrogatepass")).digest() for text in (given, right))
    )


def _seconds(value: float) -> int | float:
    """Whole seconds as an integer, as Keycloak writes them; the tests' short lifetimes unchanged."""
    return int(value) if value >= 10 else round(value, 3)
