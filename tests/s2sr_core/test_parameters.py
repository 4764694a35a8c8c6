from __future__ import annotations

import json
import os
import pickle
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError
from s2sr_core.fields import Group, group_of
from s2sr_core.geo.lattice import Lattice
from s2sr_core.parameters import DEFAULT_TR, GridParameters, RunParameters
from s2sr_core.pixels.scl import CLASS_IDENTIFIERS
from s2sr_core.products.bands import BANDS
from s2sr_core.validation import input_error

HERE = Path(__file__).parent
GIVEN: dict[str, Any] = {
    "bbox": (-149.75, 68.5, -149.5, 68.75),
    "grid_csv": "cells.csv",
    "start": "2019-06-01",
    "end": "2019-09-01",
    "source": HERE,
    "work_dir": "out",
}


def parameters(**changes: Any) -> RunParameters:
    return RunParameters(**(GIVEN | changes))


def refusal(**changes: Any) -> str:
    """The sentence by which a value is refused."""
    try:
        parameters(**changes)
    except ValidationError as error:
        return str(input_error(RunParameters, error))
    except InputError as error:
        return str(error)
    raise AssertionError("nothing was wrong")


# --------------------------------------------------------------------------------------------------------- defaults


def test_defaults_are_those_of_the_specification() -> None:
    given_nothing = parameters()
    assert given_nothing.pixel_size == (0.000179663056824, 0.000179663056824)
    assert given_nothing.crs == "EPSG:4326"
    assert given_nothing.scl_mask == [0, 1, 2, 3, 7, 8, 9, 10, 11]
    assert given_nothing.resampling == "bilinear"
    assert given_nothing.scl_dilation == {}
    assert (given_nothing.months, given_nothing.tiles, given_nothing.min_baseline) == (None, None, None)
    assert given_nothing.max_cloud_cover is None
    assert given_nothing.workers is None
    flags = ("tap", "keep_tmp", "overwrite", "keep_duplicates", "count", "quicklook")
    assert not any(getattr(given_nothing, flag) for flag in flags)


