"""The import rules of the design, held by reading every file, and by a process that imports all of s2sr_core."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = (
    "flows",
    "tasks",
    "s2sr_core",
    "s2sr_sandbox",
    "deployments",
    "s2sr_pipeline",
    "make_grid",
    "tests",
    "benchmarks",
)
#: What each part may import of the project, besides itself.
ALLOWED = {
    "s2sr_core": set(),
    "tasks": {"s2sr_core"},
    "deployments": {"s2sr_core", "s2sr_sandbox"},  # the sandbox: demo and serve alone
    "s2sr_sandbox": {"s2sr_core"},
    "flows": {"tasks", "s2sr_core", "deployments"},
}
ORCHESTRATION = {"prefect", "prefect_dask", "dask", "distributed", "dask_jobqueue", "mpi4py"}

FILES = sorted(path.relative_to(ROOT) for part in ALLOWED for path in (ROOT / part).rglob("*.py"))
MODULES = [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in FILES]


def imported(source: str, package: str = "") -> Iterator[str]:
    """The full names that a module imports, anywhere in it: at the top, in functions, for types, by importlib."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            argument = node.args[0]
            yield argument.value if isinstance(argument, ast.Constant) else "*"


def imports_of(path: Path) -> set[str]:
    """The first parts of what a file imports."""
    names = imported((ROOT / path).read_text(encoding="utf-8"), ".".join(path.parts[:-1]))
    return {name.split(".")[0] for name in names}


def test_the_reader_sees_every_kind_of_import() -> None:
    source = """
import a.b
from c.d import e
def function():
    import f as g
    from .sibling import h
    from .. import i
    importlib.import_module("j.k")
    __import__(name)
if TYPE_CHECKING:
    from l import m
"""
    assert set(imported(source, "package.inner")) == {
        "a.b", "c.d.e", "f", "package.inner.sibling.h", "package.i", "j.k", "*", "l.m"
    }  # fmt: skip


def test_there_is_something_to_read() -> None:
    assert {path.parts[0] for path in FILES} == set(ALLOWED)
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_one_way(path: Path) -> None:
    part = path.parts[0]
    assert imports_of(path) & set(OURS) <= ALLOWED[part] | {part}


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "s2sr_core"], ids=str)
def test_the_core_knows_nothing_of_orchestration(path: Path) -> None:
    assert not imports_of(path) & ORCHESTRATION


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] == "deployments"], ids=str)
def test_where_it_runs_knows_nothing_of_what_runs(path: Path) -> None:
    assert not imports_of(path) & {"flows", "tasks"}


def test_no_module_of_the_program_imports_tests_or_benchmarks() -> None:
    for path in (*FILES, Path("s2sr_pipeline.py"), Path("make_grid.py")):
        assert not imports_of(path) & {"tests", "benchmarks"}, path


@pytest.mark.parametrize("name", ["engine_run", "floor_run", "plan_run", "workload"])
def test_what_is_measured_is_the_core(name: str) -> None:
    """These benchmarks call the core as the tasks do, and make their products by the sandbox; no orchestration."""
    used = imports_of(Path("benchmarks", f"{name}.py"))
    assert used & set(OURS) in ({"benchmarks", "s2sr_core"}, {"benchmarks", "s2sr_core", "s2sr_sandbox"})
    assert not used & ORCHESTRATION


def test_the_program_does_not_lean_on_the_sandbox() -> None:
    """Only the sandbox itself, the demo, the service to try and the benchmarks (none of ``FILES``) import the maker."""
    for path in (*FILES, Path("s2sr_pipeline.py"), Path("make_grid.py")):
        if path.parts[0] != "s2sr_sandbox" and path not in (
            Path("deployments/demo.py"),
            Path("deployments/serve.py"),
        ):
            source = (ROOT / path).read_text(encoding="utf-8")
            names = imported(source, ".".join(path.parts[:-1]))
            assert not any(name.startswith("s2sr_sandbox") for name in names), path


def test_importing_all_of_the_core_imports_neither_prefect_nor_dask() -> None:
    """Not even by way of another package."""
    modules = [name for name in MODULES if name.split(".")[0] == "s2sr_core" and not name.endswith("__main__")]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n    importlib.import_module(name)\n"
        f"print(sorted({ORCHESTRATION!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_a_command_line_that_only_explains_itself_imports_no_orchestration() -> None:
    """``--help`` and bad input answer at once."""
    code = f"import sys, s2sr_pipeline, make_grid; print(sorted({ORCHESTRATION!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
