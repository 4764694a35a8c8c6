from __future__ import annotations

import pickle
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s2sr_core.errors import ProductError
from s2sr_core.products.names import ProductName, is_tile

NAME = "S2A_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126"

digits = st.sampled_from("0123456789")
times = st.datetimes(datetime(2015, 6, 23), datetime(2099, 12, 31)).map(lambda time: f"{time:%Y%m%dT%H%M%S}")
tiles = st.from_regex(r"(0[1-9]|[1-5][0-9]|60)[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V]", fullmatch=True)
names = st.builds(
    "S2{}_MSIL2A_{}_N{:04d}_R{:03d}_T{}_{}".format,
    st.sampled_from("ABCD"),
    times,
    st.integers(0, 9999),
    st.integers(1, 143),
    tiles,
    times,
)


def test_each_part_of_a_name_is_read() -> None:
    name = ProductName.parse(NAME)
    assert name.mission == "S2A"
    assert name.sensing_time == datetime(2022, 4, 13, 15, 7, 59, tzinfo=UTC)
    assert name.baseline == "04.00"
    assert name.relative_orbit == 25
    assert name.tile == "33XWJ"
    assert name.discriminator == datetime(2022, 4, 14, 8, 21, 26, tzinfo=UTC)


@given(names)
def test_a_name_survives_parsing_and_writing(name: str) -> None:
    assert str(ProductName.parse(name)) == name
    assert ProductName.parse(f"{name}.SAFE") == ProductName.parse(name)
    assert ProductName.parse(name).folder == f"{name}.SAFE"


def test_a_parsed_name_that_is_changed_is_written_as_it_is_then() -> None:
    later = replace(ProductName.parse(NAME), baseline="05.10")
    assert str(later) == NAME.replace("N0400", "N0510")
    assert later == ProductName.parse(str(later))


@given(names)
def test_a_name_is_a_value(name: str) -> None:
    parsed = ProductName.parse(name)
    assert pickle.loads(pickle.dumps(parsed)) == parsed
    assert len({parsed, ProductName.parse(name)}) == 1


@given(names, st.integers(0, 59), st.characters())
def test_one_other_character_makes_another_name_or_an_error_with_it(name: str, position: int, character: str) -> None:
    changed = name[:position] + character + name[position + 1 :]
    try:
        parsed = str(ProductName.parse(changed))
    except ProductError as error:
        parsed = error.product
    assert parsed == changed


@pytest.mark.parametrize("mission", ["S2A", "S2B", "S2C", "S2D"])
def test_every_mission_is_known(mission: str) -> None:
    assert ProductName.parse(mission + NAME[3:]).mission == mission


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("MSIL2A", "MSIL1C", "is Level-1C; only Level-2A has SCL"),
        ("T33XWJ", "T61XWJ", "T61XWJ is not an MGRS tile"),
        ("T33XWJ", "T00XWJ", "T00XWJ is not an MGRS tile"),
        ("T33XWJ", "T33IWJ", "T33IWJ is not an MGRS tile"),
        ("T33XWJ", "T33XOJ", "T33XOJ is not an MGRS tile"),
        ("T33XWJ", "T33XWW", "T33XWW is not an MGRS tile"),
        ("R025", "R000", "R000 is not a relative orbit (001 to 143)"),
        ("R025", "R144", "R144 is not a relative orbit (001 to 143)"),
        ("20220413T150759", "20220230T150759", "holds no valid time"),
        ("20220413T150759", "20220413T240000", "holds no valid time"),
        ("20220414T082126", "20220414T082160", "holds no valid time"),
        ("20220413T150759", "09990413T150759", "is not named like"),
        ("N0400", "N400", "is not named like"),
        ("_R025", "", "is not named like"),
        ("S2A_", "S1A_", "is not named like"),
        ("S2A_", "s2a_", "is not named like"),
        ("S2A_", "../S2A_", "is not named like"),
        ("082126", "082126\n", "is not named like"),
        ("082126", "082126.SAFE.SAFE", "is not named like"),
        ("R025", "R٠٢٥", "is not named like"),
    ],
)
def test_a_name_that_is_none_is_an_error_that_names_it(old: str, new: str, reason: str) -> None:
    bad = NAME.replace(old, new, 1)
    with pytest.raises(ProductError) as caught:
        ProductName.parse(bad)
    assert caught.value.product == bad
    assert caught.value.step == "name"
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    "garbage", ["", ".SAFE", "x.SAFE", "S2A_OPER_PRD_MSIL2A_PDMC_20160413T150759_R025_V20160413T150759.SAFE", "é" * 60]
)
def test_garbage_is_no_name(garbage: str) -> None:
    with pytest.raises(ProductError, match="is not named like a Sentinel-2 Level-2A product"):
        ProductName.parse(garbage)


@given(tiles)
def test_the_tiles_of_the_scheme_are_tiles(tile: str) -> None:
    assert is_tile(tile)


@pytest.mark.parametrize(
    "text", ["", "33XW", "T33XWJ", "33xwj", "33XWJ ", "33XWJ\n", "3٣XWJ", "33AWJ", "33YWJ", "33OWJ"]
)
def test_what_is_no_tile(text: str) -> None:
    assert not is_tile(text)


@pytest.mark.parametrize("baseline", ["0206", "0399", "0511", "9999"])
def test_a_baseline_is_written_with_a_point(baseline: str) -> None:
    assert ProductName.parse(NAME.replace("N0400", f"N{baseline}")).baseline == f"{baseline[:2]}.{baseline[2:]}"


def test_names_sort_by_mission_then_sensing_time() -> None:
    texts = [
        NAME.replace("S2A", "S2B").replace("20220413T", "20150713T"),
        NAME,
        NAME.replace("20220413T", "20220412T"),
    ]
    assert [str(name) for name in sorted(map(ProductName.parse, texts))] == [texts[2], texts[1], texts[0]]
