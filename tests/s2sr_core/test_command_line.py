from __future__ import annotations

import contextlib
import errno
import io
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from s2sr_core.command_line import EXIT_BAD_INPUT, Parser, add_fields, ask_about, build, normalised, run
from s2sr_core.errors import InputError, InstallationError
from s2sr_core.fields import Shown, doubt_about


class Model(BaseModel):
    """One field of each kind that a model of this program may have."""

    box: Annotated[tuple[float, float, float, float], Field(description="Four numbers.")]
    folder_name: Annotated[str, Field(description="A text, 100 % needed.")]
    pair: Annotated[tuple[float, float], Field(description="Two numbers.")] = (1.0, 2.0)
    colours: Annotated[list[Literal["red", "blue"]], Field(description="Some colours.")] = ["red"]
    numbers: Annotated[list[int] | None, Field(description="Some numbers.")] = None
    kind: Annotated[Literal["a", "b"], Field(description="A choice.")] = "a"
    widths: Annotated[dict[int, float], Field(description="Widths by number.")] = {}
    keep_it: Annotated[bool, Field(description="A switch.")] = False
    limit: Annotated[float | None, Field(ge=0, description="A limit.")] = None


def parser() -> Parser:
    made = Parser("tool", "What it does.", "examples:")
    add_fields(made, Model)
    return made


