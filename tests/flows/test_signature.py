from __future__ import annotations

import inspect
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from flows.pipeline import pipeline
from flows.signature import parameters_of
from s2sr_core.errors import InputError
from s2sr_core.parameters import RunParameters
from s2sr_core.signature import takes_fields_of
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


@takes_fields_of(RunParameters)
def job(**fields: Any) -> str:
    """Do a job.

    At length.
    """
    return RunParameters(**fields).model_dump_json()


def test_a_function_has_the_models_fields_as_its_parameters() -> None:
    signature = inspect.signature(job)
    assert list(signature.parameters) == list(RunParameters.model_fields)
    assert signature.return_annotation == "str"
    for name, parameter in signature.parameters.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert (parameter.default is inspect.Parameter.empty) == RunParameters.model_fields[name].is_required()


def test_defaults_are_the_models() -> None:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(job).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    assert defaults.keys() >= {"bands", "tr", "scl_mask", "workers"}
    model = RunParameters(**{name: value for name, value in GIVEN.items() if name not in defaults})
    assert defaults == {name: getattr(model, name) for name in defaults}


def test_the_docstring_tells_every_field_where_prefect_looks() -> None:
    text = inspect.getdoc(job)
    assert text is not None
    head, _, arguments = text.partition("\n\nArgs:\n")
    assert head == "Do a job.\n\nAt length."
    assert arguments.strip().split("\n    ") == [
        f"{name}: {field.description}" for name, field in RunParameters.model_fields.items()
    ]


def test_models_follow_one_another_those_without_a_default_first() -> None:
    class Own(BaseModel):
        limit: Annotated[int, Field(description="How many.")] = 2
        name: Annotated[str, Field(description="Of whom.")]

    @takes_fields_of(RunParameters, Own, without=("start", "end"))
    def both(**fields: Any) -> None: ...

    names = list(inspect.signature(both).parameters)
    assert names[:4] == ["bbox", "grid_csv", "work_dir", "name"]
    assert names[-1] == "limit"
    assert set(names) == {*RunParameters.model_fields, "limit", "name"} - {"start", "end"}
    assert "start:" not in str(both.__doc__)


def test_a_function_without_a_docstring_gets_one() -> None:
    class Small(BaseModel):
        size: Annotated[int, Field(description="How large.")] = 3

    @takes_fields_of(Small)
    def bare(**fields: Any) -> None: ...

    assert str(inspect.signature(bare)) == "(*, size: int = 3) -> 'None'"
    assert str(bare.__doc__).strip() == "Args:\n    size: How large."


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("bbox", (0, 0, 361, 1)),
        ("bbox", (0, 0, 0, 1)),
        ("start", "June"),
        ("source", "no/such/folder"),
        ("work_dir", "~nobody-of-this-name/run"),
        ("bands", []),
        ("bands", ["B09"]),
        ("resolution", 60),
        ("tr", (0, 1)),
        ("crs", "WGS84"),
        ("resampling", "lanczos"),
        ("max_cloud_cover", 101),
        ("months", [13]),
        ("every", "weekly"),
        ("statistic", ["percentile:101"]),
        ("layers", ["foo"]),
        ("group_by", "pass"),
        ("min_count", 0),
        ("tiles", ["61WPM"]),
        ("min_baseline", "5.0"),
        ("scl_mask", [12]),
        ("scl_dilation", {9: 0}),
        ("workers", 0),
        ("engine", "magic"),
    ],
)
def test_the_signature_alone_refuses_what_the_model_refuses(field: str, bad: object) -> None:
    with pytest.raises(ValidationError) as by_model:
        RunParameters(**(GIVEN | {field: bad}))
    annotation = inspect.signature(job).parameters[field].annotation
    with pytest.raises(ValidationError) as by_signature:
        TypeAdapter(annotation).validate_python(bad)
    assert by_model.value.errors()[0]["loc"][0] == field
    assert by_signature.value.errors()[0]["msg"] == by_model.value.errors()[0]["msg"]


