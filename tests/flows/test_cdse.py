"""The pipeline from a sandbox CDSE: what is asked of it, what comes of it, and what never leaves this machine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency
from support.scenes import break_tiles, parameters_for, pixels, run
from support.waiting import DEADLINE, until

from deployments.server import limits
from flows.pipeline import pipeline
from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.files import read_record
from s2sr_core.outputs.explain import explain
from s2sr_core.outputs.summary import Summary
from s2sr_core.parameters import RunParameters
from s2sr_core.sources.cdse import client
from s2sr_core.sources.cdse.settings import Credentials
from s2sr_core.workspace import Workspace
from s2sr_sandbox.archive import make_archive
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.server import Fault, Sandbox, SandboxSettings, running

workers_here = pytest.mark.usefixtures("workers_here")
quick = pytest.mark.usefixtures("workers_here", "short_pauses")
ROOT = Path(__file__).resolve().parents[2]
CELLS = [
    Gridcell("a", shapely.box(-149.61, 68.626, -149.60, 68.634)),
    Gridcell("b", shapely.box(-149.60, 68.626, -149.59, 68.634)),
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine products of six dates: a reprocessed duplicate, a split pair and twins among them."""
    folder = tmp_path_factory.mktemp("cdse")
    make_archive(folder, Grid.utm(-149.6, 68.63, 80), seed=3, bands=["B03", "B04"])
    return folder


@pytest.fixture
def sandbox(archive: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Sandbox]:
    with running(archive, SandboxSettings(connections=2, ranges=True)) as server:
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        yield server


def parameters(tmp_path: Path, *, source: Path | None = None, **changes: Any) -> RunParameters:
    period = {"start": "2019-06-01", "end": "2025-01-01"}
    return parameters_for(tmp_path, source, CELLS, **(period | {"workers": 1, "download_connections": 2} | changes))


def go(chosen: RunParameters) -> State:
    return pipeline(**dict(chosen), return_state=True)


def values(sandbox: Sandbox) -> list[str]:
    return [request.path for request in sandbox.byte_requests()]


def test_from_the_catalogue_to_composites_and_again_without_a_byte(
    tmp_path: Path, archive: Path, sandbox: Sandbox, capfd: pytest.CaptureFixture[str]
) -> None:
    chosen = parameters(tmp_path)
    state = go(chosen)
    assert state.is_completed(), state.message
    workspace = Workspace(chosen.work_dir)
    manifest = pd.read_csv(workspace.query_manifest, keep_default_na=False).set_index("product")
    assert manifest["status"].value_counts().to_dict() == {"selected": 6, "not needed": 1, "duplicate": 1, "twin": 1}
    not_needed = manifest[manifest["status"] == "not needed"]
    assert not_needed["reason"].tolist() == ["SCL leaves none of its pixels unmasked in the selected gridcells"]
    (missing,) = (archive / f"{not_needed.index[0]}.SAFE").rglob("*_B04_20m.jp2")
    assert not_needed["bytes_saved"].astype(int).tolist() == [missing.stat().st_size]
    assert f"1 scene not needed (masked by SCL), {missing.stat().st_size / 1e6:.1f} MB saved" in str(state.message)
    assert not [path for path in values(sandbox) if not_needed.index[0] in path and "_B04_" in path]
    kinds = ["B04" if "_B04_" in path else "SCL" for path in values(sandbox)]
    assert kinds.index("B04") > len(kinds) - 1 - kinds[::-1].index("SCL")  # SCL of all, then the first band
    assert sandbox.connections_high_water <= 2
    assert sandbox.logins == 1
    assert sorted(path.name for path in workspace.imagery_raw.glob("*.SAFE")) == sorted(
        f"{name}.SAFE" for name in manifest.index[manifest["status"].isin(["selected", "not needed"])]
    )
    from_archive = run(chosen.model_copy(update={"source": archive, "work_dir": tmp_path / "archive run"}))
    for (cell_id, band), outcome in from_archive.items():
        assert outcome.scenes == 7
        assert np.array_equal(pixels(workspace.composite(cell_id, band)), pixels(outcome.path))
        record = read_record(workspace.record(cell_id, band))
        plain = read_record(Workspace(tmp_path / "archive run").record(cell_id, band))
        assert record is not None
        assert plain is not None
        assert record["key"] == plain["key"]  # of a run that downloads every band
        assert record["not_needed"] == not_needed.index.tolist()

    sandbox.clear_requests()
    again = go(chosen).result()
    assert isinstance(again, Summary)
    assert (again.kept, again.downloaded) == (2, 0)
    assert [request.host for request in sandbox.requests] == ["catalogue"] * 6  # years

    password = sandbox.settings.password.get_secret_value()
    token = client._tokens(client.endpoints(), Credentials.from_environment()).token()
    with get_client(sync_client=True) as api:
        known = [run.model_dump_json() for run in (*api.read_flow_runs(), *api.read_task_runs())]
    written = [path.read_bytes().decode("latin-1") for path in chosen.work_dir.rglob("*") if path.is_file()]
    printed = "".join(capfd.readouterr())
    for secret in (password, token):
        assert not [text for text in (*known, *written, printed) if secret in text]


