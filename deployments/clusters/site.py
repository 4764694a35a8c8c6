"""The site file (``--site``): how a batch system should run the workers, as YAML."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self

import pandas as pd
import yaml
from dask.utils import parse_bytes
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from s2sr_core.errors import InputError
from s2sr_core.files import check_readable
from s2sr_core.validation import problem_and_remedy

#: ``days-hours[:minutes[:seconds]]``, ``hours:minutes:seconds`` or ``minutes:seconds``, as sbatch(1) has them.
_CLOCK = re.compile(r"(?:(\d+)-(\d+)(?::(\d+)(?::(\d+))?)?|(?:(\d+):)?(\d+):(\d+))", re.ASCII)


def _duration(value: Any) -> Any:
    """``90`` (seconds), ``30 min``, ``12h``, ``01:30:00`` or ``2-12`` (two days and a half) as a timedelta."""
    if isinstance(value, timedelta):
        return value
    problem = "is not a duration; write one like 01:30:00, 90 min or 12 h"
    if isinstance(value, str) and (clock := _CLOCK.fullmatch(value.strip())):
        days, *of_day, hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        if clock[1] is not None:
            hours, minutes, seconds = of_day
        try:
            return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        except OverflowError as error:
            raise ValueError(problem) from error
    if isinstance(value, bool) or not isinstance(value, str | int | float) or "-" in str(value):
        raise ValueError(problem)
    try:
        text = str(value)
        return pd.Timedelta(f"{text} s" if text.replace(".", "", 1).isdecimal() else text).to_pytimedelta()
    except ValueError as error:
        raise ValueError(problem) from error


def _walltime(value: Any) -> Any:
    """Like :func:`_duration`, but a number alone is one of minutes, as batch systems have it."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and value.strip().isdecimal()):
        value = f"{value} min"
    walltime = _duration(value)
    if walltime <= timedelta():
        raise ValueError("is not a time; write one like 01:30:00, 90 min or 12 h")
    return walltime


def _check_launcher(launcher: str) -> str:
    if "\n" in launcher:
        raise ValueError("is more than one line; write one command like mpirun -n {ranks}")
    try:
        launcher.format(ranks=1)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError("holds braces other than {ranks}; write one command like mpirun -n {ranks}") from error
    return launcher


def _check_memory(memory: str) -> str:
    try:
        size = parse_bytes(memory)
    except ValueError as error:
        raise ValueError("is not an amount of memory; write one like 4 GiB") from error
    if size < 2**20:
        raise ValueError("is less than 1 MiB; write one like 4 GiB")
    return memory


def _no_newline(text: str) -> str:
    if "\n" in text:
        raise ValueError("is more than one line; write one line per entry")
    return text


Line = Annotated[str, AfterValidator(_no_newline)]
Duration = Annotated[timedelta, BeforeValidator(_duration)]
Walltime = Annotated[timedelta, BeforeValidator(_walltime)]


