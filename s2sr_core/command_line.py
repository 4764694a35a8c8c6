"""A pydantic model as a command line: one option a field, ``--with-dashes`` and ``--with_underscores`` alike."""

from __future__ import annotations

import argparse
import io
import re
import signal
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from s2sr_core.errors import InputError

_NEGATIVE = re.compile(r"-([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?", re.IGNORECASE)

EXIT_DONE, EXIT_FAILURES, EXIT_BAD_INPUT = 0, 1, 2


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one sentence on stderr and exit code 2."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; see {self.prog} --help.", file=sys.stderr)
        raise SystemExit(EXIT_BAD_INPUT)


def add_fields(parser: argparse._ActionsContainer, model: type[BaseModel]) -> None:
    """An option for each field of ``model``; values stay text and are checked by the model."""
    for name, field in model.model_fields.items():
        _add_field(parser, name, field)


def build[M: BaseModel](model: type[M], arguments: argparse.Namespace) -> M:
    """The model from parsed arguments, its defaults where an option was not given.

    Raises
    ------
    InputError
        For the first value that is not as the model wants it.
    """
    return checked(
        model, {name: value for name in model.model_fields if (value := getattr(arguments, name)) is not None}
    )


def checked[M: BaseModel](model: type[M], fields: Mapping[str, Any]) -> M:
    """The model from values by field.

    Raises
    ------
    InputError
        For the first value that is not as the model wants it.
    """
    try:
        return model(**fields)
    except ValidationError as error:
        raise input_error(model, error) from error


def input_error(model: type[BaseModel], error: ValidationError) -> InputError:
    """The first thing that is wrong, as one sentence with field, value, problem and remedy."""
    first = error.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else "parameters"
    value = first.get("input")
    if isinstance(value, dict):
        value = " ".join(f"{key}={item}" for key, item in value.items())
    if first["type"] == "missing" and len(first["loc"]) == 1:
        return InputError(field, "", "is required", f"add --{field.replace('_', '-')}")
    if first["type"] == "extra_forbidden":
        return InputError(field, value, "is no parameter here", "see --help for those there are")
    problem, _, remedy = str(first["msg"]).removeprefix("Value error, ").partition("; ")
    if not remedy:
        description = model.model_fields[field].description or ""
        remedy = f"what it takes: {description.rstrip('.')}"
    return InputError(field, value, problem[0].lower() + problem[1:], remedy)


def normalised(argv: Sequence[str]) -> list[str]:
    """``argv`` with ``--under_scored`` options dashed, and numbers like ``-1e-3`` and ``-180.`` written as argparse
    knows them: it takes them for options.
    """
    result = []
    for word in argv:
        if word.startswith("--"):
            option, equals, value = word.partition("=")
            result.append(option.replace("_", "-") + equals + value)
        elif _NEGATIVE.fullmatch(word):
            result.append(f"{Decimal(word):f}")
        else:
            result.append(word)
    return result


def run(main: Callable[[list[str]], int], prog: str) -> int:
    """Call ``main`` with the program's arguments; bad input becomes its sentence on stderr and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may not know ± or −
    interrupted = False

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return main(normalised(sys.argv[1:]))
    except InputError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except BaseException as error:
        # A server or a worker of this run that was interrupted as well fails in ways of its own.
        if not (interrupted or isinstance(error, KeyboardInterrupt)) or isinstance(error, SystemExit):
            raise
        sentence = "interrupted; what is complete is kept, and the same command goes on from there."
        print(f"{prog}: {sentence}", file=sys.stderr)
        return EXIT_FAILURES
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _add_field(parser: argparse._ActionsContainer, name: str, field: FieldInfo) -> None:
    kind = _bare(field.annotation)
    help_text = (field.description or "").replace("%", "%%")
    if not field.is_required() and kind is not bool and field.default not in (None, [], {}):
        help_text += f" Default: {_shown(field.default)}."
    options: dict[str, Any] = {"dest": name, "help": help_text, "default": None}
    if kind is bool:
        options["action"] = argparse.BooleanOptionalAction
    elif get_origin(kind) is tuple:
        options |= {"nargs": len(get_args(kind)), "metavar": _tuple_names(name, len(get_args(kind)))}
    elif get_origin(kind) is list:
        options |= {"nargs": "+", "metavar": name.removesuffix("s").upper()}
        if get_origin(item := _bare(get_args(kind)[0])) is Literal:
            options["metavar"] = "{" + ",".join(get_args(item)) + "}"
    elif get_origin(kind) is dict:
        options |= {"nargs": "+", "metavar": "KEY=VALUE", "action": _Pairs}
    elif get_origin(kind) is Literal:
        options["metavar"] = "{" + ",".join(get_args(kind)) + "}"
    else:
        options["metavar"] = name.rpartition("_")[2].upper()
    parser.add_argument(f"--{name.replace('_', '-')}", **options)


class _Pairs(argparse.Action):
    """``9=100 3=60`` as a dictionary of texts."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        pairs: dict[str, str] = {}
        for text in values:
            key, equals, value = text.partition("=")
            if not equals or key in pairs:
                problem = "is named twice" if equals else "is not written as KEY=VALUE"
                raise argparse.ArgumentError(self, f"{key!r} {problem}")
            pairs[key] = value
        setattr(namespace, self.dest, pairs)


def _bare(annotation: Any) -> Any:
    """The type without ``Annotated`` and ``| None``."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return _bare(next(arg for arg in get_args(annotation) if arg is not type(None)))
    return annotation


def _tuple_names(name: str, length: int) -> tuple[str, ...]:
    names = {4: ("XMIN", "YMIN", "XMAX", "YMAX"), 2: ("LON", "LAT")}
    return names.get(length, (name.upper(),) * length)


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