@quick
def test_each_stage_runs_alone_and_composite_needs_no_network(tmp_path: Path, sandbox: Sandbox) -> None:
    chosen = parameters(tmp_path)
    workspace = Workspace(chosen.work_dir)
    missing = go(chosen.model_copy(update={"stage": "download"}))
    assert str(missing.message).startswith("stage = 'download': finds no")

    state = go(chosen.model_copy(update={"stage": "query"}))
    assert str(state.message) == "9 products found, 7 selected"
    assert workspace.query_manifest.exists()
    assert values(sandbox) == []

    state = go(chosen.model_copy(update={"stage": "download"}))
    assert "MB downloaded" in str(state.message)
    assert len(list(workspace.imagery_raw.glob("*.SAFE"))) == 7
    assert len(list(workspace.imagery_raw.rglob("*_B04_20m.jp2"))) == 6
    assert not list(workspace.composites.iterdir())
    statuses = pd.read_csv(workspace.scene_index)["status"].tolist()
    assert (statuses.count("selected"), statuses.count("not needed")) == (6, 1)

    sandbox.clear_requests()
    state = go(chosen.model_copy(update={"stage": "composite"}))
    assert state.name == "Completed"
    assert sandbox.requests == []
    assert workspace.composite("a", "B04").exists()
    index = pd.read_csv(workspace.scene_index, keep_default_na=False).set_index("status")
    assert index.loc["selected", "reason"].tolist() == [""] * 6
    assert index.loc["not needed", "reason"] == "SCL leaves none of its pixels unmasked in the selected gridcells"
    assert index.loc["not needed", "band_files"].count("=") == 1