#: By parameter: what its description shows as an example, and what that means.
SHOWN: dict[str, list[tuple[object, object]]] = {
    "start": [
        ("2019-06-01", datetime(2019, 6, 1, tzinfo=UTC)),
        ("2019-06-01T00:00:00Z", datetime(2019, 6, 1, tzinfo=UTC)),
    ],
    "months": [("6-8", [6, 7, 8]), ("6 7 8", [6, 7, 8]), ("11-2", [1, 2, 11, 12]), ([6, 7], [6, 7]), (6, [6])],
    "every": [(word, word) for word in ("year", "month", "season", "10d")],
    "tiles": [("05WPM", ["05WPM"]), (["05WPM"], ["05WPM"]), ("05WPM 33XWJ", ["05WPM", "33XWJ"])],
    "min_baseline": [("05.00", "05.00")],
    "scl_mask": [
        (["cloud_shadow", 9], [3, 9]),
        ("9 cloud_shadow", [3, 9]),
        ("none", []),
        (["none"], []),
        ([0, 11], [0, 11]),
    ],
    "scl_min_size": [(2000, 2000.0), (400, 400.0)],
    "scl_opening": [("8=40 cloud_shadow=40", {8: 40, 3: 40}), ({"thin_cirrus": 20}, {10: 20})],
    "scl_dilation": [("9=100 3=60", {9: 100, 3: 60}), ({"9": 100}, {9: 100}), ("", {})],
    "statistic": [
        ("median percentile:25", ["median", "percentile:25"]),
        (["medoid", "geomedian", "mean"], ["medoid", "geomedian", "mean"]),
    ],
    "layers": [("count mad", ["count", "mad"]), (["iqr", "doy", "first", "last"], ["iqr", "doy", "first", "last"])],
    "group_by": [(word, word) for word in ("granule", "datatake")],
    "download": [(word, word) for word in ("auto", "whole", "ranges")],
    "check_files": [(word, word) for word in ("once", "always", "never")],
    "crs": [(code, code) for code in ("EPSG:4326", "EPSG:3413", "EPSG:32606")],
    "resolution": [(20, 20), (10, 10)],
    "resampling": [(word, word) for word in ("bilinear", "nearest", "cubic")],
    "stage": [(word, word) for word in ("query", "download", "composite", "all")],
    "cluster": [(word, word) for word in ("local", "mpi", "slurm", "pbs", "lsf", "sge", "oar", "htcondor", "dask")],
}


@pytest.mark.parametrize(
    ("name", "shown", "meant"), [(name, *pair) for name, pairs in SHOWN.items() for pair in pairs], ids=str
)
def test_what_a_description_shows_is_accepted_by_form_rest_and_command_line(
    name: str, shown: object, meant: object
) -> None:
    """As the server checks what is posted: against the schema that Prefect makes of the flow's signature."""
    if isinstance(shown, str) and shown and name not in ("tiles", "months"):
        assert shown in str(RunParameters.model_fields[name].description)
    validate(
        {name: shown}, parameter_schema(pipeline).model_dump_for_openapi(), raise_on_error=True, ignore_required=True
    )
    given_fields = {key: value for key, value in GIVEN.items() if key != "source"} | {name: shown}
    if shown == "dask":
        given_fields["scheduler"] = "tls://host:8786"
    assert getattr(RunParameters(**given_fields), name) == meant


