"""Where the user's S3 keys stand. They are read when a request is signed, and nothing keeps them."""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from s2sr_core.account import account_variable
from s2sr_core.errors import InputError
from s2sr_core.sources.cdse.private_file import read_private_file

_FILE = "CDSE_S3_KEYS_FILE"
#: Variables with the access key, the secret key and a session token: CDSE's own, then those of AWS's tools.
_OURS = ("CDSE_S3_ACCESS_KEY", "CDSE_S3_SECRET_KEY", "")
_AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
#: Options of a profile in a file of AWS's tools, in the same order.
_OPTIONS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
#: The profile that is for CDSE beyond doubt.
_PROFILE = "cdse"
_REMEDY = "make keys at https://eodata-s3keysmanager.dataspace.copernicus.eu and name their file in CDSE_S3_KEYS_FILE"


class KeyPair(NamedTuple):
    """The keys themselves; they are not to be kept."""

    access_key: str
    secret_key: str
    session_token: str


@dataclass(frozen=True, slots=True)
class S3Keys:
    """Where a pair of keys stands.

    Attributes
    ----------
    field: the variable that names or holds it, for messages.
    file, profile: a file as AWS's tools have it, with the name of the section; None if they are in ``variables``.
    """

    field: str
    file: Path | None = None
    profile: str = ""
    variables: tuple[str, str, str] = _OURS

    @classmethod
    def from_environment(cls, *, for_cdse_alone: bool = False) -> S3Keys | None:
        """``CDSE_S3_ACCESS_KEY`` and ``CDSE_S3_SECRET_KEY``, or ``CDSE_S3_KEYS_FILE``, or the profile ``cdse``.

        Keys that may be those of another service come last, and not at all ``for_cdse_alone``: AWS's own variables and
        the profile that they choose. None if there are no keys.

        Raises
        ------
        InputError
            If what is there cannot be read, lacks a key, or can be read by others.
        """
        for found in cls._places(for_cdse_alone):
            found.read()
            return found
        return None

    @classmethod
    def _places(cls, for_cdse_alone: bool) -> list[S3Keys]:
        places = []
        if any(account_variable(name) for name in _OURS[:2]):
            places.append(cls(_OURS[0]))
        if file := account_variable(_FILE).strip():
            path = Path(file).expanduser()
            places.append(cls(_FILE, path, _PROFILE if _PROFILE in _profiles(path) else "default"))
        shared = Path(account_variable("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
        profiles = _profiles(shared)
        if _PROFILE in profiles:
            places.append(cls("AWS_SHARED_CREDENTIALS_FILE", shared, _PROFILE))
        if not for_cdse_alone:
            if any(account_variable(name) for name in _AWS[:2]):
                places.append(cls(_AWS[0], variables=_AWS))
            if (chosen := account_variable("AWS_PROFILE") or "default") in profiles:
                places.append(cls("AWS_SHARED_CREDENTIALS_FILE", shared, chosen))
        return places

    @classmethod
    def needed(cls) -> S3Keys:
        """As :meth:`from_environment`; there must be some.

        Raises
        ------
        InputError
            If there are none.
        """
        keys = cls.from_environment()
        if keys is None:
            raise InputError(_FILE, "", "is not set, and S3 wants keys", _REMEDY)
        return keys

    @property
    def identity(self) -> str:
        """The access key, which tells accounts apart."""
        return self.read().access_key

    def read(self) -> KeyPair:
        """The keys, read now.

        Raises
        ------
        InputError
            If one is missing, or the file cannot be read or can be read by others.
        """
        if self.file is None:
            found = [account_variable(name).strip() if name else "" for name in self.variables]
            names = list(self.variables)
        else:
            parsed = _parsed(self.field, self.file)
            section: Mapping[str, str] = parsed[self.profile] if parsed.has_section(self.profile) else {}
            found, names = [section.get(option, "").strip() for option in _OPTIONS], list(_OPTIONS)
        for name, value in zip(names[:2], found[:2], strict=True):
            if not value or not value.isascii() or not value.isprintable():
                raise self.unusable(f"lacks a usable {name}")
        return KeyPair(*found)

    def unusable(self, problem: str) -> InputError:
        """What is wrong with them, without a word of the keys themselves."""
        shown = "" if self.file is None else f"{self.file} [{self.profile}]"
        return InputError(self.field, shown, problem, _REMEDY)


def _profiles(file: Path) -> list[str]:
    """Sections of a file that may be nobody's: it is none of our business until one of them is used."""
    parser = _parser()
    try:
        if file.is_file():  # a pipe would be waited for
            parser.read(file, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return []
    return parser.sections()


def _parser() -> configparser.ConfigParser:
    return configparser.ConfigParser(interpolation=None, default_section="\0", strict=False)


def _parsed(field: str, file: Path) -> configparser.ConfigParser:
    parser = _parser()
    try:
        parser.read_string(read_private_file(field, file))
    except configparser.Error:  # its message quotes lines of the file
        problem = "is not a file of keys as AWS's tools have it: [cdse], aws_access_key_id = …"
        failure = InputError(field, file, problem, _REMEDY)
    else:
        return parser
    raise failure