@pytest.mark.parametrize("field", ["bbox", "grid_csv", "start", "end", "work_dir"])
def test_what_has_no_default_is_required(field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RunParameters(**{name: value for name, value in GIVEN.items() if name != field})
    option = f"--{field.replace('_', '-')}"
    assert str(input_error(RunParameters, caught.value)) == f"{field} = '': is required; add {option}."


def test_every_parameter_says_what_it_is() -> None:
    for name, field in RunParameters.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


@pytest.mark.parametrize("model", [RunParameters, GridParameters])
def test_fields_stand_by_group_and_those_required_first(model: type[BaseModel]) -> None:
    """As help, the form and the docs list them: one group after the other, required ones at the top of the first."""
    groups = [group_of(field) for field in model.model_fields.values()]
    assert [group for group, _ in groupby(groups)] == list(dict.fromkeys(groups))
    assert set(groups) <= {*Group, "options"}
    required = [field.is_required() for field in model.model_fields.values()]
    assert required == sorted(required, reverse=True)


def test_the_groups_of_a_run_are_all_groups_in_their_order() -> None:
    assert list(dict.fromkeys(map(group_of, RunParameters.model_fields.values()))) == list(Group)


def test_parameters_are_a_value_that_travels() -> None:
    one = parameters(months="6-8", scl_dilation={9: 100})
    assert pickle.loads(pickle.dumps(one)) == one
    assert RunParameters(**json.loads(one.model_dump_json())) == one
    assert RunParameters(**dict(one)) == one
    with pytest.raises(ValidationError, match="frozen"):
        one.tap = True  # type: ignore[misc]


def test_an_unknown_parameter_is_refused() -> None:
    assert refusal(metres=20) == "metres = '20': is not a parameter; see --help for the list."


# ------------------------------------------------------------------------------------------------------------- bbox


@given(st.floats(-180, 180), st.floats(-90, 90), st.floats(-180, 540), st.floats(-90, 90))
def test_any_box_on_the_globe_with_an_area_is_taken(xmin: float, ymin: float, xmax: float, ymax: float) -> None:
    """Eastward from xmin to xmax. If xmin > xmax, half the globe at most: more is likely a mistake."""
    assume(abs(xmin - xmax - 180) > 1e-9)
    sentence = ""
    if xmax > 180 and xmax > xmin + 360:
        sentence = "a longitude is not between -180 and 180; write xmin ymin xmax ymax"
    elif xmin == xmax or ymin >= ymax or (xmin == 180 and xmax == -180):
        sentence = "covers no area; write xmin ymin xmax ymax"
    elif xmin > xmax and (xmax - xmin) + 360 > 180 and not xmax > 180:
        sentence = "° to the east, from xmin across ±180 to xmax; swap xmin and xmax, or write xmax as "
    if sentence:
        assert sentence in refusal(bbox=(xmin, ymin, xmax, ymax))
    else:
        assert parameters(bbox=(xmin, ymin, xmax, ymax)).bbox == (xmin, ymin, xmax, ymax)


def test_swapped_longitudes_are_refused_with_both_ways_out() -> None:
    assert refusal(bbox=(-149.5, 68.5, -149.75, 68.75)) == (
        "bbox = '-149.5 68.5 -149.75 68.75': would go 359.75° to the east, from xmin across ±180 to xmax; "
        "swap xmin and xmax, or write xmax as 210.25 if that is meant."
    )
    assert parameters(bbox=(-149.5, 68.5, 210.25, 68.75)).bbox == (-149.5, 68.5, 210.25, 68.75)
    assert parameters(bbox=(0, 60, -180, 61)).bbox == (0, 60, -180, 61)


@pytest.mark.parametrize(
    ("bbox", "sentence"),
    [
        ((0, 0, 360.5, 1), "bbox = '0 0 360.5 1': a longitude is not between -180 and 180; write xmin ymin xmax ymax"),
        ((180, 0, -180, 1), "bbox = '180 0 -180 1': covers no area; write xmin ymin xmax ymax, with ymin < ymax"),
        ((0, -91, 1, 1), "bbox = '0 -91 1 1': a latitude is not between -90 and 90; write xmin ymin xmax ymax"),
        (("nan", 0, 1, 1), "bbox = 'nan 0 1 1': a longitude is not between -180 and 180; write xmin ymin xmax ymax"),
        ((0, 0, 1, "inf"), "bbox = '0 0 1 inf': a latitude is not between -90 and 90; write xmin ymin xmax ymax"),
    ],
)
def test_a_box_off_the_globe_or_without_area_is_refused(bbox: tuple[Any, ...], sentence: str) -> None:
    assert refusal(bbox=bbox).startswith(sentence)


def test_a_box_and_pixel_sizes_may_have_names() -> None:
    """As forms give them; the order is of no account then."""
    named = {"north": 68.75, "west": -149.75, "east": -149.5, "south": 68.5}
    assert parameters(bbox=named).bbox == (-149.75, 68.5, -149.5, 68.75)
    assert parameters(tr={"height": 0.0002, "width": 0.0005}).tr == (0.0005, 0.0002)
    for wrong in ({"west": 1, "south": 2, "east": 3}, named | {"up": 1}, {}):
        assert "does not name what it should; write numbers for west, south, east, north" in refusal(bbox=wrong)
    assert "covers no area" in refusal(bbox=named | {"north": 68.5})


@pytest.mark.parametrize(
    ("bbox", "start"),
    [
        ((0, 1), "bbox = '0 1': is not 4 values; "),
        ((0, 1, 2, 3, 4), "bbox = '0 1 2 3 4': is not 4 values; "),
        (("west", 1, 2, 3), "bbox = 'west': is not a number; "),
        (7, "bbox = '7': is not 4 values; "),
    ],
)
def test_what_is_no_box_is_refused_with_what_a_box_is(bbox: Any, start: str) -> None:
    sentence = refusal(bbox=bbox)
    assert sentence.startswith(start)
    assert sentence.endswith("; write XMIN YMIN XMAX YMAX.")


# ------------------------------------------------------------------------------------------------------------ times


@pytest.mark.parametrize(
    "value",
    [
        "2019-06-01",
        " 2019-06-01 ",
        "2019-06-01T00:00:00Z",
        "2019-06-01T00:00:00",
        "2019-06-01T02:00:00+02:00",
        "2019-05-31T19:30:00-04:30",
        "20190601T000000Z",
        date(2019, 6, 1),
        datetime(2019, 6, 1),
        datetime(2019, 6, 1, 3, tzinfo=timezone(timedelta(hours=3))),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(value: object) -> None:
    start = parameters(start=value).start
    assert start == datetime(2019, 6, 1, tzinfo=UTC)
    assert start.tzinfo is UTC


@pytest.mark.parametrize(
    "value", ["yesterday", "2019", "2019-13-01", "2019-06-31", "01.06.2019", "", 2019, 1.5e9, True]
)
def test_what_is_no_time_is_refused(value: object) -> None:
    sentence = refusal(start=value)
    assert sentence == f"start = '{value}': is not an ISO 8601 time; write 2019-06-01 or 2019-06-01T00:00:00Z."


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:00:00-05:00"])
def test_a_time_that_utc_cannot_hold_is_refused(value: str) -> None:
    assert refusal(end=value).startswith(f"end = '{value}': is outside the years 1 to 9999 in UTC; write 2019-06-01")


@pytest.mark.parametrize("end", ["2019-06-01", "2019-05-31", "2019-06-01T00:00:00Z"])
def test_the_start_must_be_before_the_end(end: str) -> None:
    sentence = refusal(end=end)
    assert sentence.startswith("start = '2019-06-01T00:00:00+00:00': is not before end (2019-0")
    assert sentence.endswith("; give an earlier start or a later end.")


# ---------------------------------------------------------------------------------------------------------- periods


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"statistic": ["percentile:101"]},
            "statistic = 'percentile:101': 'percentile:101' is not a statistic; choose from median mean medoid "
            "geomedian, or percentile:N with a whole number from 0 to 100.",
        ),
        ({"statistic": "percentile:2.5"}, "'percentile:2.5' is not a statistic; "),
        ({"statistic": ["p25"]}, "'p25' is not a statistic; "),
        ({"statistic": []}, "names no statistic; write at least one, for example median."),
        ({"statistic": ["median", "mean", "median"]}, "'median' is given twice; write it once."),
        ({"layers": ["foo"]}, "layers = 'foo': 'foo' is not a layer; choose from count mad iqr doy first last."),
        ({"layers": "mad mad"}, "'mad' is given twice; write it once."),
        (
            {"statistic": ["median", "medoid"], "bands": ["B04"]},
            "statistic = 'medoid': is computed of several bands, and bands names B04 alone; "
            "add bands, or choose median.",
        ),
    ],
)
def test_bad_statistics_and_layers_are_refused_in_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(**changes)


