import operator
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from s2sr_core.products.names import ProductName
from s2sr_sandbox.server import Entry
from s2sr_sandbox.server.odata_filter import parse_filter
from s2sr_sandbox.server.odata_tokens import FilterError

NAMES = (
    "S2A_MSIL2A_20190701T214529_N0212_R072_T05WPM_20190702T001122",
    "S2B_MSIL2A_20190701T214529_N0500_R029_T06WUB_20230702T001122",
    "S2C_MSIL2A_20250101T000000_N0511_R143_T60WWC_20250101T041122",
)
ENTRIES = [
    Entry.of_name(
        ProductName.parse(name),
        cloud_cover=[0.0, 60.0, 99.5][n],
        size=[0, 5, 10**10][n],
        online=n != 1,
        footprint=[shapely.box(10, 20, 11, 21), shapely.box(-180, 60, -179, 61), None][n],
    )
    for n, name in enumerate(NAMES)
]
CLOUD = (
    "Attributes/OData.CSC.DoubleAttribute/any(att:att/Name eq 'cloudCover' and att/OData.CSC.DoubleAttribute/Value {})"
)
AREA = "OData.CSC.Intersects(area=geography'SRID=4326;{}')"


def matching(text: str, **options: bool) -> list[int]:
    predicate = parse_filter(text, **options)
    return [n for n, entry in enumerate(ENTRIES) if predicate(entry)]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Collection/Name eq 'SENTINEL-2'", [0, 1, 2]),
        ("Collection/Name eq 'SENTINEL-1'", []),
        (f"Name eq '{NAMES[1]}.SAFE'", [1]),
        ("contains(Name,'_N0500_')", [1]),
        ("contains( Name, 'N05' )", [1, 2]),
        ("startswith(Name,'S2A_')", [0]),
        ("endswith(Name,'T001122.SAFE')", [0, 1]),
        ("not contains(Name,'S2A')", [1, 2]),
        ("not not contains(Name,'S2A')", [0]),
        ("Online eq false", [1]),
        ("Online ne false", [0, 2]),
        ("ContentLength gt 5", [2]),
        ("ContentLength ge 5.0", [1, 2]),
        ("ContentLength eq 1e10", [2]),
        ("ContentDate/Start ge 2019-07-01T21:45:29.024Z", [0, 1, 2]),
        ("ContentDate/Start gt 2019-07-01T21:45:29.024Z", [2]),
        ("ContentDate/Start lt 2019-07-01T21:45:29.024000Z", []),
        ("ContentDate/Start lt 2019-07-02", [0, 1]),
        ("ContentDate/End lt 2019-07-01T23:45:29.025+02:00", [0, 1]),
        ("PublicationDate lt 2020-01-01T00:00:00.000Z", [0]),
        ("2020-01-01T00:00:00.000Z gt PublicationDate", [0]),
        (f"Id eq {ENTRIES[2].id}", [2]),
        (f"Id eq '{ENTRIES[2].id}'", [2]),
        (CLOUD.format("le 60.00"), [0, 1]),
        (CLOUD.format("lt 60"), [0]),
        (CLOUD.format("eq 99.5"), [2]),
        (f"not {CLOUD.format('le 60.00')}", [2]),
        (
            "Attributes/OData.CSC.StringAttribute/any(a:a/Name eq 'tileId' and "
            "a/OData.CSC.StringAttribute/Value eq '06WUB')",
            [1],
        ),
        (
            "Attributes/OData.CSC.IntegerAttribute/any(att:att/Name eq 'relativeOrbitNumber' and "
            "(att/OData.CSC.IntegerAttribute/Value eq 72 or att/OData.CSC.IntegerAttribute/Value eq 143))",
            [0, 2],
        ),
        (  # eodag asks for the String value of an Integer attribute
            "Attributes/OData.CSC.IntegerAttribute/any(att:att/Name eq 'relativeOrbitNumber' and "
            "att/OData.CSC.StringAttribute/Value eq 29)",
            [1],
        ),
        (
            "Attributes/OData.CSC.DateTimeOffsetAttribute/any(att:att/Name eq 'beginningDateTime' and "
            "att/OData.CSC.DateTimeOffsetAttribute/Value ge 2020-01-01T00:00:00.000Z)",
            [2],
        ),
        ("Attributes/OData.CSC.StringAttribute/any(att:att/Name eq 'cloudCover')", []),  # it is a Double
        (AREA.format("POLYGON((10.5 20.5,12 20.5,12 22,10.5 22,10.5 20.5))"), [0]),
        (AREA.format("POLYGON ((-180 -90, 180 -90, 180 90, -180 90, -180 -90))"), [0, 1]),
        (AREA.format("POINT(10.25 20.75)"), [0]),
        (AREA.format("POINT (-179.5 60.5)"), [1]),
        (AREA.format("POINT(0 0)"), []),
        ("Online eq true and contains(Name,'S2A') or Online eq false", [0, 1]),
        ("Online eq true and (contains(Name,'S2A') or Online eq false)", [0]),
        ("(((Online eq true)))", [0, 2]),
        ("not(Online eq true)and(ContentLength eq 5)", [1]),
        ("Name eq 'it''s'", []),
    ],
)
def test_what_matches(text: str, numbers: list[int]) -> None:
    assert matching(text) == numbers


