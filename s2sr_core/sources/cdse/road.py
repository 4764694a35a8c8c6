"""The two roads to the bytes of a product: OData with a token of the account, and S3 with the user's own keys.

Both give the same files. A road knows addresses, and what shows that one may have what is there; everything else about
downloads is the same on both.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Protocol
from urllib.parse import quote

import requests
from requests.auth import AuthBase
from requests_aws4auth import AWS4Auth

from s2sr_core.errors import InputError, ProductError, Step
from s2sr_core.sources.cdse.auth import TokenSource
from s2sr_core.sources.cdse.catalogue import is_uuid
from s2sr_core.sources.cdse.http import CdseError, TransientError
from s2sr_core.sources.cdse.keys import S3Keys
from s2sr_core.sources.source import RemoteProduct

_PATH = "/odata/v1/Products({id})"
_WRONG_AUDIENCE = "DAT-ZIP-609"
#: S3 wants a region in signatures and CDSE has none of its own; its documentation uses this one.
_REGION = "default"
#: Refusals of S3 that concern the keys, whatever is asked for.
_BAD_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken")


class Permission(Protocol):
    """What shows that one may have a file; each file has its own, used by one thread."""

    def prepare(self) -> None:
        """Do what may take long, before a connection is taken."""

    def auth(self) -> AuthBase:
        """Signs the next request."""

    def accepted(self) -> None:
        """The last request was accepted."""

    def meaning_of(self, error: CdseError) -> Exception:
        """What a refusal means on this road: another error, or the same."""


class Road(Protocol):
    """How a file of a product is asked for.

    Attributes
    ----------
    url: base URL of its host.
    """

    @property
    def url(self) -> str: ...

    def address(self, product: RemoteProduct, href: str) -> str:
        """Where the bytes of a file of ``product`` are.

        Raises
        ------
        ProductError
            If the catalogue's entry makes no address.
        """

    def permission(self) -> Permission:
        """To one file."""


class Bearer(AuthBase):
    """Sends a token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class ODataRoad:
    """The download host."""

    def __init__(self, url: str, tokens: TokenSource) -> None:
        self.url = url
        self._tokens = tokens

    def address(self, product: RemoteProduct, href: str) -> str:
        if not is_uuid(product.id):
            reason = f"its id {product.id[:40]!r} is not a UUID; run --stage query again"
            raise ProductError(str(product.name), reason, step=Step.DOWNLOAD)
        nodes = "".join(f"/Nodes({quote(part, safe='')})" for part in (product.name.folder, *PurePosixPath(href).parts))
        return f"{self.url}{_PATH.format(id=product.id)}{nodes}/$value"

    def permission(self) -> Permission:
        return _Token(self._tokens)


class _Token:
    """A token; one that is refused is replaced for the next try."""

    def __init__(self, tokens: TokenSource) -> None:
        self._tokens = tokens
        self._token = self._rejected = ""

    def prepare(self) -> None:
        """If the login takes patience, no connection is held meanwhile."""
        self._tokens.token(self._rejected)

    def auth(self) -> AuthBase:
        self._token = self._tokens.token(self._rejected)
        return Bearer(self._token)

    def accepted(self) -> None:
        self._tokens.accepted(self._token)

    def meaning_of(self, error: CdseError) -> Exception:
        if error.status != 401 or error.answer.get("code") == _WRONG_AUDIENCE:
            return error
        self._rejected = self._token
        return TransientError(str(error), 401, error.answer, is_refusal=True)


class S3Road:
    """The object storage of CDSE, by path-style addresses: the first part of a product's path is the bucket."""

    def __init__(self, url: str, keys: S3Keys) -> None:
        self.url = url
        self._keys = keys

    def address(self, product: RemoteProduct, href: str) -> str:
        if not product.s3_path:
            raise ProductError(str(product.name), "the catalogue names no path of it in S3", step=Step.DOWNLOAD)
        return f"{self.url}{quote(product.s3_path)}/{quote(str(PurePosixPath(href)))}"

    def permission(self) -> Permission:
        return _Signature(self._keys)


class _Signature:
    """AWS signature version 4. The secret key is read for each request, and nothing keeps it."""

    def __init__(self, keys: S3Keys) -> None:
        self._keys = keys

    def prepare(self) -> None:
        pass

    def auth(self) -> AuthBase:
        pair = self._keys.read()
        session = {"session_token": pair.session_token} if pair.session_token else {}
        signer: AuthBase = AWS4Auth(pair.access_key, pair.secret_key, _REGION, "s3", **session)
        return signer

    def accepted(self) -> None:
        pass

    def meaning_of(self, error: CdseError) -> Exception:
        code = error.answer.get("code")
        if code in _BAD_KEYS:
            return self._keys.unusable(f"is refused by S3 ({code})")
        if code == "RequestTimeTooSkewed":
            remedy = "set the clock (timedatectl set-ntp true)"
            return InputError("clock", "", "of this machine is too far from that of S3, which refuses", remedy)
        return error