def test_statistics_and_layers_have_names_in_files_each_once_and_in_order() -> None:
    assert parameters().statistic_names == ("median",)
    assert parameters(count=True).statistic_names == ("median", "count")
    given = parameters(
        statistic="percentile:25 median percentile:0 percentile:100", layers=["mad", "count"], count=True
    )
    assert given.statistic_names == ("p25", "median", "p0", "p100", "count", "mad")


@pytest.mark.parametrize("value", ["0d", "weekly", "", "10000d", "010d", "-1d", "1.5d", "Year", 10, "year\n"])
def test_every_that_is_not_a_period_is_refused_in_one_sentence(value: object) -> None:
    problem = "is not year, month, season, or a number of days from 1d to 9999d; write one of these."
    assert refusal(every=value).endswith(problem)


def test_a_run_has_at_most_a_thousand_periods() -> None:
    last = datetime(2019, 6, 1, tzinfo=UTC) + timedelta(days=1000)
    assert len(parameters(every="1d", end=last).periods) == 1000
    sentence = "every = '1d': makes more than 1000 periods from start to end; choose longer periods, or several runs."
    assert refusal(every="1d", end=last + timedelta(seconds=1)) == sentence


def test_months_outside_the_window_leave_no_period() -> None:
    assert parameters(months=[1]).periods  # without periods it is a run that selects nothing
    sentence = refusal(every="year", months=[1])
    assert sentence == "months = '1': are not between start and end; choose other months, or another window."


# ----------------------------------------------------------------------------------------------------------- months

