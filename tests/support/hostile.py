"""Input that nobody would write by hand: real documents with something else in a few places, and plain noise."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

#: What stands in place of a number, a name, a path or a time.
TEXTS = (
    *("", " ", "\t\n", "\0", "-", "--", "nan", "inf", "-inf", "1e999", "-1e-999", "1_0", "0x10", "1,5", "٣", "−5", "½"),
    *("9" * 400, "9" * 5000, "1" + "0" * 308, "true", "null", "None", "..", "../../x", "/etc/passwd", "a/b", "C:\\x"),
    *("\ud800", "\udcff", "\U0001f600", "\u202e", "\x1b[2J", "\r\n", '"', "'", ";", "`", "%s", "{0}", "<a/>", "]]>"),
    *("x" * 300, "é" * 200, "0000-00-00", "9999-12-31T23:59:60Z", "2019-13-45", "0001-01-01T00:00:00+23:59"),
    *("POLYGON EMPTY", "POINT (0 0)", "POLYGON ((0 0, 1 1, nan 0, 0 0))", "POLYGON ((1e400 0, 0 1, 1 1, 1e400 0))"),
    *("MULTIPOLYGON (((0 0, 0 1, 1 1, 0 0)))", "POLYGON ((0 0, 1 1, 0 1, 1 0, 0 0))", "POLYGON Z ((0 0 1, 0 1 1))"),
    "GEOMETRYCOLLECTION (" * 100_000,
)
_NUMBERS = (0, -1, 2**31, 2**63, 2**64, 10**400, -(10**400), 1e308, -1e308, 5e-324, float("nan"), float("inf"))

words = st.one_of(st.sampled_from(TEXTS), st.text(max_size=12))
numbers = st.one_of(st.sampled_from(_NUMBERS), st.integers(), st.floats())
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, words),
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(words, below, max_size=3)),
    max_leaves=6,
)


def _places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    keys = document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in keys:
        yield (*path, key)
        yield from _places(document[key], (*path, key))


@st.composite
def damaged_json(draw: st.DrawFn, document: Any) -> Any:
    """``document`` with something else, or nothing, in up to three places; now and then something else altogether."""
    if draw(st.integers(0, 19)) == 0:
        return draw(values)
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            break
        *above, last = draw(st.sampled_from(places))
        holder = document
        for key in above:
            holder = holder[key]
        if draw(st.integers(0, 4)) == 0:
            del holder[last]
        else:
            holder[last] = draw(values)
    return document


@st.composite
def damaged_text(draw: st.DrawFn, text: str, between: str = r"[<>\"\s/=]+") -> bytes:
    """``text`` with words replaced, repeated or removed in up to four places, those with digits above all.

       Now and then some bytes are noise.
    ``between`` is what separates words.
    """
    parts = re.split(f"({between})", text)
    for _ in range(draw(st.integers(1, 4))):
        with_digits = [index for index, part in enumerate(parts) if any(map(str.isdigit, part))]
        if with_digits and draw(st.booleans()):
            parts[draw(st.sampled_from(with_digits))] = draw(st.one_of(words, numbers.map(str)))
            continue
        start = draw(st.integers(0, len(parts) - 1))
        stop = draw(st.integers(start, min(start + 6, len(parts))))
        piece = parts[start:stop]
        match draw(st.integers(0, 3)):
            case 0:
                parts[start:stop] = []
            case 1:
                parts[start:stop] = piece * draw(st.sampled_from([2, 3, 500]))
            case _:
                parts[start:stop] = [draw(words)]
        parts = parts or [""]
    content = "".join(parts).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(max_size=20)) + content[at + draw(st.integers(0, 20)) :]
    return content


_ALL = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.large_base_example]


def try_all[Value](strategy: st.SearchStrategy[Value], check: Callable[[Value], object], *, examples: int) -> None:
    """Call ``check`` with the same ``examples`` in every run."""
    options = settings(
        max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=_ALL
    )
    options(given(strategy)(lambda value: check(value)))()


def try_others[Value](strategy: st.SearchStrategy[Value], check: Callable[[Value], object], *, examples: int) -> None:
    """Call ``check`` with other ``examples`` in every run."""
    options = settings(max_examples=examples, print_blob=True, deadline=None, suppress_health_check=_ALL)
    options(given(strategy)(lambda value: check(value)))()
