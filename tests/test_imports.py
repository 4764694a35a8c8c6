"""The import rules of the design, held by reading every file, and by a process that imports all of s2sr_core."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = (
    "flows",
    "tasks",
    "s2sr",
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
    "s2sr": {"flows", "s2sr_core", "deployments"},
}
ORCHESTRATION = {"prefect", "prefect_dask", "dask", "distributed", "dask_jobqueue", "mpi4py"}

#: The packages and modules of the core, lowest first. Each may import itself and the lines before its own: what stands
#: on one line stands side by side, and neither knows of the other.
#:
#: A module at the top of the core stands as low as what it needs lets it. Errors, full disks, files, periods, progress
#: and the folder of a run know nothing of satellites. ``logs`` says what GDAL's environment is. ``fields`` (types of
#: parameters with their checks) knows SCL classes and tiles; ``parameters`` are those of a grid and of a run, which
#: every stage from the cells on is given. Doors into the program are on the last line: nothing in the core imports
#: them, and GDAL alone imports ``pixel_functions``.
ORDER = (
    (
        "account",
        "assigned_rank",
        "compiled",
        "disk_space",
        "errors",
        "garbage",
        "import_path",
        "installation",
        "periods",
        "proxies",
        "signature",
        "stopping",
    ),
    ("files", "progress", "signals", "user_folders"),
    ("workspace",),
    ("geo",),
    ("jpeg2000", "logs", "machine", "pixels"),
    ("products",),
    ("fields",),
    ("validation",),
    ("parameters",),
    ("cells", "run_context"),
    ("sources",),
    ("scenes",),
    ("engines", "selection"),
    ("composites",),
    ("outputs",),
    ("planning",),
    ("command_line", "doctor", "pixel_functions"),
)
#: Line of each package or module of the core in ``ORDER``.
HEIGHT = {name: height for height, names in enumerate(ORDER) for name in names}

FILES = sorted(path.relative_to(ROOT) for part in ALLOWED for path in (ROOT / part).rglob("*.py"))


def module_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = [module_of(path) for path in FILES]


def imported(source: str, package: str = "", *, types: bool = True) -> Iterator[str]:
    """The full names that a module imports, anywhere in it: at the top, in functions, for types, by importlib.

    Without ``types``, what stands under ``if TYPE_CHECKING:`` is left out.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree if types else _Run().visit(tree)):
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


class _Run(ast.NodeTransformer):
    """A module without what is imported for its types alone."""

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            return node.orelse
        return self.generic_visit(node)


def names_in(path: Path, *, types: bool = True) -> set[str]:
    """The full names that a file imports."""
    return set(imported((ROOT / path).read_text(encoding="utf-8"), ".".join(path.parts[:-1]), types=types))


def imports_of(path: Path) -> set[str]:
    """The first parts of what a file imports."""
    return {name.split(".")[0] for name in names_in(path)}


def modules_in(names: set[str]) -> set[str]:
    """The modules of the project that imported names are, or are in."""
    return {name if name in MODULES else name.rpartition(".")[0] for name in names} & set(MODULES)


def circle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules of a circle of imports, the first one again at the end; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


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
    to_run = {"a.b", "c.d.e", "f", "package.inner.sibling.h", "package.i", "j.k", "*"}
    assert set(imported(source, "package.inner", types=False)) == to_run
    assert set(imported(source, "package.inner")) == to_run | {"l.m"}


def test_there_is_something_to_read() -> None:
    assert {path.parts[0] for path in FILES} == set(ALLOWED)
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_one_way(path: Path) -> None:
    part = path.parts[0]
    assert imports_of(path) & set(OURS) <= ALLOWED[part] | {part}


CORE = [path for path in FILES if path.parts[0] == "s2sr_core"]


def test_every_package_of_the_core_has_its_place() -> None:
    inside = {module_of(path).split(".")[1] for path in CORE if module_of(path) != "s2sr_core"}
    assert inside <= set(HEIGHT)
    assert set(HEIGHT) - inside <= {"fields", "validation"}  # on their way out of parameters


@pytest.mark.parametrize("path", [path for path in CORE if path != Path("s2sr_core/__init__.py")], ids=str)
def test_imports_inside_the_core_go_down(path: Path) -> None:
    """Also those of types: a type is something to know of."""
    here = module_of(path).split(".")[1]
    used = {name.split(".")[1] for name in modules_in(names_in(path)) if name.startswith("s2sr_core.")}
    assert {name for name in used - {here} if HEIGHT[name] >= HEIGHT[here]} == set()


def test_no_module_of_the_core_imports_a_door() -> None:
    doors = {f"s2sr_core.{name}" for name in ORDER[-1]}
    assert [path for path in CORE if (modules_in(names_in(path)) - {module_of(path)}) & doors] == []


def test_no_imports_go_in_a_circle() -> None:
    """Inside functions neither: a circle there breaks only later. What is imported for types alone is never run."""
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}) in (["a", "c", "b", "a"], ["a", "b", "c", "a"])
    graph = {module_of(path): modules_in(names_in(path, types=False)) - {module_of(path)} for path in FILES}
    assert circle_in(graph) == []


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
