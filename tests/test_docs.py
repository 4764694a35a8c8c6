"""What the documentation says is there, is there; and what is there, it says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import shapely
import yaml
from support.scenes import judge, parameters_for, product_name, run, write_scene

import make_grid
import s2sr_core
import s2sr_pipeline
from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites import composite
from s2sr_core.errors import Step
from s2sr_core.fields import Group, group_of
from s2sr_core.outputs import indices
from s2sr_core.outputs.summary import Summary
from s2sr_core.parameters import RunParameters
from s2sr_core.run_context import RunContext
from s2sr_core.selection import candidates as selection
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid

ROOT = Path(__file__).resolve().parents[1]
ABOVE = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = sorted([*ABOVE, *(ROOT / "docs").rglob("*.md")])
BANDS = ("B04", "B11")
_PARTS = ("benchmarks", "deployments", "docs", "flows", "s2sr", "s2sr_core", "s2sr_sandbox", "tasks", "tests")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z_-]*")
_HEADING = re.compile(r"^(#+) +(.+?) *$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """From the heading ``title`` to the next heading of its level or above."""
    prose = _FENCE.sub(lambda fence: re.sub(r"^#", " ", fence[0], flags=re.MULTILINE), text)
    headings = list(_HEADING.finditer(prose))
    (begin,) = (heading for heading in headings if heading[2] == title)
    after = (h.start() for h in headings if h.start() > begin.start() and len(h[1]) <= len(begin[1]))
    return text[begin.end() : next(after, len(text))]


# --------------------------------------------------------------------------------------------------------- options


def options(text: str) -> set[str]:
    return {option.replace("_", "-") for option in _OPTION.findall(text)}


def helped(main: Callable[[], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> set[str]:
    """The options that ``--help`` names."""
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr(sys, "argv", ["program", "--help"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    return options(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("program", "main"), [("s2sr-pipeline", s2sr_pipeline.main), ("s2sr-make-grid", make_grid.main)]
)
def test_the_options_of_a_program_are_those_of_its_section(
    program: str, main: Callable[[], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = helped(main, monkeypatch, capsys)
    tables = [line for line in section(page("command-line.md"), program).splitlines() if line.startswith("| `-")]
    told = [options(line.split("|")[1]) for line in tables]
    assert set().union(*told) == there
    assert sum(map(len, told)) == len(there), "an option stands in two rows"


def test_the_tables_of_the_pipeline_are_the_groups_of_its_parameters() -> None:
    """In the order of the groups and of their fields, as ``--help`` and Prefect's form have them."""
    text = section(page("command-line.md"), "s2sr-pipeline")
    for group in Group:
        tables = [line for line in section(text, group.capitalize()).splitlines() if line.startswith("| `-")]
        fields = [name for name, field in RunParameters.model_fields.items() if group_of(field) == group]
        first = [_OPTION.findall(line)[0].removeprefix("--").replace("-", "_") for line in tables]
        assert first == fields
    titles = [heading[2] for heading in _HEADING.finditer(text) if heading[2].lower() in [*Group]]
    assert titles == [group.capitalize() for group in Group]


