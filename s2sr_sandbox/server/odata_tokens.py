"""The words of CDSE's ``$filter`` language."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

#: Deeper nesting is refused, so that no query exhausts the interpreter's stack.
MAX_DEPTH = 64

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<guid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![\w.-]))
  | (?P<time>\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d)?)?(?![\w.:+-]))
  | (?P<number>[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.:+-]))
  | (?P<prefixed>[A-Za-z]+'(?:[^']|'')*')
  | (?P<text>'(?:[^']|'')*')
  | (?P<path>[A-Za-z_][\w.]*(?:/[A-Za-z_][\w.]*)*)
  | (?P<mark>[(),:=])
    """,
    re.VERBOSE | re.ASCII | re.IGNORECASE,
)


class FilterError(ValueError):
    """A ``$filter`` that the catalogue does not understand; the message says what and where."""


@dataclass(frozen=True, slots=True)
class Token:
    """A word, its kind (the name of its group above, or ``end``) and where it began."""

    kind: str
    text: str
    at: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text[:40])


def tokens(text: str) -> list[Token]:
    """The words of ``text``, with one of kind ``end`` after the last.

    Raises
    ------
    FilterError
        At the first place where no word begins.
    """
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise FilterError(f"unexpected {text[at : at + 20]!r} at position {at}")
        if match.lastgroup != "space":
            found.append(Token(match.lastgroup, match[0], at))
        at = match.end()
    return [*found, Token("end", "", at)]


def unquoted(text: str) -> str:
    """The content of ``'…'``, in which a quote is written twice."""
    return text[1:-1].replace("''", "'")


def time_of(token: Token) -> datetime:
    """The instant of a time literal; UTC if it has no offset.

    Raises
    ------
    FilterError
        If there is no such day or hour.
    """
    try:
        time = datetime.fromisoformat(token.text.upper())
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise FilterError(f"{token} at position {token.at} is not a time: {error}") from error
