"""Runs that download the tiles that count: the composites are those of whole images, whoever looks at them later."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prefect import State
from support.scenes import parameters_for, pixels, prepare, run
from support.tiled import cell_around, tiles_of, write_tiled

from flows.pipeline import pipeline
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.outputs.explain import explain
from s2sr_core.parameters import RunParameters
from s2sr_core.scenes.scene import NOT_CHECKED
from s2sr_core.workspace import Workspace
from s2sr_sandbox.server import Sandbox, SandboxSettings, running

pytestmark = [pytest.mark.usefixtures("workers_here"), pytest.mark.slow]
#: Within one tile, and across two.
INNER, EDGE = cell_around("inner", 300, 300), cell_around("edge", 640, 780)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiled")
    for number in range(2):
        write_tiled(folder, number=number)
    write_tiled(folder, number=2, baseline="05.11")
    return folder


@pytest.fixture
def sandbox(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with running(archive, SandboxSettings(connections=2, ranges=True)) as server:
        for variable, value in server.environment().items():
            monkeypatch.setenv(variable, value)
        yield server


def parameters(tmp_path: Path, cells: Sequence[Gridcell], **changes: Any) -> RunParameters:
    fixed = {"start": "2019-06-01", "end": "2020-01-01", "workers": 1, "download_connections": 2}
    return parameters_for(tmp_path, None, cells, **(fixed | changes))


def go(chosen: RunParameters) -> State:
    return pipeline(**json.loads(chosen.model_dump_json()), return_state=True)


def composite(chosen: RunParameters, cell: Gridcell) -> np.ndarray:
    return pixels(Workspace(chosen.work_dir).composite(cell.cell_id, "B04"))


def bytes_of_band(sandbox: Sandbox) -> int:
    """Bytes of B04 of products since 05.12 that were sent since the last question."""
    asked = [request for request in sandbox.byte_requests() if "_N0512_" in request.path and "_B04_" in request.path]
    sandbox.clear_requests()
    return sum(request.bytes for request in asked)


def test_composites_are_those_of_whole_images(tmp_path: Path, archive: Path, sandbox: Sandbox) -> None:
    cells, expected = (INNER, EDGE), tmp_path / "expected"
    expected.mkdir()
    whole = run(parameters_for(expected, archive, cells))
    images = [path.read_bytes() for path in sorted(archive.rglob("*_N0512_*/**/*_B04_20m.jp2"))]
    header, first = 16_384, [tiles_of(image)[0][1] for image in images]
    near = [sum(tiles_of(image)[tile][1] for tile in (3, 4)) for image in images]

    chosen = parameters(tmp_path, [INNER])
    state = go(chosen)
    assert state.is_completed(), state.message
    assert np.array_equal(composite(chosen, INNER), pixels(whole["inner", "B04"].path))
    assert bytes_of_band(sandbox) == sum(first) + 2 * header
    workspace = Workspace(chosen.work_dir)
    there = Counter(path.name.partition("_B04_")[2] for path in workspace.imagery_raw.rglob("*_B04_*"))
    assert there == {"20m.jp2": 1, "20m.jp2.tiles": 2, "20m.jp2.tiles.json": 2}
    index = pd.read_csv(workspace.scene_index, keep_default_na=False).set_index("product")
    notes = {name.split("_")[3]: note for name, note in index["notes"].items()}
    assert notes == {"N0511": "", "N0512": f"{NOT_CHECKED}; 1 of 6 JPEG 2000 tiles of B04 are there"}
    record = json.loads(workspace.record("inner", "B04", "median").read_text(encoding="utf-8"))
    assert sorted(record["not_checked"]) == sorted(name for name in index.index if "_N0512_" in name)

    chosen = parameters(tmp_path, cells)
    state = go(chosen)
    assert state.is_completed(), state.message
    assert bytes_of_band(sandbox) == sum(near)
    for cell in cells:
        assert np.array_equal(composite(chosen, cell), pixels(whole[cell.cell_id, "B04"].path))

    state = go(chosen.model_copy(update={"engine": "reference", "overwrite": True}))
    assert state.is_completed(), state.message
    for cell in cells:
        assert np.array_equal(composite(chosen, cell), pixels(whole[cell.cell_id, "B04"].path))
    assert bytes_of_band(sandbox) == 0

    for cell in cells:
        assert explain(chosen, *cell.polygon.centroid.coords[0]).is_equal

    offline(tmp_path, chosen, whole["edge", "B04"].path)

    state = go(chosen.model_copy(update={"download": "whole", "overwrite": True}))
    assert state.is_completed(), state.message
    assert bytes_of_band(sandbox) == sum(map(len, images)) - sum(near) - sum(first) - 2 * (header_of(images[0]) + 2)
    assert sorted(path.read_bytes() for path in workspace.imagery_raw.rglob("*_N0512_*/**/*_B04_20m.jp2")) == sorted(
        images
    )
    record = json.loads(workspace.record("inner", "B04", "median").read_text(encoding="utf-8"))
    assert record["not_checked"] == []


def header_of(image: bytes) -> int:
    """Bytes before the first tile."""
    return min(start for start, _ in tiles_of(image).values())


def offline(tmp_path: Path, chosen: RunParameters, expected: Path | None) -> None:
    """The stage ``composite`` uses tiles that are there, and says which are not; an archive takes none of them."""
    later = chosen.model_copy(update={"stage": "composite", "overwrite": True, "work_dir": tmp_path / "later"})
    later = later.model_copy(update={"imagery": Workspace(chosen.work_dir).imagery_raw})
    assert np.array_equal(pixels(run(later)["edge", "B04"].path), pixels(expected))

    away = parameters(tmp_path, [cell_around("away", 1290, 100, 8)], stage="composite", imagery=later.imagery)
    errors = [error for preparation in prepare(away) for error in preparation.errors]
    assert [error.reason.partition(" are there")[2] for error in errors] == [
        ", and tiles that count were not downloaded (2); run the stage download again"
    ] * 2

    source = parameters_for(tmp_path, later.imagery, [INNER])
    errors = [error for preparation in prepare(source) for error in preparation.errors]
    assert [error.reason.partition(" were ")[2] for error in errors] == [
        "downloaded; download it with --download whole"
    ] * 2
