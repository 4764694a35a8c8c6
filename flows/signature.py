"""A function whose parameters are the fields of pydantic models."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def takes_fields_of[F: Callable[..., Any]](*models: type[BaseModel], without: Collection[str] = ()) -> Callable[[F], F]:
    """Give a function of ``**fields`` the signature and the docstring's ``Args`` of ``models``, one after the other.

    Whatever reads signatures (Prefect's form and API, ``help()``) then sees each field with its type, bounds, default
    and description, and none is written twice. Descriptions go into the docstring, where Prefect looks for them.
    Fields named in ``without`` are left out.
    """
    merged = {name: field for model in models for name, field in model.model_fields.items() if name not in without}
    # Those without a default first, as forms show them.
    fields = dict(sorted(merged.items(), key=lambda item: not item[1].is_required()))

    def decorate(function: F) -> F:
        parameters = [_parameter(name, field) for name, field in fields.items()]
        function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            parameters, return_annotation=inspect.signature(function).return_annotation
        )
        lines = [f"    {name}: {field.description}" for name, field in fields.items()]
        function.__doc__ = "\n".join([inspect.getdoc(function) or "", "", "Args:", *lines, ""])
        return function

    return decorate


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    annotation: Any = field.annotation
    for constraint in field.metadata:
        annotation = Annotated[annotation, constraint]
    default = inspect.Parameter.empty if field.is_required() else field.default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
