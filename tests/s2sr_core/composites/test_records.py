"""What a record says of a composite, and when its key changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import s2sr_core
from s2sr_core.composites.records import PIXEL_CODE, code_digest, inputs_in

PACKAGE = Path(s2sr_core.__file__).parent


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PACKAGE, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("__pycache__")))


def test_the_same_code_elsewhere_has_the_same_digest(copy: Path) -> None:
    assert code_digest(copy) == code_digest(PACKAGE)


@pytest.mark.parametrize(
    "name",
    [
        "pixel_functions.py",
        "pixels/rules.py",
        "pixels/statistics.py",
        "engines/kernels.py",
        "engines/reference.py",
        "geo/clip.py",
        "scenes/prepare.py",
        "composites/render.py",
        "composites/cog.py",
    ],
)
def test_another_number_in_a_module_that_decides_pixels_is_another_digest(copy: Path, name: str) -> None:
    with (copy / name).open("a") as file:
        file.write("\n_X = 1\n")
    assert code_digest(copy) != code_digest(PACKAGE)


def test_a_new_module_is_another_digest_and_a_renamed_one_too(copy: Path, tmp_path: Path) -> None:
    (copy / "pixels" / "new.py").write_text("")
    assert code_digest(copy) != code_digest(PACKAGE)
    renamed = Path(shutil.copytree(PACKAGE, tmp_path / "renamed"))
    (renamed / "pixels" / "rules.py").rename(renamed / "pixels" / "roles.py")
    assert code_digest(renamed) != code_digest(PACKAGE)


def test_what_decides_no_pixel_does_not_matter(copy: Path) -> None:
    for name in ("doctor.py", "composites/composite.py", "outputs/report.py"):
        (copy / name).unlink()
    assert code_digest(copy) == code_digest(PACKAGE)


def test_every_pattern_names_modules_that_are_there() -> None:
    assert all(list(PACKAGE.glob(pattern)) for pattern in PIXEL_CODE)


def test_inputs_are_read_by_their_old_names_too() -> None:
    lattice, scenes = {"tap": True}, [{"product": "A"}]
    expected = {"lattice": lattice, "scenes": scenes}
    assert inputs_in({"inputs": expected}) == expected
    assert inputs_in({"made_of": {"lattice": lattice, "inputs": scenes}}) == expected
    assert inputs_in({}) is None
    assert inputs_in({"inputs": 3}) is None