def parsed(*words: str) -> Model:
    required = ["--box", "0", "0", "1", "1", "--folder-name", "x"]
    return build(Model, parser().parse(normalised([*required, *words])))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What argparse itself refuses: exit code 2 and one line on stderr."""
    with pytest.raises(SystemExit) as caught:
        parsed(*words)
    assert caught.value.code == EXIT_BAD_INPUT == 2
    output = capsys.readouterr()
    assert output.out == ""
    [line] = output.err.splitlines()
    assert line.startswith("tool: ")
    assert line.endswith("; see tool --help.")
    return line.removeprefix("tool: ").removesuffix("; see tool --help.")


# --------------------------------------------------------------------------------------------------------- numbers


@given(st.floats(max_value=-0.0, allow_nan=False, allow_infinity=False))
def test_every_negative_number_that_python_writes_gets_through_exactly(number: float) -> None:
    """``-1e-05``, ``-1.5e+300``, ``-0.0`` …: argparse by itself takes those with an exponent for options."""
    assert parsed("--pair", repr(number), "7").pair == (number, 7.0)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("-1e-3", -0.001),
        ("-1E-3", -0.001),
        ("-1e2", -100.0),
        ("-1e+2", -100.0),
        ("-180.", -180.0),
        ("-.5", -0.5),
        ("-0", 0.0),
        ("-007", -7.0),
        ("-1e-30", -1e-30),
        ("-1.797e308", -1.797e308),
    ],
)
def test_negative_numbers_as_people_write_them(text: str, number: float) -> None:
    assert parsed("--pair", text, text).pair == (number, number)


@pytest.mark.parametrize("word", ["-inf", "-nan", "-x", "-1_000", "-1e", "-e5", "-1.2.3", "-٣", "-"])
def test_words_that_are_no_negative_numbers_are_left_alone(word: str) -> None:
    assert normalised([word]) == [word]


# --------------------------------------------------------------------------------------------------------- options


def test_under_scores_and_dashes_are_one() -> None:
    assert (
        parsed("--keep_it", "--folder_name", "a_b").model_dump()
        == parsed("--keep-it", "--folder-name", "a_b").model_dump()
    )
    assert parsed("--folder_name=a_b").folder_name == "a_b"
    assert parsed("--no_keep_it").keep_it is False


def test_values_keep_their_under_scores() -> None:
    assert normalised(["--an_option=a_b=c_d", "a_b", "-a_b", "--"]) == ["--an-option=a_b=c_d", "a_b", "-a_b", "--"]


def test_each_kind_of_field_takes_its_words() -> None:
    model = parsed(
        *("--box", "-1e1", "-2", "3", "4", "--colours", "blue", "red", "--numbers", "1", "-2", "--kind", "b"),
        *("--widths", "9=1.5", "3=-2", "--keep-it", "--limit", "0.5"),
    )
    assert model.box == (-10.0, -2.0, 3.0, 4.0)
    assert model.colours == ["blue", "red"]
    assert model.numbers == [1, -2]
    assert model.kind == "b"
    assert model.widths == {9: 1.5, 3: -2.0}
    assert model.keep_it is True
    assert model.limit == 0.5


def test_what_is_not_given_is_the_models_default() -> None:
    assert parsed() == Model(box=(0, 0, 1, 1), folder_name="x")


def test_an_option_may_not_be_cut_short(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "--keep") == "unknown option --keep (did you mean --keep-it?)"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--box", "1", "2", "3"), "argument --box: expected 4 arguments"),
        (("--kind",), "argument --kind: expected one argument"),
        (("--colours",), "argument --colours: expected at least one argument"),
        (("--unknown-option", "1"), "unknown option --unknown-option"),
        (("--widths", "9"), "argument --widths: '9' is not written as KEY=VALUE"),
        (("--widths", "9=1", "9=2"), "argument --widths: '9' is given twice"),
        (("--keep-it", "yes"), "unexpected argument 'yes'"),
        (("--keep-it=yes",), "argument --keep-it/--no-keep-it: takes no value"),
        (("--limt=1",), "unknown option --limt (did you mean --limit?)"),
        (("-limit", "1"), "unknown option -limit (did you mean --limit?)"),
    ],
)
def test_what_does_not_fit_the_options_is_one_sentence(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert refused(capsys, *words) == message


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("--kind", "c"),
            "kind = 'c': is not one of a b; choose one of these.",
        ),
        (
            ("--limit", "-1"),
            "limit = '-1': is too small; give 0 or more.",
        ),
        (
            ("--colours", "red", "green"),
            "colours = 'green': is not one of red blue; choose one of these.",
        ),
        (
            ("--pair", "1", "two"),
            "pair = 'two': is not a number; write PAIR PAIR.",
        ),
        (("--widths", "3="), "widths = '3=': is not a number; write KEY=VALUE."),
        (("--widths", "x=1"), "widths = 'x': is not a whole number; write KEY=VALUE."),
        (
            ("--numbers", "1,2"),
            "numbers = '1,2': is not a whole number; separate values with spaces.",
        ),
    ],
)
def test_what_the_model_refuses_is_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        parsed(*words)
    assert str(caught.value) == sentence


def test_a_missing_field_is_named_with_its_option() -> None:
    with pytest.raises(InputError) as caught:
        build(Model, parser().parse(["--box", "0", "0", "1", "1"]))
    assert str(caught.value) == "folder_name = '': is required; add --folder-name."
    with pytest.raises(InputError) as caught:
        build(Model, parser().parse([]))
    assert str(caught.value) == "box = '': is required; add --box, --folder-name."


def test_help_tells_each_field_its_description_and_default() -> None:
    text = " ".join(parser().format_help().split())
    for name, field in Model.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert str(field.description) in text
    assert "Two numbers. Default: 1.0 2.0." in text
    assert "Some colours. Default: red." in text
    assert "A choice. Default: a." in text
    assert "--colours COLOURS [COLOURS ...]" in text
    assert "--box BOX BOX BOX BOX" in text


def test_help_lists_fields_by_group_and_the_required_ones_in_the_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    class Grouped(BaseModel):
        where: Annotated[tuple[float, float], Shown("place", "LON LAT"), Field(description="A place.")]
        work_dir: Annotated[str, Shown("place", "DIR"), Field(description="A folder.")]
        fine: Annotated[bool, Shown("look"), Field(description="A switch.")] = True

    monkeypatch.setenv("COLUMNS", "80")
    made = Parser("tool", "What it does.", "examples:\n  tool --fine")
    add_fields(made, Grouped)
    assert (
        made.format_help()
        == """\
usage: tool --where LON LAT --work-dir DIR [OPTION ...]

What it does.

place:
  --where LON LAT    A place.
  --work-dir DIR     A folder.

look:
  --fine, --no-fine  A switch. Default: on.

examples:
  tool --fine
