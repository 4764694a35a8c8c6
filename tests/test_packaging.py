from __future__ import annotations

import importlib.metadata
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from osgeo import gdal
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

import make_grid
import s2sr_core
import s2sr_pipeline

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def metadata() -> importlib.metadata.PackageMetadata:
    """Of the package as installed: what pip and conda read, not what the lock says."""
    return importlib.metadata.metadata("s2sr")


@pytest.fixture(scope="module")
def requirements() -> list[Requirement]:
    """What the installed package asks for, its extras included."""
    return [Requirement(text) for text in importlib.metadata.requires("s2sr") or []]


@pytest.fixture(scope="module")
def pins(requirements: list[Requirement]) -> dict[str, SpecifierSet]:
    """Allowed versions by the name of the dependency, those of extras included."""
    return {requirement.name.lower(): requirement.specifier for requirement in requirements}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_python_3_12_is_the_least(metadata: importlib.metadata.PackageMetadata) -> None:
    needed = SpecifierSet(metadata["Requires-Python"])
    assert "3.12.0" in needed
    assert "3.13.0" in needed
    assert "3.11.9" not in needed
    assert (ROOT / ".python-version").read_text().strip() == "3.12"


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("prefect", "3.8.8", ("3.8.7", "3.9.0", "4.0")),
        ("prefect-dask", "0.3.7", ("0.3.6", "0.4.0")),
        ("fastapi", "0.150.0", ("0.160.0", "0.151.0")),
        ("sqlalchemy", "2.0.40", ("2.1.0", "1.4.54")),
        ("dask", "2026.8.0", ("2026.9.0", "2025.12.0")),
        ("distributed", "2026.8.0", ("2026.9.0", "2025.12.0")),
        ("dask-jobqueue", "0.9.0", ("0.10.0",)),
        ("gdal", "3.9.0", ("3.8.5",)),
        ("gdal", "3.13.3", ()),
        ("numpy", "2.5.0", ("1.26.4", "3.0")),
        ("shapely", "2.2.0", ("1.8.5", "3.0")),
        ("pydantic", "2.12.0", ("1.10.2", "3.0")),
    ],
)
def test_the_metadata_itself_pins_what_is_known_to_break(
    pins: dict[str, SpecifierSet], name: str, good: str, bad: tuple[str, ...]
) -> None:
    assert good in pins[name]
    for version in bad:
        assert version not in pins[name], version


def test_every_dependency_has_a_least_version_and_a_bound_above(pins: dict[str, SpecifierSet]) -> None:
    for name, specifier in pins.items():
        assert {clause.operator for clause in specifier} == {">=", "<"}, name


def test_what_is_installed_is_what_the_metadata_asks_for(pins: dict[str, SpecifierSet]) -> None:
    """GDAL may come as a wheel of another name, or as the site's own: it says its version by itself."""
    for name, specifier in pins.items():
        installed = gdal.__version__ if name.startswith("gdal") else importlib.metadata.version(name)
        if name != "gdal-wheel":  # which a site leaves out
            assert Version(installed) in specifier, (name, installed)


def test_gdal_comes_by_one_of_two_extras(
    metadata: importlib.metadata.PackageMetadata, requirements: list[Requirement]
) -> None:
    """A plain dependency on either would be built or installed next to the other."""
    assert set(metadata.get_all("Provides-Extra", [])) >= {"gdal", "gdal-wheel"}
    by_extra = {
        (str(requirement.marker), requirement.name.lower()) for requirement in requirements if requirement.marker
    }
    with_gdal = {(extra, name) for extra, name in by_extra if "gdal" in name}
    assert with_gdal == {('extra == "gdal"', "gdal"), ('extra == "gdal-wheel"', "gdal-wheel")}


def test_the_installed_package_is_this_checkouts(metadata: importlib.metadata.PackageMetadata) -> None:
    assert metadata["Name"] == "s2sr"
    assert metadata["Version"] == s2sr_core.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?\w+)?", s2sr_core.__version__)
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_metadata_is_that_of_pyproject(pins: dict[str, SpecifierSet], project: dict[str, Any]) -> None:
    """An environment older than pyproject.toml would make the other tests vain."""
    extras = project["project"]["optional-dependencies"].values()
    stated = map(Requirement, [*project["project"]["dependencies"], *itertools.chain(*extras)])
    assert pins == {requirement.name.lower(): requirement.specifier for requirement in stated}


def test_both_commands_are_installed() -> None:
    points = {point.name: point for point in importlib.metadata.entry_points(group="console_scripts")}
    assert points["s2sr-pipeline"].value == "s2sr_pipeline:main"
    assert points["s2sr-make-grid"].value == "make_grid:main"


@pytest.mark.parametrize("module", [s2sr_pipeline, make_grid])
def test_a_command_is_installed_and_says_what_its_module_says(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "argv", ["any", "--help"])
    with pytest.raises(SystemExit):
        module.main()
    installed = Path(sys.executable).with_name(module.PROG)
    done = subprocess.run([installed, "--help"], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == capsys.readouterr().out
    assert done.stdout.startswith(f"usage: {module.PROG} ")


def test_the_scripts_run_from_the_checkout() -> None:
    """``python make_grid.py``, as the specification has it."""
    done = subprocess.run([sys.executable, "make_grid.py"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        "s2sr-make-grid: bbox = '': is required; add --bbox, --out.\n",
    )


def test_the_wheel_holds_the_program_and_no_tests(project: dict[str, Any]) -> None:
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    assert sorted(wheel) == [
        "deployments",
        "flows",
        "make_grid.py",
        "s2sr",
        "s2sr_core",
        "s2sr_pipeline.py",
        "s2sr_sandbox",
        "tasks",
    ]
    for entry in wheel:
        assert (ROOT / entry).exists()


def test_the_source_distribution_holds_the_whole_checkout(project: dict[str, Any]) -> None:
    sdist = project["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"]
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: git cannot list its files")
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    tracked = {path.partition("/")[0] for path in listed.split("\0") if path}
    # Which hatchling adds by itself.
    assert sorted([*sdist, ".gitignore", "LICENSE", "README.md", "pyproject.toml"]) == sorted(tracked)


def test_the_licence_is_in_the_checkout_and_in_the_metadata(project: dict[str, Any]) -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert project["project"]["license-files"] == ["LICENSE"]


def test_warnings_are_errors_and_the_network_is_closed(project: dict[str, Any]) -> None:
    pytest_options = project["tool"]["pytest"]["ini_options"]
    assert pytest_options["filterwarnings"][0] == "error"
    assert "--disable-socket" in pytest_options["addopts"]
