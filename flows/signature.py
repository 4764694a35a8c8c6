"""The fields of pydantic models as the parameters of a flow, so that each is described once, and checked alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

from prefect.runtime import deployment
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows import known_failures as known_failures  # which keeps their tracebacks out of logs
from s2sr_core.errors import InputError
from s2sr_core.fields import bare_type, doubt_about
from s2sr_core.validation import checked


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


def parameters_of[M: BaseModel](model: type[M], fields: Mapping[str, Any]) -> M:
    """The model made from a flow's parameters.

    Those of a deployment's run may come from another machine: whoever writes a path there does not see the folder and
    the home of the process that uses it.

    Raises
    ------
    InputError
        For the first value that the model refuses; of a deployment's run, also for a path that leaves its folder.
    """
    if deployment.id is not None:
        for name, field in model.model_fields.items():
            path = str(fields.get(name) or "")
            if bare_type(field.annotation) is Path and (problem := _doubt_from_afar(path)):
                remedy = "give an absolute path, or one below the folder of the deployment"
                raise InputError(name, path, problem, remedy)
    return checked(model, fields)


def _doubt_from_afar(path: str) -> str:
    return "begins at somebody's home folder" if path.startswith("~") else doubt_about(path)


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