def test_multipolygons_only_where_the_settings_allow_them() -> None:
    text = AREA.format("MULTIPOLYGON(((10 20,11 20,11 21,10 20)),((-180 60,-179 60,-179 61,-180 60)))")
    assert matching(text, multipolygons=True) == [0, 1]
    with pytest.raises(FilterError, match="one of Point, Polygon"):
        parse_filter(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Name",
        "Name eq",
        "Name eq 'a' or",
        "Name eq 'a' Name eq 'b'",
        "Name eq 'a",
        'Name eq "a"',
        "Nmae eq 'a'",
        "Name has 'a'",
        "Name eq 5",
        "Name EQ 'a'",
        "Online gt true",
        "Online eq 'true'",
        "Online",
        "ContentLength eq '5'",
        "ContentLength eq 5a",
        "ContentDate/Start ge datetime'2019-06-01T00:00:00.000Z'",
        "ContentDate/Start ge '2019-06-01T00:00:00.000Z'",
        "ContentDate/Start ge 2019-13-01T00:00:00.000Z",
        "ContentDate/Start ge 2019-06-01T25:00:00Z",
        "ContentDate/Start ge 0001-01-01T00:00:00+23:59",
        "contains(Name)",
        "contains(Name,'a','b')",
        "contains(ContentLength,'5')",
        "substringof('a',Name)",
        "(Name eq 'a'",
        "Name eq 'a')",
        "att/Name eq 'cloudCover'",
        "Attributes/OData.CSC.FloatAttribute/any(att:att/Name eq 'a')",
        "Attributes/OData.CSC.DoubleAttribute/any(att:att/Nmae eq 'a')",
        "Attributes/OData.CSC.DoubleAttribute/any(att:Name eq 'a')",
        "Attributes/OData.CSC.DoubleAttribute/any(att att/Name eq 'a')",
        "Attributes/OData.CSC.DoubleAttribute/any('a':att/Name eq 'a')",
        "Attributes/OData.CSC.DoubleAttribute/all(att:att/Name eq 'a')",
        CLOUD.format("le 'many'"),
        f"Attributes/OData.CSC.StringAttribute/any(a:{CLOUD.format('le 5')})",
        "OData.CSC.Intersects(area='POINT(1 1)')",
        "OData.CSC.Intersects(geography'SRID=4326;POINT(1 1)')",
        AREA.format("POLYGON((10 20,11 20,11 21,10 21))"),
        AREA.format("POLYGON((10 20,11 20"),
        AREA.format("POLYGON EMPTY"),
        AREA.format("LINESTRING(10 20,11 20)"),
        AREA.format("POINT(190 0)"),
        AREA.format("POINT(0 91)"),
        AREA.format("POINT(nan 0)"),
        AREA.format("POINT(1e999 0)"),
        "OData.CSC.Intersects(area=geography'SRID=3857;POINT(1 1)')",
        "OData.CSC.Intersects(area=geography'POINT(1 1)')",
        "Name eq 'a'; drop",
        "(" * 65 + "Online eq true" + ")" * 65,
    ],
)
def test_what_is_not_in_the_language(text: str) -> None:
    with pytest.raises(FilterError):
        parse_filter(text)


def test_the_error_says_where() -> None:
    with pytest.raises(FilterError, match="'Nmae' at position 19 is neither a field nor a literal"):
        parse_filter("Online eq true and Nmae eq 'a'")


def test_nesting_has_a_limit_that_no_query_needs() -> None:
    assert matching("(" * 60 + "Online eq false" + ")" * 60) == [1]


# ----------------------------------------------------------------------------------------------------------- properties

type Case = tuple[str, Callable[[Entry], bool]]