"""
    )


@pytest.mark.parametrize("columns", [60, 80, 100, 300])
def test_help_is_as_wide_as_the_terminal_and_at_most_100_columns(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    class Long(BaseModel):
        name: Annotated[str, Field(description="word-with-dashes " * 40)]
        other: Annotated[str, Shown("options", "PLACEHOLDER_OF_SOME_LENGTH"), Field(description="Another.")]

    monkeypatch.setenv("COLUMNS", str(columns))
    made = Parser("a-tool-with-a-long-name", "", "")
    add_fields(made, Long)
    lines = made.format_help().splitlines()
    assert min(columns, 100) - len("word-with-dashes ") <= max(map(len, lines)) <= min(columns, 100)
    assert not any(line.endswith("-") for line in lines)


# ------------------------------------------------------------------------------------------------------------- run


def test_a_long_value_is_shortened_and_kept_on_one_line() -> None:
    sentence = str(InputError("field", "line one\nline two " + "x" * 200, "is bad", "fix it"))
    assert sentence == f"field = 'line one line two {'x' * 59}…': is bad; fix it."


def test_bad_input_ends_in_2_with_its_sentence_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tool", "--a_b", "-1e1"])

    def main(words: list[str]) -> int:
        raise InputError("a", words, "is bad", "fix it")

    assert run(main, "tool") == 2
    assert capsys.readouterr() == ("", "tool: a = '--a-b -10': is bad; fix it.\n")


def test_an_interruption_ends_in_130_and_says_that_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tool"])

    def main(words: list[str]) -> int:
        raise KeyboardInterrupt

    assert run(main, "tool") == 130
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("tool: interrupted; ")


def test_a_terminal_without_the_letter_gets_another_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a node whose locale is plain ASCII."""
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "argv", ["tool"])

    def main(words: list[str]) -> int:
        print("crosses ±180")
        return 0

    assert run(main, "tool") == 0
    screen.flush()
    assert screen.buffer.getvalue() == b"crosses ?180\n"


def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tool"])

    def main(words: list[str]) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(main, "tool")


def test_something_that_is_not_installed_is_one_sentence_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tool"])

    def main(words: list[str]) -> int:
        raise InstallationError("GDAL is not installed; install it.")

    assert run(main, "tool") == EXIT_BAD_INPUT
    assert capsys.readouterr() == ("", "tool: GDAL is not installed; install it.\n")


def test_a_full_disk_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def fail(_: list[str]) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "file"))

    assert run(fail, "prog") == 1
    remedy = "free some there, or use another disk, and run the same again"
    assert capsys.readouterr().err == f"prog: no space left on {tmp_path}; {remedy}.\n"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "is_taken"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_in_a_terminal_a_doubtful_path_is_asked_about(
    monkeypatch: pytest.MonkeyPatch, answer: str, is_taken: bool
) -> None:
    asked = _Terminal()
    monkeypatch.setattr("sys.stdin", _Terminal(answer))
    monkeypatch.setattr("sys.stderr", asked)
    refusal = (
        contextlib.nullcontext() if is_taken else pytest.raises(InputError, match=r"^work_dir = '\.\./run': lies ")
    )
    with refusal:
        ask_about("work_dir", "../run", "lies outside the current folder")
    above = Path("../run").resolve()
    assert asked.getvalue() == f"work_dir = '../run': lies outside the current folder ({above}). Use it? [y/N] "


def test_without_a_terminal_a_doubtful_path_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(InputError, match="add --yes if it is meant"):
        ask_about("work_dir", "../run", "lies outside the current folder")


def test_which_paths_are_doubtful(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for path in ("run", "./run", "a/..", ".", "~/run", "~/../run", "/data/run", "/data/../run", "..run"):
        assert doubt_about(path) == "", path
    for path in ("..", "../run", "run/../..", "a/b/../../../c"):
        assert doubt_about(path) == "lies outside the current folder", path
    for path in ("~", "~/a/..", str(tmp_path / "home")):
        assert doubt_about(path) == "is the home folder itself", path
    (tmp_path / "home" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "home")  # where cron starts
    for path in (".", "below/..", str(tmp_path / "home")):
        assert doubt_about(path) == "is the home folder itself", path
    assert doubt_about("below") == ""
    for path in ("/", "/tmp/.."):
        assert doubt_about(path) == "is the root of the filesystem", path
