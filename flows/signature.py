"""The parameters of a flow as the pydantic model that checks them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect.runtime import deployment
from pydantic import BaseModel

from flows import known_failures as known_failures  # which keeps their tracebacks out of logs
from s2sr_core.errors import InputError
from s2sr_core.fields import bare_type, doubt_about
from s2sr_core.validation import checked


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