def test_no_option_is_made_up(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    there = helped(s2sr_pipeline.main, monkeypatch, capsys) | helped(make_grid.main, monkeypatch, capsys)
    # --x and --no-x stand for any switch.
    assert options(page("command-line.md")) - there == {"--x", "--no-x"}
    for name in ("concepts.md", "outputs.md"):
        assert options(page(name)) <= there, name


# ----------------------------------------------------------------------------------------------------------- links


def links(text: str) -> Iterator[str]:
    prose = re.sub(r"`[^`\n]+`", "", _FENCE.sub("", text))
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:", target):
            yield unquote(target)


def anchors(text: str) -> set[str]:
    """What GitHub makes of headings: small letters, no punctuation, blanks as dashes."""
    titles = (heading[2].replace("`", "").lower() for heading in _HEADING.finditer(_FENCE.sub("", text)))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_resolves(path: Path) -> None:
    for link in links(path.read_text(encoding="utf-8")):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_of_the_repository_exists(path: Path) -> None:
    """Prose names modules and tests by their paths, such as ``s2sr_core/geo``."""
    named = re.findall(rf"`((?:{'|'.join(_PARTS)})/[\w./-]*)`", _FENCE.sub("", path.read_text(encoding="utf-8")))
    missing = [name for name in named if not (ROOT / name).exists() and not name.startswith("benchmarks/work/")]
    assert missing == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        path = ahead.pop()
        if path not in reached:
            reached.add(path)
            targets = ((path.parent / link.partition("#")[0]).resolve() for link in links(path.read_text("utf-8")))
            ahead += [target for target in targets if target.suffix == ".md"]
    assert reached >= set(PAGES)


# --------------------------------------------------------------------------------------------------------- outputs


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The folder of a small run that has everything: composites, counts, a product and a composite that failed."""
    folder = tmp_path_factory.mktemp("docs")
    rng, grid = np.random.default_rng(0), Grid.utm(-149.6, 68.63, 60, zone=5)
    write_scene(folder / "archive", product_name(), grid, rng, BANDS)
    (folder / "archive" / "nonsense.SAFE").mkdir()
    cells = [
        Gridcell("a", shapely.box(-149.605, 68.625, -149.60, 68.63)),
        Gridcell("smaller-than-a-pixel", shapely.box(-149.60001, 68.63, -149.60, 68.63001)),
    ]
    parameters = parameters_for(folder, folder / "archive", cells, bands=list(BANDS), count=True)
    made = Workspace(parameters.work_dir)
    results = judge(parameters)
    candidates = [result.candidate for result in results]
    preparations = [result.preparation for result in results if result.preparation is not None]
    outcomes = list(run(parameters).values())
    summary = Summary.of(len(cells), candidates, preparations, outcomes)
    made.indices.mkdir(exist_ok=True)
    write_gridcells(cells, made.selected_gridcells)
    indices.write_scene_index(made.scene_index, results, parameters.bands)
    indices.write_phase1_errors(made.phase1_errors, results)
    indices.write_phase2_errors(made.phase2_errors, outcomes)
    indices.update_composite_index(RunContext(parameters), outcomes)
    indices.write_run_record(RunContext(parameters), summary.as_record(), [])
    return made


def documented(title: str) -> list[str]:
    """The names in the first column of the tables of a section of docs/outputs.md, ``offset_<band>`` for each band."""
    rows = (line for line in section(page("outputs.md"), title).splitlines() if line.startswith("| `"))
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    return [each for name in names for each in ([name.replace("<band>", b) for b in BANDS] if "<" in name else [name])]


@pytest.mark.parametrize(
    "table",
    [
        "indices/selected_gridcells.csv",
        "indices/scene_index.csv",
        "indices/composite_index.csv",
        "indices/phase1_errors.csv",
        "logs/phase2_errors.csv",
    ],
)
def test_the_columns_of_a_table_are_those_written(workspace: Workspace, table: str) -> None:
    assert list(pd.read_csv(workspace.work_dir / table).columns) == documented(table)


def test_no_table_goes_unmentioned(workspace: Workspace) -> None:
    for path in [*workspace.indices.iterdir(), *workspace.logs.glob("*.csv")]:
        assert path.name in page("outputs.md"), path.name


def test_the_keys_of_the_records_are_those_written(workspace: Workspace) -> None:
    record: Mapping[str, Any] = json.loads(workspace.record("a", "B04").read_text(encoding="utf-8"))
    keys = [*record, *record["inputs"]]
    assert sorted(documented("The record of a composite")) == sorted(keys)
    nested = {*record["pixels"], *record["inputs"]["lattice"], *record["inputs"]["scenes"][0]} - {"B04"}
    told = set(re.findall(r"`([^`]+)`", section(page("outputs.md"), "The record of a composite")))
    assert nested <= told
    run_record = json.loads(workspace.run_record.read_text(encoding="utf-8"))
    assert sorted(documented("The record of a run")) == sorted(run_record)


@pytest.mark.parametrize(
    ("title", "status", "elsewhere"),
    [
        ("indices/scene_index.csv", selection.Status, {"offline"}),  # of a catalogue, never of a folder
        ("indices/composite_index.csv", composite.Status, {"postponed"}),
    ],
)
def test_what_can_become_of_products_and_composites_is_told(title: str, status: object, elsewhere: set[str]) -> None:
    (row,) = (line for line in section(page("outputs.md"), title).splitlines() if line.startswith("| `status`"))
    assert set(re.findall(r"`([^`]+)`", row)) - {"status"} == set(get_args(status)) - elsewhere


def test_every_step_that_can_fail_is_documented() -> None:
    rows = re.findall(r"^\| `step` \| (.+) \|$", page("outputs.md"), re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`([^`]+)`", row)) == sorted(Step)


def test_the_progress_of_every_kind_of_unit_is_documented() -> None:
    """Titles of groups of task runs become keys of artifacts."""
    titles = re.findall(r"""\.group\(\s*"([^"]+)\"""", (ROOT / "flows" / "dataflow.py").read_text(encoding="utf-8"))
    (row,) = (line for line in page("service.md").splitlines() if line.startswith("| `scl`,"))
    documented = re.findall(r"`([^`]+)`", row.split("|")[1])
    assert documented == [title.lower().replace(" ", "-") for title in titles]


# ------------------------------------------------------------------------------------------------------------ the site


class _Lenient(yaml.SafeLoader):
    """mkdocs.yml names a Python function, which SafeLoader refuses."""


_Lenient.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


def pages_named(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for entry in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from pages_named(entry)


def test_the_site_names_every_page() -> None:
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=_Lenient)
    named = sorted(pages_named(config["nav"]))
    below = {str(path.relative_to(ROOT / "docs")) for path in PAGES if path not in ABOVE} - {"images/README.md"}
    assert named == sorted(below | {"index.md", "images.md", "changelog.md", "contributing.md", "security.md", "api"})


@pytest.mark.slow
def test_the_site_builds_strictly_and_needs_no_other_host(tmp_path: Path) -> None:
    made = subprocess.run(
        ["make", "docs", f"SITE={tmp_path}"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert made.returncode == 0, made.stdout + made.stderr
    built = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.html")}
    modules = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "s2sr_core").rglob("*.py")]
    for module in modules:
        name = module.with_name("index") if module.name == "__init__" else module
        assert f"api/{name}.html" in built
    for path in tmp_path.rglob("*.html"):
        fetched = re.findall(
            r"""<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""", path.read_text()
        )
        assert fetched == [], path


# ------------------------------------------------------------------------------------------- the project's other files


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation), "the schema's required keys"
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert citation["version"] == s2sr_core.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["license"] == project["license"]
    assert citation["repository-code"] == project["urls"]["Source"]
    assert citation["keywords"] == project["keywords"]


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    helped = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^make (\S+) +\S", helped, re.MULTILINE) == phony.split()


def test_pre_commit_runs_the_tools_of_make_lint() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert {hook["language"] for hook in hooks} == {"system"}, "the locked tools, nothing fetched"
    recipe = re.search(r"^lint:.*\n((?:\t.+\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert recipe is not None
    tools = [line.split()[0].replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    assert [hook["entry"].split()[0] for hook in hooks] == tools