def test_a_text_that_means_nothing_is_refused_in_one_sentence() -> None:
    for text, problem in (("9", "'9' is not written as CLASS=METRES"), ("9=1 9=2", "'9' is given twice")):
        with pytest.raises(ValidationError) as caught:
            RunParameters(**(GIVEN | {"scl_dilation": text}))
        sentence = str(input_error(RunParameters, caught.value))
        assert sentence == f"scl_dilation = '{text}': {problem}; write it like 9=100 3=60."


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "months": st.sampled_from(["6-8", "11-2", None, [7]]),
            "tiles": st.sampled_from([None, ["t05wpm", "33XWJ"]]),
            "scl_dilation": st.sampled_from([{}, {"9": "100"}]),
            "bands": st.lists(st.sampled_from(["B02", "B8A"]), min_size=1),
            "tap": st.booleans(),
            "workers": st.sampled_from([None, 1, "3"]),
        },
    )
)
def test_what_the_signature_makes_of_values_the_model_makes_too(changes: dict[str, Any]) -> None:
    """Prefect checks by the signature, then the flow by the model: the second must not change what the first made."""
    given_fields = GIVEN | changes
    parameters = inspect.signature(job).parameters
    by_signature = {
        name: TypeAdapter(parameters[name].annotation).validate_python(given_fields[name]) for name in given_fields
    }
    assert RunParameters(**by_signature) == RunParameters(**given_fields)


def test_the_form_shows_bounds_and_choices() -> None:
    """A model made from the signature alone, as Prefect makes one, has the JSON schema of the model itself."""
    fields: dict[str, Any] = {
        name: (parameter.annotation, ... if parameter.default is inspect.Parameter.empty else parameter.default)
        for name, parameter in inspect.signature(job).parameters.items()
    }
    made = create_model("Made", __config__=ConfigDict(extra="forbid"), **fields).model_json_schema()["properties"]
    own = RunParameters.model_json_schema()["properties"]
    without = {
        name: {key: value for key, value in entry.items() if key != "description"} for name, entry in own.items()
    }
    assert made == without
    assert own["max_cloud_cover"]["anyOf"][0] == {"type": "number", "minimum": 0, "maximum": 100}
    assert own["min_baseline"]["anyOf"][0] == {"type": "string", "pattern": r"^[0-9]{2}\.[0-9]{2}$"}
    for field, names in (("bbox", ["west", "south", "east", "north"]), ("tr", ["width", "height"])):
        named, listed = own[field]["anyOf"][:2]
        assert sorted(named["properties"], key=lambda name: named["properties"][name]["position"]) == names
        assert [item["title"] for item in named["properties"].values()] == named["required"] == names
        assert [item["title"] for item in listed["prefixItems"]] == names
    assert own["bands"]["items"]["enum"] == ["B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"]
    assert own["bands"]["minItems"] == 1


def test_the_function_is_called_as_it_was() -> None:
    assert RunParameters.model_validate_json(job(**GIVEN)) == RunParameters(**GIVEN)
    with pytest.raises(ValidationError):
        job(**(GIVEN | {"unknown": 1}))


@pytest.mark.parametrize(
    ("field", "path", "problem"),
    [
        ("work_dir", "../run", "lies outside the current folder"),
        ("work_dir", "a/../../run", "lies outside the current folder"),
        ("grid_csv", "..", "lies outside the current folder"),
        ("work_dir", "~", "begins at somebody's home folder"),
        ("work_dir", "~/run", "begins at somebody's home folder"),
        ("imagery", "/", "is the root of the filesystem"),
        ("work_dir", "", "is empty"),
        ("work_dir", "a/../run", None),
        ("work_dir", "/data/../data/run", None),
    ],
)
def test_a_deployments_run_takes_no_path_that_leaves_its_folder(
    monkeypatch: pytest.MonkeyPatch, field: str, path: str, problem: str | None
) -> None:
    """Whoever starts it over REST does not see the folder; a flow called from Python is where its user is."""
    fields = GIVEN | {field: path}
    if path:
        assert getattr(parameters_of(RunParameters, fields), field) == Path(path).expanduser().absolute()
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "a deployment")
    if problem is None:
        assert getattr(parameters_of(RunParameters, fields), field) == Path(path).absolute()
        return
    with pytest.raises(InputError) as caught:
        parameters_of(RunParameters, fields)
    assert str(caught.value).startswith(f"{field} = '{path}': {problem}; give ")