month = st.integers(1, 12)


@given(month, month)
def test_a_span_of_months_may_run_over_the_new_year(first: int, last: int) -> None:
    """By walking from one month to the next."""
    walked = [first]
    while walked[-1] != last:
        walked.append(walked[-1] % 12 + 1)
    assert parameters(months=f"{first}-{last}").months == sorted(walked)


@given(st.lists(month, min_size=1))
def test_months_are_a_set_however_they_are_written(months: list[int]) -> None:
    expected = sorted(set(months))
    texts = [str(number) for number in months]
    for value in (months, texts, " ".join(texts), ",".join(texts), [",".join(texts)], [f"{m:02d}" for m in months]):
        assert parameters(months=value).months == expected


@pytest.mark.parametrize(
    ("value", "expected"), [("6-8", [6, 7, 8]), (["5", "7-8"], [5, 7, 8]), ("11-2", [1, 2, 11, 12]), (6, [6])]
)
def test_months_by_hand(value: object, expected: list[int]) -> None:
    assert parameters(months=value).months == expected


@pytest.mark.parametrize(
    "value", ["0", "13", "6-13", "0-3", "6-8-9", "-3", "6-", "June", "6.0", "٦", [6.5], True, {6: 8}]
)
def test_what_is_no_month_is_refused(value: object) -> None:
    sentence = refusal(months=value)
    assert sentence.startswith("months = '")
    assert sentence.endswith(" is not a month (1 to 12) or a span of months; write 6-8, or 6 7 8.")


@pytest.mark.parametrize("value", ["", [], " , "])
def test_no_month_at_all_is_refused(value: object) -> None:
    assert refusal(months=value).endswith(": names no month; write 6-8, or leave it out.")


# --------------------------------------------------------------------------------------- tiles, bands, baseline, cloud


@given(
    st.lists(st.from_regex(r"(0[1-9]|[1-5][0-9]|60)[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V]", fullmatch=True), min_size=1),
    st.data(),
)
def test_tiles_are_a_set_with_or_without_t_in_any_case(tiles: list[str], data: st.DataObject) -> None:
    written = [
        data.draw(st.sampled_from([tile, f"T{tile}", tile.lower(), f"t{tile.lower()}"]), label="written")
        for tile in tiles
    ]
    assert parameters(tiles=written).tiles == sorted(set(tiles))


@pytest.mark.parametrize("tile", ["5WPM", "61WPM", "05IPM", "TT05WPM", "05WPM.", "", "05WP٣"])
def test_what_is_no_tile_is_refused(tile: str) -> None:
    sentence = refusal(tiles=["05WPM", tile])
    assert sentence.startswith("tiles = '05WPM")
    assert sentence.endswith("' is not an MGRS tile; write one like 05WPM.")


def test_an_empty_list_of_tiles_is_refused() -> None:
    assert refusal(tiles=[]) == "tiles = '': names no tile; write one like 05WPM, or leave it out."


def test_bands_are_those_of_20_m_in_the_order_given_each_once() -> None:
    assert parameters(bands=["B8A", "B02", "B8A"]).bands == ["B8A", "B02"]
    assert parameters(bands=list(BANDS)).bands == list(BANDS)


@pytest.mark.parametrize("band", ["B01", "B09", "B8a", "SCL", "B2", ""])
def test_other_bands_are_refused(band: str) -> None:
    sentence = refusal(bands=["B02", band])
    assert sentence.startswith(f"bands = '{band}': is not one of B02 B03 B04 B05 B06 B07 B08 B8A B11 B12; ")


def test_no_band_is_refused() -> None:
    assert refusal(bands=[]) == "bands = '': names no band; write at least one, for example B04."


def test_a_baseline_is_four_digits_with_a_point() -> None:
    assert parameters(min_baseline="05.00").min_baseline == "05.00"
    for text in ("5.0", "0500", "N0500", "05.000", " 05.00", "05.00\n", "٠٥.٠٠", ""):
        assert refusal(min_baseline=text).endswith(": is not a processing baseline; write one like 05.00.")


