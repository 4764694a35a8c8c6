"""A pydantic model as a command line: one option per field, ``--with-dashes`` or ``--with_underscores``."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import re
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from s2sr_core.disk_space import explained, is_full_disk
from s2sr_core.errors import InputError, InstallationError
from s2sr_core.fields import bare_type, group_of, placeholder_of
from s2sr_core.signals import received, signals_heard
from s2sr_core.validation import checked

_NEGATIVE = re.compile(r"-([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]{1,3})?", re.IGNORECASE)
#: Columns of help: at most, and where descriptions begin.
_WIDTH, _INDENT = 100, 28

#: Characters of an error.
_LONGEST_MESSAGE = 500

EXIT_DONE, EXIT_FAILURES, EXIT_BAD_INPUT = 0, 1, 2
#: Plus the number of the signal that ended the program: 130 is Ctrl-C, 143 SIGTERM, 129 a closed terminal.
EXIT_SIGNAL = 128


class Parser(argparse.ArgumentParser):
    """argparse with errors of one sentence (on stderr, exit code 2), and help of at most 100 columns.

    Description and epilog are printed as they are written. ``-h`` is left to the caller, who knows in which group it
    belongs.
    """

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """The options that ``words`` give; ends the program if one of them is not an option."""
        arguments, unknown = self.parse_known_args(words)
        if option := next((word.partition("=")[0] for word in unknown if word.startswith("-")), ""):
            close = difflib.get_close_matches(option, self._option_string_actions, n=1, cutoff=0.75)
            self.error(f"unknown option {option}" + (f" (did you mean {close[0]}?)" if close else ""))
        if unknown:
            self.error(f"unexpected argument {unknown[0]!r}")
        return arguments

    def add_yes(self, group: argparse._ArgumentGroup, option: str) -> None:
        """Add ``--yes``, for programs that nobody watches: see :func:`ask_about`."""
        text = f"Use {option} without asking, also if it is outside the current folder or the home folder itself."
        group.add_argument("--yes", action="store_true", help=text)

    def error(self, message: str) -> NoReturn:
        message = re.sub("ignored explicit argument .*", "takes no value", message)
        if len(message) > _LONGEST_MESSAGE:  # it repeats what was typed
            message = f"{message[: _LONGEST_MESSAGE - 1]}…"
        print(f"{self.prog}: {message}; see {self.prog} --help.", file=sys.stderr)
        raise SystemExit(EXIT_BAD_INPUT)


def add_fields(parser: Parser, model: type[BaseModel]) -> None:
    """Add an option for each field of ``model``, in the groups of its fields, and a usage line of those required.

    Values stay text; the model checks them.
    """
    groups: dict[str, argparse._ArgumentGroup] = {}
    usage = [parser.prog]
    for name, field in model.model_fields.items():
        title = group_of(field)
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        _add_field(groups[title], name, field)
        if field.is_required():
            usage.append(f"{_option(name)} {placeholder_of(name, field)}")
    parser.usage = _wrapped([*usage, "[OPTION ...]"], _width() - len("usage: "), " " * (len("usage: ") + 4))


def build[M: BaseModel](model: type[M], arguments: argparse.Namespace) -> M:
    """The model made from parsed arguments, with its defaults for the options that were not given.

    Raises
    ------
    InputError
        For the first value that the model refuses.
    """
    return checked(
        model, {name: value for name in model.model_fields if (value := getattr(arguments, name)) is not None}
    )


def ask_about(field: str, path: str, problem: str) -> None:
    """In a terminal, ask whether this path is meant.

    Raises
    ------
    InputError
        If the user says no, or there is no terminal to ask on.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError(field, path, problem, "add --yes if it is meant, or give another path")
    where = Path(path).expanduser().resolve()
    print(f"{field} = '{path}': {problem} ({where}). Use it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InputError(field, path, problem, "give another path")


def normalised(argv: Sequence[str]) -> list[str]:
    """``argv`` with dashes for the underscores of options, and numbers like ``-1e-3`` and ``-180.`` written out.

    argparse takes such numbers for options otherwise.
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
    """Call ``main`` with the program's arguments.

    Bad input, and an installation that lacks something, become one sentence on stderr and exit code 2; a signal becomes
    one sentence and 128 plus its number.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may not know ± or −
    with signals_heard(lambda: _say_interrupted(prog)):
        try:
            return main(normalised(sys.argv[1:]))
        except (InputError, InstallationError) as error:
            print(f"{prog}: {error}", file=sys.stderr)
            return EXIT_BAD_INPUT
        except OSError as error:
            if not is_full_disk(error):
                raise
            print(f"{prog}: {explained(error, Path.cwd())}.", file=sys.stderr)
            return EXIT_FAILURES
        except BaseException as error:
            # A server or a worker of this run that was interrupted as well fails in ways of its own.
            number = received() or (signal.SIGINT if isinstance(error, KeyboardInterrupt) else None)
            if number is None or isinstance(error, SystemExit):
                raise
            _say_interrupted(prog)
            return EXIT_SIGNAL + number


def _say_interrupted(prog: str) -> None:
    sentence = "interrupted; finished composites are kept, and the same command continues from there."
    with contextlib.suppress(OSError):  # the terminal may be closed
        print(f"{prog}: {sentence}", file=sys.stderr)


# ------------------------------------------------------------------------------------------------------------- help


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help that is never wider than 100 columns, and never breaks a line at a hyphen."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_INDENT, width=_width())

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def _width() -> int:
    return min(shutil.get_terminal_size().columns, _WIDTH)


def _wrapped(parts: Sequence[str], width: int, indent: str) -> str:
    """``parts`` joined by blanks and wrapped between them; the first line is not indented."""
    lines = [""]
    for part in parts:
        if len(lines[-1]) + len(part) > width and lines[-1]:
            lines.append("")
        lines[-1] += f"{part} "
    return f"\n{indent}".join(line.rstrip() for line in lines)


# ------------------------------------------------------------------------------------------------------------ fields


def _add_field(group: argparse._ArgumentGroup, name: str, field: FieldInfo) -> None:
    kind = bare_type(field.annotation)
    help_text = field.description or ""
    if not field.is_required() and field.default not in (None, [], {}, False):
        help_text += f" Default: {_text(field.default)}."
    options: dict[str, Any] = {"dest": name, "help": help_text.replace("%", "%%"), "default": None}
    placeholder = placeholder_of(name, field)
    if kind is bool:
        options["action"] = argparse.BooleanOptionalAction
    elif get_origin(kind) is tuple:
        options |= {"nargs": len(get_args(kind)), "metavar": tuple(placeholder.split())}
    elif get_origin(kind) is list:
        options |= {"nargs": "+", "metavar": placeholder}
    elif get_origin(kind) is dict:
        options |= {"nargs": "+", "metavar": placeholder, "action": _Pairs}
    else:
        options["metavar"] = placeholder
    group.add_argument(_option(name), **options)


class _Pairs(argparse.Action):
    """``9=100 3=60`` as a dictionary of texts."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        pairs: dict[str, str] = {}
        for text in values:
            key, equals, value = text.partition("=")
            if not equals or key in pairs:
                problem = "is given twice" if equals else f"is not written as {self.metavar}"
                raise argparse.ArgumentError(self, f"{key!r} {problem}")
            pairs[key] = value
        setattr(namespace, self.dest, pairs)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _text(value: object) -> str:
    if value is True:
        return "on"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
