"""How the sandbox CDSE behaves: account, limits and durations."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

#: The audience of the tokens that the download host takes (eodag's ``allowed_audiences`` for CDSE).
AUDIENCE = "CLOUDFERRO_PUBLIC"
#: The client that the public API is used with.
CLIENT_ID = "cdse-public"


class SandboxSettings(BaseModel):
    """The real service's numbers, unless said otherwise.

    Limits of pages: https://documentation.dataspace.copernicus.eu/APIs/OData.html; tokens: …/APIs/Token.html;
    connections: https://documentation.dataspace.copernicus.eu/Quotas.html.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    username: str = Field("sandbox", min_length=1, description="the account")
    password: SecretStr = Field(SecretStr("sandbox-password"), min_length=1, description="its password")
    totp: SecretStr | None = Field(None, description="second factor that a login must bring; None: none is asked for")
    audience: str = Field(AUDIENCE, description="audience of the tokens; another than the default's is refused (609)")
    access_token_seconds: float = Field(600, gt=0, description="life of an access token")
    refresh_token_seconds: float = Field(3600, gt=0, description="life of a session, counted from the login")
    connections: int = Field(4, ge=1, description="byte connections at once of one account")
    retry_after: int | None = Field(None, ge=0, description="Retry-After of a 429, seconds; CDSE sends none")
    page: int = Field(20, ge=1, description="$top unless given")
    top_max: int = Field(1000, ge=1, description="largest $top")
    multipolygons: bool = Field(default=False, description="whether a MULTIPOLYGON may be searched; at CDSE it may not")
    skip_max: int = Field(10_000, ge=0, description="largest $skip")
    bandwidth: float | None = Field(None, gt=0, description="bytes a second of each connection; None: unlimited")
    ranges: bool = Field(
        default=False, description="whether Range requests on files are honoured (206); on products they never are"
    )
    offline: frozenset[str] = Field(frozenset(), description="names of products that are not online")
    forbidden: frozenset[str] = Field(frozenset(), description="names of products whose bytes are refused (403)")
    null_footprints: frozenset[str] = Field(frozenset(), description="names of products listed without a footprint")
    deleted: frozenset[str] = Field(
        frozenset(), description="names of products still listed whose bytes are gone (404)"
    )
    identity_port: int = Field(0, ge=0, le=65_535, description="0: any free one")
    catalogue_port: int = Field(0, ge=0, le=65_535, description="0: any free one")
    download_port: int = Field(0, ge=0, le=65_535, description="0: any free one")
    proxy: bool = Field(
        default=False, description="whether there is an HTTPS proxy that stands in for CDSE's own hosts"
    )
    request_log: Path | None = Field(None, description="file that each request is appended to as a line of JSON")