@pytest.mark.parametrize(
    ("field", "low", "high", "outside"),
    [
        ("max_cloud_cover", 0, 100, (-0.1, 100.1, "nan", "inf", "much")),
        ("workers", 1, 1024, (0, -1, 1025, 1.5, "many")),
    ],
)
def test_bounds(field: str, low: float, high: float, outside: tuple[object, ...]) -> None:
    assert getattr(parameters(**{field: low}), field) == low
    assert getattr(parameters(**{field: str(high)}), field) == high
    for value in outside:
        sentence = refusal(**{field: value})
        assert sentence.startswith(f"{field} = '{value}': is ")
        assert "; give " in sentence


@pytest.mark.parametrize("value", [0, -0.1, 1e-7, 100_001, "nan", "inf"])
def test_a_pixel_size_is_positive_and_not_absurd(value: object) -> None:
    assert refusal(tr=(0.0002, value)).startswith(f"tr = '{value}': is not between 1e-6 and 10 degrees, nor between ")
    assert refusal(tr=(value, 0.0002)).startswith(f"tr = '{value}': is ")


def test_a_pixel_size_is_in_units_of_the_crs() -> None:
    assert refusal(tr=(20, 20)) == (
        "tr = '20.0': is not between 1e-6 and 10 degrees; write degrees (20 m of latitude are 0.00018), or name a crs "
        "in metres."
    )
    assert refusal(tr=(20, 0.00018), crs="EPSG:3413") == (
        "tr = '0.00018': is not between 0.1 and 100000, in units of EPSG:3413; write units of that CRS, nearly always "
        "metres: 20 20."
    )
    assert parameters(crs="epsg:3413").lattice == Lattice(20.0, 20.0, crs="EPSG:3413")
    assert parameters(crs="EPSG:3413", tr=(100, 50)).lattice == Lattice(100.0, 50.0, crs="EPSG:3413")


def test_bands_are_those_of_the_resolution() -> None:
    assert refusal(bands=["B04", "B08"]) == (
        "bands = 'B08': has no image of 20 m; use B8A, which is the near infrared of 20 m, or add --resolution 10."
    )
    assert refusal(bands=["B04", "B05"], resolution=10) == (
        "bands = 'B05': has no image of 10 m; choose from B02 B03 B04 B08, or add --resolution 20."
    )
    assert refusal(resolution=60) == "resolution = '60': is not one of 10 20; choose one of these."
    fine = parameters(bands=["B08"], resolution="10")
    assert (fine.resolution, fine.pixel_size) == (10, (DEFAULT_TR / 2, DEFAULT_TR / 2))
    assert parameters(resolution=10, crs="EPSG:3413").lattice == Lattice(10.0, 10.0, crs="EPSG:3413")


@pytest.mark.parametrize("crs", ["3413", "EPSG 3413", "EPSG:12", "+proj=stere", "EPSG:٣٤١٣", ""])
def test_a_crs_is_an_epsg_code(crs: str) -> None:
    sentence = refusal(crs=crs)
    assert sentence == f"crs = '{crs}': is not the EPSG code of a coordinate system; write one like EPSG:3413."


def test_a_choice_names_what_there_is() -> None:
    assert refusal(resampling="lanczos") == (
        "resampling = 'lanczos': is not one of bilinear nearest cubic; choose one of these."
    )
    assert refusal(engine="Fast") == "engine = 'Fast': is not one of fast reference; write fast."
    assert refusal(bands=["B02,B03"]).endswith("B11 B12; separate values with spaces.")


# -------------------------------------------------------------------------------------------------------------- SCL


def test_masked_classes_are_a_sorted_set() -> None:
    assert parameters(scl_mask=["9", 3, 9]).scl_mask == [3, 9]
    assert parameters(scl_mask=[]).scl_mask == []


@pytest.mark.parametrize("value", [-1, 12, "cloud", 3.5])
def test_what_is_no_class_is_refused(value: object) -> None:
    assert refusal(scl_mask=[3, value]).startswith(f"scl_mask = '{value}': is ")


