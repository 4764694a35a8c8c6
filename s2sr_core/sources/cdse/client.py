"""The client of one account, as a run needs it: made once per process, shared by its threads."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from s2sr_core.errors import InputError
from s2sr_core.sources.cdse.auth import TokenSource
from s2sr_core.sources.cdse.catalogue import Catalogue
from s2sr_core.sources.cdse.download import Downloader
from s2sr_core.sources.cdse.http import Http
from s2sr_core.sources.cdse.settings import Credentials, Endpoints
from s2sr_core.sources.cdse.slots import Slots


def endpoints() -> Endpoints:
    """The endpoints that the environment names.

    Raises
    ------
    InputError
        If one is not a base URL.
    """
    try:
        return Endpoints()
    except ValidationError as error:
        first = error.errors()[0]
        problem, _, remedy = str(first["msg"]).removeprefix("Value error, ").partition("; ")
        raise InputError(f"S2SR_{first['loc'][0]}".upper(), first["input"], problem, remedy) from error


def catalogue() -> Catalogue:
    """The catalogue, which needs no account."""
    where = endpoints()
    return Catalogue(_http(where), where.catalogue_url)


def downloader(folder: Path, connections: int) -> Downloader:
    """The downloader of the environment's account into ``folder``; in one process its threads share one token."""
    return _downloader(endpoints(), Credentials.from_environment(), folder, connections)


@lru_cache(maxsize=8)
def _http(where: Endpoints) -> Http:
    return Http((where.catalogue_url, where.identity_url, where.download_url))


@lru_cache(maxsize=8)
def _tokens(where: Endpoints, credentials: Credentials) -> TokenSource:
    return TokenSource(_http(where), where.identity_url, credentials)


@lru_cache(maxsize=8)
def _downloader(where: Endpoints, credentials: Credentials, folder: Path, connections: int) -> Downloader:
    slots = Slots.of_account(credentials.username, where.download_url, connections)
    return Downloader(_http(where), where.download_url, _tokens(where, credentials), slots, folder)