_OPERATORS = {name: getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}
_FIELDS: dict[str, tuple[Callable[[Entry], Any], st.SearchStrategy[Any], Callable[[Any], str]]] = {
    "Name": (lambda e: e.name, st.sampled_from([*(f"{name}.SAFE" for name in NAMES), "S2B", "it's", ""]), repr),
    "ContentLength": (lambda e: e.content_length, st.integers(-(10**11), 10**11), str),
    "ContentDate/Start": (
        lambda e: e.start,
        st.datetimes(datetime(2018, 1, 1), datetime(2026, 1, 1)).map(lambda time: time.replace(tzinfo=UTC)),
        lambda time: f"{time:%Y-%m-%dT%H:%M:%S.%f}Z",
    ),
}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@st.composite
def comparisons(draw: st.DrawFn) -> Case:
    field = draw(st.sampled_from(sorted(_FIELDS)))
    name = draw(st.sampled_from(sorted(_OPERATORS)))
    read, values, written = _FIELDS[field]
    value = draw(st.one_of(values, st.sampled_from([read(entry) for entry in ENTRIES])))
    text = _quoted(value) if isinstance(value, str) else written(value)
    return f"{field} {name} {text}", lambda entry: _OPERATORS[name](read(entry), value)


@st.composite
def functions(draw: st.DrawFn) -> Case:
    name, test = draw(
        st.sampled_from([("contains", operator.contains), ("startswith", str.startswith), ("endswith", str.endswith)])
    )
    part = draw(st.sampled_from(["S2", "S2A_", ".SAFE", "T06", "", "'", "N0212"]))
    return f"{name}(Name,{_quoted(part)})", lambda entry: test(entry.name, part)


@st.composite
def clouds(draw: st.DrawFn) -> Case:
    name = draw(st.sampled_from(sorted(_OPERATORS)))
    limit = draw(st.sampled_from([0.0, 12.5, 60.0, 99.5]))
    return CLOUD.format(f"{name} {limit}"), lambda entry: _OPERATORS[name](entry.attributes["cloudCover"], limit)


def _combined(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    def joined(word: str, one: Case, other: Case) -> Case:
        both = all if word == "and" else any
        return f"({one[0]}) {word} ({other[0]})", lambda entry: both([one[1](entry), other[1](entry)])

    return st.one_of(
        st.builds(joined, st.sampled_from(["and", "or"]), inner, inner),
        inner.map(lambda case: (f"not ({case[0]})", lambda entry: not case[1](entry))),
        inner.map(lambda case: (f" ( {case[0]} ) ", case[1])),
    )


CASES = st.recursive(st.one_of(comparisons(), functions(), clouds()), _combined, max_leaves=8)


@given(CASES)
def test_a_filter_means_what_it_says(case: Case) -> None:
    text, expected = case
    predicate = parse_filter(text)
    assert [predicate(entry) for entry in ENTRIES] == [expected(entry) for entry in ENTRIES]


@given(st.lists(CASES, min_size=2, max_size=5), st.lists(st.sampled_from(["and", "or"]), min_size=4, max_size=4))
def test_and_binds_closer_than_or(cases: list[Case], words: list[str]) -> None:
    text = f"({cases[0][0]})"
    groups = [[cases[0]]]
    for word, case in zip(words, cases[1:], strict=False):
        text += f" {word} ({case[0]})"
        if word == "and":
            groups[-1].append(case)
        else:
            groups.append([case])
    predicate = parse_filter(text)
    for entry in ENTRIES:
        assert predicate(entry) == any(all(test(entry) for _, test in group) for group in groups)


_WORDS = st.sampled_from(
    [
        *[
            "and",
            "or",
            "not",
            "(",
            ")",
            ",",
            ":",
            "=",
            "eq",
            "ge",
            "true",
            "5",
            "-1.5e9",
            "'x'",
            "''",
            "'",
            "contains(",
        ],
        *["Name", "Online", "startswith(Name,", "ContentDate/Start"],
        "2019-06-01T00:00:00.000Z",
        "2019-99-99",
        "Attributes/OData.CSC.DoubleAttribute/any(att:",
        "att/Name",
        "att/OData.CSC.DoubleAttribute/Value",
        "OData.CSC.Intersects(area=",
        "geography'SRID=4326;POINT(1 2)'",
        "geography'SRID=4326;POLYGON((",
        "datetime'2019-06-01'",
        "\x00",
        "é",
    ]
)


@given(st.one_of(st.text(max_size=60), st.lists(_WORDS, max_size=25).map(" ".join)))
def test_whatever_comes_is_a_filter_or_an_error_of_its_own(text: str) -> None:
    try:
        predicate = parse_filter(text)
    except FilterError:
        return
    for entry in ENTRIES:
        assert predicate(entry) in (True, False)


@given(st.text(max_size=30), st.text(max_size=30))
def test_quotes_in_texts(name: str, other: str) -> None:
    predicate = parse_filter(f"Name eq {_quoted(name)}")
    assert predicate(replace(ENTRIES[0], name=name))
    assert predicate(replace(ENTRIES[0], name=other)) == (name == other)