class _Loader(yaml.SafeLoader):
    """YAML in which ``01:30`` is text, and not a number to the base of 60 as YAML 1.1 has it."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?\d+$"), list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d*\.\d+$"), list("-+.0123456789"))


class Site(BaseModel):
    """What a site's batch system needs to know. A key that is left out has the default given here."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    queue: Annotated[Line | None, Field(description="Queue or partition of the jobs.")] = None
    account: Annotated[Line | None, Field(description="Account or project that is charged.")] = None
    walltime: Annotated[Walltime, Field(description="Time limit of a job; a number alone is one of minutes.")] = (
        timedelta(hours=1)
    )
    ranks: Annotated[int, Field(ge=1, le=4096, description="MPI ranks of a job; each is one worker.")] = 4
    threads: Annotated[int, Field(ge=1, le=256, description="Cores reserved for each rank.")] = 1
    memory: Annotated[str, AfterValidator(_check_memory), Field(description="Memory reserved for each rank.")] = "4 GiB"
    launcher: Annotated[
        str,
        AfterValidator(_check_launcher),
        Field(description="Command that starts the ranks of a job, with its arguments; {ranks} is their number."),
    ] = "mpirun -n {ranks}"
    python: Annotated[Line, Field(description="Interpreter of the workers; by default the one that submits.")] = (
        sys.executable
    )
    prologue: Annotated[
        list[Line],
        Field(description="Shell lines that run before the launcher. Jobs inherit no environment: set it here."),
    ] = []
    directives: Annotated[
        list[Line],
        Field(description="Further directives of the job, with or without their prefix; for HTCondor as key = value."),
    ] = []
    directives_skip: Annotated[
        list[Line], Field(description="Leave out every directive that contains one of these texts.")
    ] = []
    interface: Annotated[
        Line | None,
        Field(description="Network interface of scheduler and workers, such as ib0; by default the default route's."),
    ] = None
    tls: Annotated[
        bool, Field(description="Encrypt and authenticate the connections between scheduler and workers.")
    ] = True
    scratch: Annotated[
        Line | None,
        Field(
            description="Folder in which Dask and GDAL put temporary files; may be local to a node. ~ and variables "
            "such as $TMPDIR are those of the node."
        ),
    ] = None
    min_jobs: Annotated[int, Field(ge=0, le=10_000, description="Jobs to keep even if there is no work.")] = 0
    max_jobs: Annotated[int, Field(ge=1, le=10_000, description="The most jobs at once.")] = 2
    adaptive: Annotated[
        bool, Field(description="Between min_jobs and max_jobs as there is work; if false, max_jobs all the time.")
    ] = True
    idle: Annotated[Duration, Field(description="A job that has been idle for this long is ended.")] = timedelta(
        minutes=1
    )
    queue_timeout: Annotated[Duration, Field(description="The run fails if no job has started after this time.")] = (
        timedelta(hours=12)
    )
    lifetime: Annotated[
        Duration | None,
        Field(description="Age after which a worker takes no more units; by default three quarters of walltime."),
    ] = None
    lifetime_stagger: Annotated[
        Duration | None,
        Field(
            description="Workers' lifetimes are spread evenly over lifetime ± this; by default a twentieth of walltime."
        ),
    ] = None

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.min_jobs > self.max_jobs:
            raise InputError(
                "min_jobs", self.min_jobs, f"is more than max_jobs ({self.max_jobs})", "lower it, or raise max_jobs"
            )
        if self.worker_lifetime + self.stagger >= self.walltime:
            raise InputError(
                "lifetime",
                self.worker_lifetime,
                f"and lifetime_stagger ({self.stagger}) leave no time before walltime ({self.walltime})",
                "leave the time of the longest unit, a quarter of walltime or more",
            )
        return self

    @property
    def worker_lifetime(self) -> timedelta:
        return self.lifetime if self.lifetime is not None else self.walltime * 0.75

    @property
    def stagger(self) -> timedelta:
        return self.lifetime_stagger if self.lifetime_stagger is not None else self.walltime * 0.05

    @property
    def workers(self) -> int:
        """The most workers at once."""
        return self.max_jobs * self.ranks


def read_site(path: Path | None) -> Site:
    """The site file at ``path``; without one, the defaults.

    Raises
    ------
    InputError
        If it cannot be read, is not a YAML mapping, or has a key or value that :class:`Site` does not accept.
    """
    if path is None:
        return Site()
    check_readable("site", path, "give the path of a YAML file")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  # a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not text"
        raise InputError("site", path, f"cannot be read ({reason})", "give the path of a YAML file") from error
    except yaml.YAMLError as error:
        raise InputError("site", path, f"is not YAML ({' '.join(str(error).split())})", "correct it") from error
    if not isinstance(content, dict):
        raise InputError("site", path, "has no keys", "write key: value lines as in docs/hpc.md")
    try:
        return Site(**{str(key): value for key, value in content.items()})
    except ValidationError as error:
        raise _input_error(path, error) from error


def _input_error(path: Path, error: ValidationError) -> InputError:
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        return InputError("site", path, f"has the unknown key {key}", "docs/hpc.md lists all keys")
    problem, remedy = problem_and_remedy(Site, first)
    value = " ".join(str(first["input"]).split())
    return InputError("site", path, f"{key} = {value!r} {problem}", remedy)
