"""The client of one account, as a run needs it: made once per process, shared by its threads."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from s2sr_core.account import account_variable
from s2sr_core.errors import InputError
from s2sr_core.fields import DownloadMode
from s2sr_core.sources.cdse.auth import TokenSource
from s2sr_core.sources.cdse.breaker import Breakers
from s2sr_core.sources.cdse.catalogue import Catalogue
from s2sr_core.sources.cdse.comparison import OtherProducts, answers
from s2sr_core.sources.cdse.download import Downloader
from s2sr_core.sources.cdse.http import CdseError, Http
from s2sr_core.sources.cdse.keys import S3Keys
from s2sr_core.sources.cdse.road import ODataRoad, S3Road
from s2sr_core.sources.cdse.settings import Credentials, Endpoints
from s2sr_core.sources.cdse.slots import Slots
from s2sr_core.sources.source import RemoteProduct

RoadName = Literal["odata", "s3"]


def road_of(access: str) -> RoadName:
    """The road of a run: ``auto`` is S3 where there are keys that are meant for CDSE beyond doubt.

    Raises
    ------
    InputError
        If keys are there and cannot be used.
    """
    if access == "auto":
        return "odata" if S3Keys.from_environment(for_cdse_alone=True) is None else "s3"
    return "s3" if access == "s3" else "odata"


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
        remedy = remedy or "give another, or leave it unset"
        raise InputError(f"S2SR_{first['loc'][0]}".upper(), first["input"], problem, remedy) from error


def catalogue() -> Catalogue:
    """The catalogue, which needs no account."""
    where = endpoints()
    return Catalogue(_http(where), where.catalogue_url)


def check_account() -> None:
    """Look at the account of the environment, and log in now if a second factor is or may be needed.

    A code lives half a minute, so nothing may come before its login. On a terminal, where somebody can be asked for a
    code, the login comes now as well; elsewhere it comes with the first download.

    Raises
    ------
    InputError
        If something of the account is missing, or it is refused.
    """
    credentials = Credentials.from_environment()
    somebody_answers = _is_on_terminal()
    if not somebody_answers and not credentials.code():
        return
    tokens = _tokens(endpoints(), credentials)
    try:
        tokens.log_in()
    except CdseError:
        return  # the service may be back when the first download begins
    except InputError as refusal:
        if not somebody_answers or not tokens.may_want_code:
            raise
        code = _asked(f"{refusal}\nCode of the second factor (Enter if there is none): ")
        if not code:
            raise
        tokens.log_in(code)


def _is_on_terminal() -> bool:
    """Whether somebody sits at a terminal and this process may read from it."""
    try:
        return sys.stderr.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (AttributeError, OSError, ValueError):  # closed, replaced, or not a terminal
        return False


def _asked(question: str) -> str:
    try:
        return getpass.getpass(question).strip()
    except EOFError:
        return ""


def begin_query() -> None:
    """A run is about to ask the catalogue: what was known of it is forgotten."""
    where = endpoints()
    smallest = f"{where.catalogue_url}/odata/v1/Products?$top=1"
    _breakers(where).reset(where.catalogue_url, lambda _url: answers(_http(where), smallest))


def begin_downloads(
    access: RoadName, folder: Path, connections: int, products: Sequence[RemoteProduct], mode: DownloadMode = "whole"
) -> None:
    """A run is about to download ``products``: what was known of the hosts is forgotten."""
    where = endpoints()
    ours, breakers = downloader(access, folder, connections, mode), _breakers(where)
    ours.ranges.forget()
    breakers.reset(where.identity_url)
    breakers.reset(ours.road.url, OtherProducts(ours, products).answer)


def downloader(access: RoadName, folder: Path, connections: int, mode: DownloadMode = "whole") -> Downloader:
    """The downloader of the environment's account into ``folder``; in one process its threads share one token.

    Raises
    ------
    InputError
        If something of the account, or the keys, is missing.
    """
    if access == "s3":
        return _downloader_by_keys(endpoints(), S3Keys.needed(), folder, connections, mode)
    return _downloader(endpoints(), Credentials.from_environment(), folder, connections, mode)


@lru_cache(maxsize=8)
def _http(where: Endpoints) -> Http:
    return Http(_hosts(where), redirect_hosts=where.redirect_hosts, guard=_breakers(where).run)


@lru_cache(maxsize=8)
def _breakers(where: Endpoints) -> Breakers:
    return Breakers(_hosts(where), where.outage_patience)


def _hosts(where: Endpoints) -> tuple[str, ...]:
    return where.catalogue_url, where.identity_url, where.download_url, where.s3_url


@lru_cache(maxsize=8)
def _tokens(where: Endpoints, credentials: Credentials) -> TokenSource:
    return TokenSource(_http(where), where.identity_url, credentials, patience=where.login_patience)


@lru_cache(maxsize=8)
def _downloader(
    where: Endpoints, credentials: Credentials, folder: Path, connections: int, mode: DownloadMode
) -> Downloader:
    slots = Slots.of_account(credentials.username, where.identity_url, connections)
    return Downloader(_http(where), ODataRoad(where.download_url, _tokens(where, credentials)), slots, folder, mode)


@lru_cache(maxsize=8)
def _downloader_by_keys(
    where: Endpoints, keys: S3Keys, folder: Path, connections: int, mode: DownloadMode
) -> Downloader:
    """Keys do not say whose they are; if the account is named too, its connections are counted on both roads."""
    account = account_variable("CDSE_USERNAME").strip() or keys.identity
    slots = Slots.of_account(account, where.identity_url, connections)
    return Downloader(_http(where), S3Road(where.s3_url, keys), slots, folder, mode)
