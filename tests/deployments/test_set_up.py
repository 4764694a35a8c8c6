"""The schemas from which Prefect makes forms and checks what is posted."""

from __future__ import annotations

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import ValidationError, validate

from deployments.set_up import schema_of_form
from flows.pipeline import pipeline


def test_the_form_has_a_line_for_classes_with_metres_and_refuses_what_there_is_not() -> None:
    made = parameter_schema(pipeline).model_dump_for_openapi()
    schema = schema_of_form(made)
    changed = {name for name, field in schema["properties"].items() if field != made["properties"][name]}
    assert changed == {"scl_dilation", "scl_opening"}
    for text in (schema["properties"]["scl_dilation"]["default"], "9=100 3=60"):
        validate({"scl_dilation": text}, schema, raise_on_error=True, ignore_required=True)
    with pytest.raises(ValidationError, match="nonsense"):
        validate({"nonsense": 1}, schema, raise_on_error=True, ignore_required=True)
