"""Values against a pydantic model: the first thing that is wrong, as one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from s2sr_core.errors import InputError
from s2sr_core.fields import bare_type, placeholder_of

#: Characters of what is wrong.
_LONGEST_PROBLEM = 500
#: By pydantic's type of error, plainer words than its own: what is wrong, and what to do.
_SENTENCES = {
    "extra_forbidden": ("is not a parameter", "see --help for the list"),
    "float_type": ("is not a number", "give a number"),
    "float_parsing": ("is not a number", "give a number"),
    "int_type": ("is not a whole number", "give a whole number"),
    "int_parsing": ("is not a whole number", "give a whole number"),
    "int_from_float": ("is not a whole number", "give a whole number"),
    "bool_type": ("is neither true nor false", "give true or false"),
    "bool_parsing": ("is neither true nor false", "give true or false"),
    "string_type": ("is not text", "give text"),
    "path_type": ("is not a path", "give a path"),
    "list_type": ("is not a list", "give a list"),
    "dict_type": ("is not a mapping", "give keys and values"),
    "greater_than": ("is too small", "give more than {gt:g}"),
    "greater_than_equal": ("is too small", "give {ge:g} or more"),
    "less_than": ("is too large", "give less than {lt:g}"),
    "less_than_equal": ("is too large", "give {le:g} or less"),
}


def checked[M: BaseModel](model: type[M], fields: Mapping[str, Any]) -> M:
    """The model made from values by field name.

    Raises
    ------
    InputError
        For the first value that the model refuses.
    """
    try:
        return model(**fields)
    except ValidationError as error:
        raise input_error(model, error) from error


def input_error(model: type[BaseModel], error: ValidationError) -> InputError:
    """The first thing that is wrong: field, value, problem and remedy."""
    first = error.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else "parameters"
    if _is_left_out(first):
        names = [str(each["loc"][0]) for each in error.errors() if _is_left_out(each)]
        return InputError(field, "", "is required", f"add {', '.join(f'--{name.replace("_", "-")}' for name in names)}")
    return InputError(field, _value_of(model, first), *problem_and_remedy(model, first))


def problem_and_remedy(model: type[BaseModel], error: ErrorDetails) -> tuple[str, str]:
    """What is wrong with a value, and what to do about it; neither ends with a full stop.

    A validator of this project raises ``ValueError("problem; remedy")``, and its words are kept.
    """
    message, value = str(error["msg"]), str(error["input"])
    if error["type"] == "value_error":
        problem, _, remedy = message.removeprefix("Value error, ").partition("; ")
        if len(problem) > _LONGEST_PROBLEM:  # it repeats the value
            problem = f"{problem[: _LONGEST_PROBLEM - 1]}…"
        return problem, remedy
    field = str(error["loc"][0]) if error["loc"] else ""
    kind = bare_type(model.model_fields[field].annotation) if field in model.model_fields else None
    if error["type"] == "literal_error":
        return _not_a_choice(kind, value)
    if value.lower() == "nan":
        return "is not a number", "give a number"
    problem, remedy = _SENTENCES.get(error["type"], (message[0].lower() + message[1:], "see --help"))
    if get_origin(kind) is tuple and error["type"] in ("missing", "too_long", "tuple_type"):
        problem = f"is not {len(get_args(kind))} values"
    if get_origin(kind) in (tuple, dict) and not problem.startswith("is too "):
        remedy = f"write {placeholder_of(field, model.model_fields[field])}"
    elif "," in value and remedy.endswith("number"):
        remedy = "separate values with spaces"
    return problem, remedy.format(**error.get("ctx", {}))


def _is_left_out(error: ErrorDetails) -> bool:
    """Whether a required field was not given; values that a tuple lacks are another matter."""
    return error["type"] == "missing" and len(error["loc"]) == 1


def _value_of(model: type[BaseModel], error: ErrorDetails) -> object:
    """The value that was refused; of a dictionary ``key=value``."""
    field, value = str(error["loc"][0]) if error["loc"] else "", error["input"]
    if isinstance(value, dict):
        return " ".join(f"{key}={item}" for key, item in value.items())
    is_item = len(error["loc"]) == 2 and field in model.model_fields
    if is_item and get_origin(bare_type(model.model_fields[field].annotation)) is dict:
        return f"{error['loc'][1]}={value}"
    return value


def _not_a_choice(kind: Any, value: str) -> tuple[str, str]:
    """For a value that is not among those of a ``Literal``, or of a list of them."""
    choices = [str(choice) for choice in get_args(bare_type(get_args(kind)[0]) if get_origin(kind) is list else kind)]
    if "," in value:
        return f"is not one of {' '.join(choices)}", "separate values with spaces"
    same = next((choice for choice in choices if choice.lower() == value.lower()), None)
    return f"is not one of {' '.join(choices)}", f"write {same}" if same else "choose one of these"
