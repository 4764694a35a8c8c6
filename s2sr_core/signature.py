"""The fields of pydantic models as the parameters of a function, so that each is described once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def takes_fields_of[F: Callable[..., Any]](*models: type[BaseModel], without: Collection[str] = ()) -> Callable[[F], F]:
    """Decorate a function of ``**fields``: its signature and docstring show the fields of ``models`` as parameters.

    Whatever reads signatures (Prefect's form and API, ``help()``) then finds each field with its type, bounds, default
    and description. Descriptions become the ``Args`` of the docstring, where Prefect looks for them. Fields named in
    ``without`` are left out, and required ones come first, as forms show them.
    """
    fields = {name: field for model in models for name, field in model.model_fields.items() if name not in without}
    required = {name: field for name, field in fields.items() if field.is_required()}
    ordered = required | fields

    def decorate(function: F) -> F:
        function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [_parameter(name, field) for name, field in ordered.items()],
            return_annotation=inspect.signature(function).return_annotation,
        )
        function.__doc__ = _with_args(inspect.getdoc(function) or "", ordered)
        return function

    return decorate


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    """A keyword-only parameter with the field's type, checks and default."""
    annotation: Any = field.annotation
    for check in field.metadata:
        annotation = Annotated[annotation, check]
    default = inspect.Parameter.empty if field.is_required() else field.default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _with_args(docstring: str, fields: dict[str, FieldInfo]) -> str:
    args = [f"    {name}: {field.description}" for name, field in fields.items()]
    return "\n".join([docstring, "", "Args:", *args, ""])