def test_classes_have_names() -> None:
    assert parameters(scl_mask=["snow_or_ice", "Cloud-High-Probability", 3]).scl_mask == [3, 9, 11]
    assert parameters(scl_mask=list(CLASS_IDENTIFIERS[7:])).scl_mask == [7, 8, 9, 10, 11]
    assert parameters(scl_mask=["none"]).scl_mask == []
    assert parameters(scl_dilation={"thin_cirrus": 40, "3": 60}).scl_dilation == {10: 40, 3: 60}
    assert len(CLASS_IDENTIFIERS) == len(set(CLASS_IDENTIFIERS)) == 12


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"scl_mask": ["cloud_shadows"]}, "'cloud_shadows': is not an SCL class; did you mean cloud_shadow?"),
        ({"scl_mask": [3, "none"]}, "'none': is not an SCL class; give 0 to 11, or one of no_data saturated"),
        ({"scl_opening": {"9": 50, "cloud_high_probability": 60}}, "'cloud_high_probability' is given twice; write"),
        ({"scl_opening": {"snow": 60}}, "'snow' is not an SCL class; give 0 to 11"),
        ({"scl_opening": {4: 60}}, "scl_opening = '4': is the opening of a class that is not masked; add the class"),
        ({"mask_clear": []}, "mask_clear = "),
        ({"mask_dir": "run/composites"}, "is or lies in a folder that the run writes itself; give another folder."),
    ],
)
def test_masks_that_mean_nothing_are_refused(changes: dict[str, Any], sentence: str) -> None:
    given = {"work_dir": "run"} | changes
    assert sentence in refusal(**given)


def test_a_folder_of_masks_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "cells.csv").write_text("")
    for place, problem in (("nowhere", "does not exist"), ("cells.csv", "is not a folder")):
        chosen = parameters(grid_csv=tmp_path / "cells.csv", mask_dir=tmp_path / place)
        with pytest.raises(InputError, match=problem):
            chosen.check_inputs()


def test_masking_every_class_is_refused() -> None:
    sentence = refusal(scl_mask=list(range(12)))
    assert sentence.endswith(": masks every class; leave out the clear classes, 4 5 6.")


@given(st.dictionaries(st.sampled_from([0, 1, 2, 3, 7, 8, 9, 10, 11]), st.floats(0, 5000, exclude_min=True)))
def test_dilation_is_metres_by_masked_class(dilation: dict[int, float]) -> None:
    texts = {str(value): repr(metres) for value, metres in dilation.items()}
    assert parameters(scl_dilation=dilation).scl_dilation == dilation
    assert parameters(scl_dilation=texts).scl_dilation == dilation


@pytest.mark.parametrize(
    ("dilation", "sentence"),
    [
        ({12: 100}, "scl_dilation = '12=100': 12 is not an SCL class; give classes from 0 to 11."),
        ({-1: 100}, "scl_dilation = '-1=100': -1 is not an SCL class; give classes from 0 to 11."),
        ({9: 0}, "scl_dilation = '9=0': 0 m for class 9 is not more than 0 and at most 5000; write it like 9=100."),
        ({9: -5}, "scl_dilation = '9=-5': -5 m for class 9 is not more than 0 and at most 5000; write it like 9=100."),
        (
            {9: 5001},
            "scl_dilation = '9=5001': 5001 m for class 9 is not more than 0 and at most 5000; write it like 9=100.",
        ),
        (
            {9: "nan"},
            "scl_dilation = '9=nan': nan m for class 9 is not more than 0 and at most 5000; write it like 9=100.",
        ),
        (
            {4: 60},
            "scl_dilation = '4': is the dilation of a class that is not masked; add the class to scl_mask.",
        ),
    ],
)
def test_a_dilation_that_means_nothing_is_refused(dilation: dict[int, Any], sentence: str) -> None:
    assert refusal(scl_dilation=dilation) == sentence


# ------------------------------------------------------------------------------------------------------------ paths


def test_paths_are_absolute_and_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made = parameters(work_dir="~/run", grid_csv="here/cells.csv", source="~")
    assert made.work_dir == tmp_path / "run"
    assert made.grid_csv == tmp_path / "here" / "cells.csv"
    assert made.source == tmp_path


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("~nobody-of-this-name/run", "there is no home folder for ~nobody-of-this-name; give the path without ~."),
        (os.fsdecode(b"caf\xe9/run"), "has a name that is not UTF-8; rename the file or folder."),
        ("run\0", "contains a null character; remove it."),
        ("", "is empty; give a path."),
        (" ", "is empty; give a path."),
    ],
)
def test_what_is_no_path_is_refused(path: str, sentence: str) -> None:
    for field in ("work_dir", "grid_csv", "source"):
        assert refusal(**{field: path}).endswith(f": {sentence}")