@quick
def test_bands_come_when_a_later_run_needs_them_and_what_is_there_is_not_asked_for_again(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    """The northern cell sees neither part of the split pair; the southern one sees one; without scl_first all come."""
    north = Gridcell("north", shapely.box(-149.605, 68.628, -149.595, 68.634))
    south = Gridcell("south", shapely.box(-149.61, 68.624, -149.60, 68.627))
    chosen = parameters(tmp_path, bbox=(-149.7, 68.6, -149.5, 68.7))
    workspace = Workspace(chosen.work_dir)
    steps: list[tuple[list[Gridcell], dict[str, Any], int, int, int]] = [
        ([north], {}, 2, 5, 1),
        ([north, south], {}, 1, 1, 1),
        ([north, south], {"scl_first": False}, 0, 1, 0),
        ([north, south], {}, 1, 0, 0),
    ]
    for cells, changes, not_needed, bands, written in steps:
        write_gridcells(cells, chosen.grid_csv)
        sandbox.clear_requests()
        summary = go(chosen.model_copy(update=changes)).result()
        assert isinstance(summary, Summary)
        asked = values(sandbox)
        assert len([path for path in asked if "_B04_" in path]) == bands
        assert len(asked) - bands in (21, 0)  # manifest, metadata and SCL of seven, in the first run alone
        assert (summary.not_needed, summary.written, summary.kept) == (not_needed, written, len(cells) - written)
        statuses = pd.read_csv(workspace.query_manifest)["status"].tolist()
        assert (statuses.count("not needed"), statuses.count("selected")) == (not_needed, 7 - not_needed)


@workers_here
def test_a_cell_is_composited_while_products_of_another_are_under_way(
    tmp_path: Path, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No band of the eastern place can be had before the western cell has its composite."""
    folder = tmp_path_factory.mktemp("places")
    for number, longitude in enumerate((-149.6, -140.6)):
        make_archive(folder, Grid.utm(longitude, 68.63, 60), dates=1, seed=number, bands=["B04"])
    cells = [Gridcell(name, shapely.box(x, 68.628, x + 0.01, 68.632)) for name, x in (("w", -149.6), ("e", -140.6))]
    chosen = parameters(tmp_path, bbox=(-150, 68, -140, 69))
    write_gridcells(cells, chosen.grid_csv)
    workspace = Workspace(chosen.work_dir)
    with running(folder, SandboxSettings(connections=2)) as server:
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        eastern = next(path.name.split("_")[5] for path in folder.iterdir() if not path.name.count("_T06"))
        server.faults.add(Fault.error(f"_{eastern}_.*_B04_", 503, "", "not yet", host="download"))
        stopped = threading.Event()

        def let_go() -> None:
            while not stopped.wait(0.1):
                if workspace.record("w", "B04").exists():
                    server.faults.clear()

        watcher = threading.Thread(target=let_go)
        watcher.start()
        try:
            state = go(chosen)
        finally:
            stopped.set()
            watcher.join()
        refused = [request for request in server.byte_requests() if request.status == 503]
    assert state.name == "Completed", state.message
    assert refused
    assert workspace.record("e", "B04").exists()


@quick
def test_a_product_that_cannot_be_had_is_recorded_and_the_rest_goes_on(
    tmp_path: Path, archive: Path, sandbox: Sandbox
) -> None:
    chosen = parameters(tmp_path)
    gone, broken = sorted(path.name for path in archive.iterdir() if "_20190706T" in path.name or "_2024" in path.name)
    sandbox.faults.add(Fault.error(gone, 404, "", "not found", host="download"))
    sandbox.faults.add(Fault.error(f"{broken}.*B04", 403, "DAT-ZIP-608", "forbidden", host="download"))
    state = go(chosen)
    assert state.is_completed()
    assert state.name == "Completed with 2 failures"
    errors = pd.read_csv(Workspace(chosen.work_dir).phase1_errors).set_index("product")
    assert errors["step"].tolist() == ["download", "download"]
    assert "deleted or replaced since the query" in errors.loc[gone.removesuffix(".SAFE"), "reason"]
    assert "DAT-ZIP-608" in errors.loc[broken.removesuffix(".SAFE"), "reason"]
    index = pd.read_csv(Workspace(chosen.work_dir).composite_index)
    assert index["scenes"].tolist() == [5, 5]


def preferred_of(archive: Path) -> list[str]:
    """The reprocessed one of two baselines, and the later one of the twins."""
    paths = [max(archive.glob(pattern), key=lambda path: path.name) for pattern in ("*_N0500_*", "*_MSIL2A_2023*")]
    return [path.name.removesuffix(".SAFE") for path in paths]


def without(archive: Path, names: list[str], folder: Path) -> Path:
    shutil.copytree(archive, folder, ignore=shutil.ignore_patterns(*(f"{name}.SAFE" for name in names)))
    return folder


def assert_like(chosen: RunParameters, archive: Path, work_dir: Path) -> None:
    """Pixels and keys of the composites are those of a run over ``archive``."""
    workspace = Workspace(chosen.work_dir)
    for (cell_id, band), outcome in run(chosen.model_copy(update={"source": archive, "work_dir": work_dir})).items():
        assert np.array_equal(pixels(workspace.composite(cell_id, band)), pixels(outcome.path))
        record, plain = (read_record(each.record(cell_id, band)) for each in (workspace, Workspace(work_dir)))
        assert record is not None
        assert plain is not None
        assert record["key"] == plain["key"]


@quick
def test_products_that_cannot_be_had_are_replaced_by_those_that_repeat_them(
    tmp_path: Path, archive: Path, sandbox: Sandbox
) -> None:
    """One is gone altogether, of the other a band is; once they can be had, they are used."""
    chosen = parameters(tmp_path)
    workspace = Workspace(chosen.work_dir)
    gone, broken = preferred_of(archive)
    sandbox.faults.add(Fault.error(gone, 404, "", "not found", host="download"))
    sandbox.faults.add(Fault.error(f"{broken}.*B04", 403, "DAT-ZIP-608", "forbidden", host="download"))
    state = go(chosen)
    assert state.name == "Completed", state.message
    assert str(state.message).endswith("2 unusable products replaced by others")
    index = pd.read_csv(workspace.scene_index, keep_default_na=False).set_index("product")
    assert index.loc[[gone, broken], "status"].tolist() == ["failed", "failed"]
    assert "deleted or replaced since the query" in index.loc[gone, "reason"]
    assert "DAT-ZIP-608" in index.loc[broken, "reason"]
    reasons = {name: reason for name, reason in index["reason"].items() if "is used instead of" in reason}
    assert sorted(reasons.values()) == sorted(
        f"is used instead of {name}, which cannot be used" for name in (gone, broken)
    )
    assert index.loc[list(reasons), "status"].tolist() == ["selected", "selected"]
    assert sorted(pd.read_csv(workspace.phase1_errors)["product"]) == sorted([gone, broken])
    assert_like(chosen, without(archive, [gone, broken], tmp_path / "without"), tmp_path / "plain")
    record = read_record(workspace.run_record)
    assert record is not None
    summary = {key: record["summary"][key] for key in ("selected", "failed_products", "replaced_products", "failed")}
    assert summary == {"selected": 7, "failed_products": 0, "replaced_products": 2, "failed": 0}
    explained = explain(chosen, -149.605, 68.63)
    verdicts = {scene.product: scene.verdict for scene in explained.bands[0].scenes}
    assert explained.is_equal
    assert [verdicts[name] for name in (gone, broken)] == ["failed", "failed"]
    assert {verdicts[name] for name in reasons} <= {"used", "masked", "nodata"}

    again = go(chosen).result()
    assert isinstance(again, Summary)
    assert (again.kept, again.written, again.replaced_products) == (2, 0, 2)
    sandbox.faults.clear()
    repaired = go(chosen).result()
    assert isinstance(repaired, Summary)
    assert (repaired.kept, repaired.written, repaired.replaced_products) == (0, 2, 0)
    assert_like(chosen, archive, tmp_path / "whole")


@quick
def test_the_download_stage_replaces_what_cannot_be_had_and_the_next_stage_uses_it(
    tmp_path: Path, archive: Path, sandbox: Sandbox
) -> None:
    """Without SCL first; and both halves of the split pair say that they show the whole tile."""
    chosen = parameters(tmp_path, scl_first=False)
    workspace = Workspace(chosen.work_dir)
    gone, broken = preferred_of(archive)
    go(chosen.model_copy(update={"stage": "query"}))
    manifest = pd.read_csv(workspace.query_manifest, keep_default_na=False, dtype=str).set_index("product")
    early, late = sorted(path.name.removesuffix(".SAFE") for path in archive.glob("*_MSIL2A_2022*"))
    assert manifest.loc[[early, late], "status"].tolist() == ["selected", "selected"]
    manifest.loc[[early, late], "footprint"] = manifest.loc[gone, "footprint"]
    manifest.loc[early, ["status", "reason"]] = "twin", f"{late} is preferred and covers it"
    manifest.to_csv(workspace.query_manifest)
    sandbox.faults.add(Fault.error(f"{gone}.*SCL", 404, "", "not found", host="download"))
    sandbox.faults.add(Fault.error(f"{broken}.*B04", 403, "DAT-ZIP-608", "forbidden", host="download"))
    state = go(chosen.model_copy(update={"stage": "download"}))
    assert state.name == "Completed", state.message
    assert len(list(workspace.imagery_raw.rglob("*_B04_20m.jp2"))) == 7
    state = go(chosen.model_copy(update={"stage": "composite"}))
    assert state.name == "Completed", state.message
    assert_like(chosen, without(archive, [gone, broken], tmp_path / "without"), tmp_path / "plain")


def spoil(product: Path, band: str, damage: Callable[[Path], object] | None = None) -> None:
    """Damage a band's image, or put something else in its place; the manifest vouches for what is there."""
    (path,) = product.rglob(f"*_{band}_20m.jp2")
    old = path.read_bytes()
    if damage is None:
        path.write_bytes(b"not an image, but whole")
    else:
        damage(path)
    new = path.read_bytes()
    manifest = product / "manifest.safe"
    text = manifest.read_text()
    for name in ("md5", "sha3_256"):
        before = hashlib.new(name, old).hexdigest()
        for spelt in (before, before.upper()):
            text = text.replace(spelt, hashlib.new(name, new).hexdigest())
    manifest.write_text(text.replace(f'size="{len(old)}"', f'size="{len(new)}"'))


@quick
def test_a_product_that_phase_1_refuses_is_replaced_after_its_download(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    """A band of the later twin is no image. The reprocessed product has no band, nor has what it repeats."""
    changed = without(archive, [], tmp_path / "changed")
    duplicate, twin = preferred_of(archive)
    (older,) = (path.stem for path in archive.glob(f"{duplicate[:26]}_*") if path.stem != duplicate)
    spoil(changed / f"{twin}.SAFE", "B04")
    for name in (duplicate, older):
        spoil(changed / f"{name}.SAFE", "B04")
    chosen = parameters(tmp_path, bands=["B03", "B04"])
    workspace = Workspace(chosen.work_dir)
    with running(changed, SandboxSettings(connections=2)) as server:
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        state = go(chosen)
    assert state.name == "Completed with 1 failure", state.message
    index = pd.read_csv(workspace.scene_index, keep_default_na=False).set_index("product")
    assert index.loc[[duplicate, twin, older.removesuffix(".SAFE")], "status"].tolist() == [
        "selected",
        "failed",
        "failed",
    ]
    assert index.loc[duplicate, "reason"].startswith("B04 ")
    summary = state.result()
    assert isinstance(summary, Summary)
    assert (summary.failed_products, summary.replaced_products) == (1, 2)
    for band, names in (("B03", [twin]), ("B04", [twin, duplicate, older])):
        plain = parameters(tmp_path, bands=[band], source=without(archive, names, tmp_path / band))
        for (cell_id, _), outcome in run(plain.model_copy(update={"work_dir": tmp_path / f"run {band}"})).items():
            assert np.array_equal(pixels(workspace.composite(cell_id, band)), pixels(outcome.path))


@quick
def test_what_turns_out_undecodable_in_phase_2_is_replaced_in_the_same_run(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older one was not downloaded until then; the next run makes the same choice, and downloads nothing."""
    changed = without(archive, [], tmp_path / "changed")
    newer, _ = preferred_of(archive)
    spoil(changed / f"{newer}.SAFE", "B04", lambda image: break_tiles(image, 0))
    chosen = parameters(tmp_path, bands=["B03", "B04"])
    workspace = Workspace(chosen.work_dir)
    with running(changed, SandboxSettings(connections=2)) as server:
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        states = [go(chosen), go(chosen)]
    assert [state.name for state in states] == ["Completed", "Completed"], states[0].message
    first, again = (state.result() for state in states)
    assert isinstance(first, Summary)
    assert isinstance(again, Summary)
    assert str(states[0].message).endswith("1 unusable product replaced by others")
    assert (first.written, first.failed_products, first.replaced_products) == (4, 0, 1)
    assert (again.kept, again.downloaded, again.replaced_products) == (4, 0, 1)
    index = pd.read_csv(workspace.scene_index, keep_default_na=False).set_index("product")
    assert "B04" in index.loc[newer, "reason"]
    assert "cannot be decoded" in index.loc[newer, "reason"]
    ((older, reason),) = ((name, reason) for name, reason in index["reason"].items() if "is used instead of" in reason)
    assert reason.endswith(f"is used instead of {newer} in B04 of 2 cells, where its image cannot be decoded")
    table = pd.read_csv(workspace.composite_index, keep_default_na=False).set_index(["cell_id", "band"])
    assert table.loc[("a", "B04"), "reason"].endswith(f"made with {older} instead")
    assert table.loc[("a", "B03"), "reason"] == ""
    assert pd.read_csv(workspace.phase1_errors)["product"].tolist() == [newer]
    for band, lost in (("B03", []), ("B04", [newer])):
        plain = parameters(tmp_path, bands=[band], source=without(archive, lost, tmp_path / band))
        for (cell_id, _), outcome in run(plain.model_copy(update={"work_dir": tmp_path / f"run {band}"})).items():
            assert np.array_equal(pixels(workspace.composite(cell_id, band)), pixels(outcome.path))
    explained = explain(chosen, -149.605, 68.63)
    assert explained.is_equal
    verdicts = [{scene.product: scene.verdict for scene in band.scenes} for band in explained.bands]
    assert [each[newer] == "failed" for each in verdicts] == [False, True]
    assert [each[older] == "repeated" for each in verdicts] == [True, False]


@quick
def test_the_download_stage_says_why_a_product_failed(tmp_path: Path, sandbox: Sandbox) -> None:
    chosen = parameters(tmp_path)
    go(chosen.model_copy(update={"stage": "query"}))
    sandbox.faults.add(Fault.error("manifest.safe", 404, "", "not found", host="download"))
    state = go(chosen.model_copy(update={"stage": "download"}))
    assert state.is_failed()
    assert "9 products failed" in str(state.message)
    errors = pd.read_csv(Workspace(chosen.work_dir).phase1_errors)
    assert len(errors) == 9
    assert errors["reason"].str.contains("deleted or replaced since the query").all()
    assert len(values(sandbox)) == 9  # a final answer is not asked for again


@quick
def test_a_refused_password_fails_with_one_sentence_after_one_try(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text("wrong\n")
    file.chmod(0o600)
    monkeypatch.setenv("CDSE_PASSWORD_FILE", str(file))
    state = go(parameters(tmp_path))
    assert state.is_failed()
    assert str(state.message).startswith("CDSE_USERNAME = 'sandbox': CDSE refused this name with its password (Invalid")
    assert sandbox.refusals == 1


@quick
def test_a_count_above_what_is_listed_is_noted_and_not_asked_for(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(archive, plans=["count-too-high", "slow-count"]) as server:
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        chosen = parameters(tmp_path)
        state = go(chosen.model_copy(update={"stage": "query"}))
        asked = [request.query for request in server.requests]
    assert (state.name, str(state.message)) == ("Completed", "9 products found, 7 selected")
    assert len(asked) == 6
    assert not [query for query in asked if "count" in query]
    log = Workspace(chosen.work_dir).log(0).read_text()
    assert log.count("which are used") == 6
    assert "lists 0, which are used" in log


@quick
def test_a_catalogue_that_refuses_fails_with_what_it_said(tmp_path: Path, sandbox: Sandbox) -> None:
    sandbox.faults.add(Fault.error("/Products", 400, "", "no such attribute", host="catalogue"))
    state = go(parameters(tmp_path, stage="query"))
    assert state.is_failed()
    assert "no such attribute" in str(state.message)


def command(tmp_path: Path, chosen: RunParameters) -> subprocess.Popen[str]:
    words = ["--bbox", *map(str, chosen.bbox), "--grid_csv", str(chosen.grid_csv), "--work_dir", str(chosen.work_dir)]
    words += ["--start", "2019-06-01", "--end", "2025-01-01", "--bands", "B04", "--tap", "--workers", "1"]
    words += ["--download_connections", "2", "--stage", "download"]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "s2sr_pipeline.py"), *words],
        env={**inherited, "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": os.environ["PREFECT_API_URL"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_an_interrupted_download_goes_on_where_it_stopped(
    tmp_path: Path, archive: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is killed while a file is under way; the next run asks for the rest of it and what is not there."""
    from prefect.settings import PREFECT_API_URL

    monkeypatch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
    chosen = parameters(tmp_path)
    go(chosen.model_copy(update={"stage": "query"}))
    sandbox.faults.add(Fault.stall("_N0511_.*B04", after=100, seconds=600))
    process = command(tmp_path, chosen)
    imagery = Workspace(chosen.work_dir).imagery_raw

    def all_but_one() -> bool:
        assert process.poll() is None, process.communicate()
        return len(list(imagery.rglob("*_B04_20m.jp2"))) == 5

    until(all_but_one)
    until(lambda: [part for part in imagery.rglob("*_B04_20m.jp2.*.part") if part.stat().st_size == 100])
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=DEADLINE)
    sandbox.faults.clear()
    there = {path.name for path in imagery.rglob("*") if path.is_file() and not path.name.startswith(".")}
    assert not [path for path in imagery.rglob("*N0511*/**/*_B04_20m.jp2") if not path.name.startswith(".")]
    sandbox.clear_requests()
    process = command(tmp_path, chosen)
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, output
    assert [request.range for request in sandbox.byte_requests() if request.status == 206] == ["bytes=100-"]
    assert not list(imagery.rglob("*.part"))
    asked = {path.rpartition("Nodes(")[2].partition(")")[0] for path in values(sandbox)}
    assert len(list(imagery.rglob("*_B04_20m.jp2"))) == 6
    assert 1 <= len(asked) <= 5
    assert not {name for name in asked if name.endswith(".jp2")} & there


def test_sigterm_ends_a_run_that_waits_for_the_download_host(
    tmp_path: Path, archive: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread waits for bytes that do not come for ten minutes, the other is told again and again to come later."""
    from prefect.settings import PREFECT_API_URL

    monkeypatch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
    chosen = parameters(tmp_path)
    go(chosen.model_copy(update={"stage": "query"}))
    sandbox.faults.add(Fault.stall("_N0511_.*B04_20m", after=100, seconds=600))
    sandbox.faults.add(Fault.error("_N0509_.*B04_20m", 429, retry_after=300))
    process = command(tmp_path, chosen)

    def both_wait() -> bool:
        assert process.poll() is None, process.communicate()
        asked = [path for path in values(sandbox) if "B04_20m" in path]
        return all(any(baseline in path for path in asked) for baseline in ("N0511", "N0509"))

    try:
        until(both_wait)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=DEADLINE)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, output
    assert output.splitlines()[-1].startswith("s2sr-pipeline: interrupted; "), output
    assert output.count("interrupted") == 1
    assert "Traceback" not in output


@quick
def test_a_run_downloads_only_while_it_holds_the_servers_slot(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run holds it first; until that lets it go, this one asks for no image."""
    asks, held = threading.Event(), threading.Event()
    order: list[str] = []
    too_early: list[Path] = []

    @contextlib.contextmanager
    def asking(*names: Any, **options: Any) -> Iterator[None]:
        asks.set()
        with concurrency(*names, **options):  # an attempt ends without the slot
            order.append("this run")
            yield

    def hold() -> None:
        with concurrency("cdse", strict=True):
            held.set()
            assert asks.wait(DEADLINE)
            too_early.extend(tmp_path.rglob("imagery_raw/**/*.jp2"))
            order.append("the other")

    monkeypatch.setattr(limits, "concurrency", asking)
    with get_client(sync_client=True) as api:
        api.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name="cdse", limit=1))
        try:
            other = threading.Thread(target=hold)
            other.start()
            assert held.wait(DEADLINE)
            run_parameters = parameters(tmp_path)
            state = go(run_parameters)
            other.join()
            limit = api.read_global_concurrency_limit_by_name("cdse")
        finally:
            api.delete_global_concurrency_limit_by_name("cdse")
    assert too_early == []
    assert order == ["the other", "this run"]
    assert state.is_completed(), state.message
    assert list(Workspace(run_parameters.work_dir).imagery_raw.rglob("*.jp2"))
    assert limit.active_slots == 0
