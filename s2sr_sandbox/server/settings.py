"""How the sandbox CDSE behaves: account, limits and durations."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

#: The audience of the tokens that the download host accepts (eodag's ``allowed_audiences`` for CDSE).
AUDIENCE = "CLOUDFERRO_PUBLIC"
#: The client id of the public API.
CLIENT_ID = "cdse-public"


class SandboxSettings(BaseModel):
    """Settings; the defaults are the real service's.

    Limits of pages: https://documentation.dataspace.copernicus.eu/APIs/OData.html; tokens: …/APIs/Token.html;
    connections: https://documentation.dataspace.copernicus.eu/Quotas.html.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    username: str = Field("sandbox", min_length=1, description="the account")
    password: SecretStr = Field(SecretStr("sandbox-password"), min_length=1, description="its password")
    s3_access_key: str = Field("SANDBOX0ACCESS0KEY", min_length=1, description="its S3 access key")
    s3_secret_key: SecretStr = Field(SecretStr("sandbox-secret-key"), min_length=1, description="its S3 secret key")
    totp: SecretStr | None = Field(
        None, description="second factor that a login must give, good for one login; None: no second factor"
    )
    audience: str = Field(
        AUDIENCE, description="audience of the tokens; downloads with any but the default are refused (609)"
    )
    access_token_seconds: float = Field(600, gt=0, description="lifetime of an access token")
    refresh_token_seconds: float = Field(3600, gt=0, description="lifetime of a session, counted from the login")
    connections: int = Field(4, ge=1, description="most downloads of one account at once")
    retry_after: int | None = Field(None, ge=0, description="Retry-After of a 429, seconds; CDSE sends none")
    page: int = Field(20, ge=1, description="default of $top")
    top_max: int = Field(1000, ge=1, description="largest $top")
    multipolygons: bool = Field(default=False, description="whether searches accept a MULTIPOLYGON; CDSE's do not")
    skip_max: int = Field(10_000, ge=0, description="largest $skip")
    bandwidth: float | None = Field(None, gt=0, description="bytes per second of each connection; None: unlimited")
    ranges: bool = Field(
        default=False,
        description="whether Range requests on files are honoured (206), which have an ETag then; on products they "
        "never are",
    )
    offline: frozenset[str] = Field(frozenset(), description="names of products that are not online")
    forbidden: frozenset[str] = Field(frozenset(), description="names of products whose download is refused (403)")
    null_footprints: frozenset[str] = Field(frozenset(), description="names of products listed without a footprint")
    deleted: frozenset[str] = Field(
        frozenset(), description="names of products that are listed but whose files are deleted (404)"
    )
    identity_port: int = Field(0, ge=0, le=65_535, description="0: any free port")
    catalogue_port: int = Field(0, ge=0, le=65_535, description="0: any free port")
    download_port: int = Field(0, ge=0, le=65_535, description="0: any free port")
    s3_port: int = Field(0, ge=0, le=65_535, description="0: any free port")
    proxy: bool = Field(
        default=False, description="whether there is an HTTPS proxy that stands in for CDSE's own hosts"
    )
    trusted: bool = Field(
        default=True, description="whether the variables to export say how to trust the proxy's certificate"
    )
    request_log: Path | None = Field(None, description="file to which each request is appended as a line of JSON")