@pytest.mark.parametrize("path", ["/", "//", "/tmp/..", "link"])
def test_the_root_is_no_folder_of_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str) -> None:
    """Its tmp/ would be everybody's, and a run clears folders in it."""
    (tmp_path / "link").symlink_to("/")
    monkeypatch.chdir(tmp_path)
    assert refusal(work_dir=path).endswith("is the root of the filesystem; give a folder of its own.")


def test_the_source_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, problem in (("none", "does not exist"), ("file", "is not a folder")):
        path = os.path.relpath(tmp_path / name)
        assert refusal(source=path).endswith(f": {problem}; give the folder that holds .SAFE products.")
    assert "cannot be read (File name too long); give a readable folder" in refusal(source="x" * 300)


def test_files_are_looked_for_without_being_read(tmp_path: Path) -> None:
    (tmp_path / "cells.csv").write_text("no cells")
    made = parameters(grid_csv=tmp_path / "cells.csv", site=tmp_path / "site.yaml", cluster="slurm")
    with pytest.raises(InputError, match=r"^site = '.*': does not exist; give the path of a YAML file\.$"):
        made.check_inputs()
    (tmp_path / "site.yaml").write_text("- not a site")
    made.check_inputs()
    for path, problem in ((tmp_path, "is a folder, not a file"), (tmp_path / "none.csv", "does not exist")):
        with pytest.raises(InputError, match=f"^grid_csv = '.*': {problem}; give the path of a CSV of gridcells"):
            parameters(grid_csv=path).check_inputs()


def test_composites_need_the_folder_of_downloads(tmp_path: Path) -> None:
    (tmp_path / "cells.csv").write_text("")
    made = parameters(grid_csv=tmp_path / "cells.csv", work_dir=tmp_path, source=None, stage="composite")
    with pytest.raises(InputError, match=r"^stage = 'composite': finds no product in .*; download some first\.$"):
        made.check_inputs()
    (tmp_path / "imagery_raw").mkdir()
    made.check_inputs()


def test_files_of_a_grid_may_be_in_gdals_virtual_file_systems(tmp_path: Path) -> None:
    def check(**changes: Any) -> None:
        GridParameters(**({"bbox": (0, 0, 1, 1), "out": tmp_path / "cells.csv"} | changes)).check_inputs()

    check()
    check(within=tmp_path)  # a FileGDB is a folder
    check(within="/vsizip/land.zip")
    with pytest.raises(InputError, match=r"^within = '.*': does not exist; give the path of a vector file"):
        check(within="none.gpkg")
    with pytest.raises(InputError, match=r"^out = '.*': is a folder; give the path of a CSV to write"):
        check(out=tmp_path)


def test_the_source_is_only_looked_at(tmp_path: Path) -> None:
    parameters(source=tmp_path, work_dir=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------- lattice


def test_with_tap_all_cells_share_one_lattice_from_zero() -> None:
    made = parameters(tap=True, tr=(0.25, 0.5))
    for cell in (Gridcell("a", shapely.box(0.1, 0.2, 1, 1)), Gridcell("b", shapely.box(5, 5, 6, 6))):
        assert made.lattice_of(cell) == made.lattice == Lattice(0.25, 0.5, 0.0, 0.0)


def test_without_tap_a_lattice_starts_at_the_north_west_corner_of_its_cell() -> None:
    made = parameters(tap=False, tr=(0.25, 0.5))
    assert made.lattice_of(Gridcell("a", shapely.box(0.1, 1, 4, 7))) == Lattice(0.25, 0.5, 0.1, 7.0)


def test_the_default_pixel_is_20_m_of_a_meridian_at_69_degrees() -> None:
    """A degree of latitude there is 111.548 km long."""
    metres = DEFAULT_TR * 111_548
    assert metres == pytest.approx(20.0, rel=0.005)
