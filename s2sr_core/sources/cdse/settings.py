"""Where CDSE is and who asks: endpoints and credentials, from the environment.

The password is never a setting: :meth:`Credentials.password` reads it from its file or variable when a login needs it,
and nothing keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from s2sr_core.account import account_variable
from s2sr_core.errors import InputError
from s2sr_core.sources.cdse.private_file import read_private_file


class Endpoints(BaseSettings):
    """Base URLs of the services, and how their answers are taken; in the environment ``S2SR_CATALOGUE_URL`` …"""

    model_config = SettingsConfigDict(env_prefix="S2SR_", frozen=True)

    catalogue_url: str = Field("https://catalogue.dataspace.copernicus.eu", description="OData catalogue.")
    identity_url: str = Field("https://identity.dataspace.copernicus.eu", description="Keycloak of the realm CDSE.")
    download_url: str = Field("https://download.dataspace.copernicus.eu", description="Nodes and bytes.")
    s3_url: str = Field("https://eodata.dataspace.copernicus.eu", description="S3, with path-style addresses.")
    mount: Path = Field(Path("/eodata"), description="Where the archive is mounted, for access by mount.")
    redirect_hosts: str = Field(
        ".dataspace.copernicus.eu",
        description="Hosts to which the services may redirect, separated by commas; .domain is one with all its hosts.",
    )
    login_patience: float = Field(
        600.0, ge=0, le=3600, description="Seconds for which a login is repeated that is refused after one that worked."
    )

    outage_patience: float = Field(
        600.0, ge=0, le=86_400, description="Seconds for which a run waits for a host that is down, before it ends."
    )

    @field_validator("catalogue_url", "identity_url", "download_url", "s3_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or "@" in parts.netloc
            or parts.query
            or parts.fragment
        ):
            raise ValueError("is not a base URL; write one like https://catalogue.dataspace.copernicus.eu")
        if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError("would send the password unencrypted; write https (http only to this machine)")
        return url.rstrip("/")


@dataclass(frozen=True, slots=True)
class Credentials:
    """An account: its name, and the file of its password (None: the password is in the environment)."""

    username: str
    password_file: Path | None

    @classmethod
    def from_environment(cls) -> Credentials:
        """``CDSE_USERNAME``, and ``CDSE_PASSWORD_FILE`` or ``CDSE_PASSWORD``.

        Raises
        ------
        InputError
            If one is missing, or others than its owner can read the file.
        """
        username = account_variable("CDSE_USERNAME").strip()
        if not username:
            raise InputError("CDSE_USERNAME", "", "is not set", "export the name of your CDSE account")
        file = account_variable("CDSE_PASSWORD_FILE").strip()
        if not file and not account_variable("CDSE_PASSWORD"):
            raise InputError(
                "CDSE_PASSWORD_FILE", "", "is not set", "export the path of a file of mode 0600 that holds the password"
            )
        credentials = cls(username, Path(file).expanduser() if file else None)
        credentials.password()
        return credentials

    @staticmethod
    def code() -> str:
        """The code of a second factor, ``CDSE_TOTP``; empty if there is none."""
        return account_variable("CDSE_TOTP").strip()

    def password(self) -> str:
        """The password, read now.

        Raises
        ------
        InputError
            If it cannot be read, is empty, or its file can be read by others.
        """
        if self.password_file is None:
            return account_variable("CDSE_PASSWORD")
        first, _, _ = read_private_file("CDSE_PASSWORD_FILE", self.password_file).partition("\n")
        password = first.rstrip("\r")
        if not password:
            raise InputError("CDSE_PASSWORD_FILE", self.password_file, "is empty", "put the password on its first line")
        return password
