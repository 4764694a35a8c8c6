"""The last run of a work folder: a run with its parameters continues it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from s2sr_core.errors import InputError
from s2sr_core.fields import ExpandedPath
from s2sr_core.files import read_record
from s2sr_core.parameters import RunParameters
from s2sr_core.validation import checked
from s2sr_core.workspace import Workspace


class RepairParameters(BaseModel):
    """The one parameter of a repair; all others are in the folder's record."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    work_dir: Annotated[ExpandedPath, Field(description="Folder of the run that is to be continued.")]


def parameters_of_last_run(
    folder: Path, given: Mapping[str, Any], approves: Callable[[Path], bool] = lambda site: False
) -> RunParameters:
    """The parameters of the last run of ``folder``, except those that are ``given`` now.

    Somebody else may have written the record, so what would run code is not taken from it unless ``approves`` says so
    of the site file that it names.

    Raises
    ------
    InputError
        If there is no record of a run, or a site file has to be given again.
    """
    workspace = Workspace(folder)
    last = read_record(workspace.flow_run) or read_record(workspace.run_record) or {}
    recorded = last.get("parameters")
    if not isinstance(recorded, dict):
        raise InputError("work_dir", folder, "has no record of a run", "give the folder of a run")
    if given.get("cluster") == "local":
        recorded = recorded | {"site": None}
    if recorded.get("site") is not None and "site" not in given and not approves(Path(str(recorded["site"]))):
        raise InputError(
            "site",
            str(recorded["site"]),
            "is the site file that the run's record names, and holds commands that would run as you",
            "look at it, then add --site with its path",
        )
    return checked(RunParameters, {**recorded, **given, "work_dir": folder})
