"""Composites of periods: those of runs from the start to the end of each, made of scenes that are decoded once."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from support.scenes import parameters_for, pixels, prepare, product_name, run, write_scene

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import Outcome, composite_cell
from s2sr_core.composites.composite_index import rows_in
from s2sr_core.composites.mosaic import mosaic_cells, mosaic_path
from s2sr_core.composites.verify import Condition, Verification, verify
from s2sr_core.engines import decoded
from s2sr_core.engines.decoded import DecodedBandsInUse
from s2sr_core.outputs import indices
from s2sr_core.outputs.quicklook import draw_cell
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.scene import Scene
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid

CELLS = [
    Gridcell("west", shapely.box(-149.62, 68.625, -149.60, 68.635)),
    Gridcell("east", shapely.box(-149.60, 68.625, -149.58, 68.635)),
]
#: The last moment of July, the first of August, and a day of September.
TIMES = [
    datetime(2019, 7, 5, 21, 45, 29, tzinfo=UTC),
    datetime(2019, 7, 31, 23, 59, 59, tzinfo=UTC),
    datetime(2019, 8, 1, tzinfo=UTC),
    datetime(2019, 9, 9, 21, 45, 29, tzinfo=UTC),
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product for each of the times, of noise."""
    folder, rng = tmp_path_factory.mktemp("archive"), np.random.default_rng(14)
    for time in TIMES:
        name = replace(product_name(), sensing_time=time, discriminator=time + timedelta(hours=4))
        write_scene(folder, name, Grid.utm(-149.6, 68.63, 100, zone=6), rng, bands=("B04", "B11"))
    return folder


def parameters(tmp_path: Path, archive: Path, **changes: Any) -> RunParameters:
    window = {"start": "2019-06-15", "end": "2019-09-15", "every": "month", "bands": ["B04", "B11"], "count": True}
    return parameters_for(tmp_path, archive, CELLS, **(window | changes))


def scenes_of(chosen: RunParameters) -> list[Scene]:
    return [preparation.scene for preparation in prepare(chosen) if preparation.scene]


def composited(chosen: RunParameters, scenes: list[Scene]) -> list[Outcome]:
    context = RunContext(chosen, 1)
    return [each for cell in choose_gridcells(chosen) for each in composite_cell(context, cell, chosen.bands, scenes)]


def statuses(outcomes: list[Outcome], band: str = "B04") -> Mapping[str, tuple[str, int]]:
    """Status and number of scenes of the western cell by period."""
    chosen = [outcome for outcome in outcomes if (outcome.cell_id, outcome.band) == ("west", band)]
    return {outcome.period: (outcome.status, outcome.scenes) for outcome in chosen}


def test_each_is_the_composite_of_a_run_from_its_start_to_its_end_and_each_image_is_decoded_once(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decodings: Counter[str] = Counter()
    decode = decoded._decode
    monkeypatch.setattr(decoded, "_decode", lambda band: (decodings.update([band.path.name]), decode(band))[1])
    chosen = parameters(tmp_path, archive)
    outcomes = composited(chosen, scenes_of(chosen))
    assert sorted(decodings.values()) == [1] * len(TIMES) * 2
    expected = {
        "2019-06": ("no scene", 0),
        "2019-07": ("written", 2),
        "2019-08": ("written", 1),
        "2019-09": ("written", 1),
    }
    assert statuses(outcomes) == statuses(outcomes, "B11") == expected

    workspace, compared = Workspace(chosen.work_dir), 0
    for period in chosen.periods:
        window = {"start": period.start, "end": period.end, "every": None, "work_dir": tmp_path / period.label}
        alone = parameters(tmp_path, archive, **window)
        for (cell_id, band), outcome in run(alone).items():
            for statistic in ("median", "count"):
                own = workspace.composite(cell_id, band, statistic, period.label)
                assert own.exists() == (outcome.path is not None)
                if outcome.path is not None:
                    assert np.array_equal(
                        pixels(own), pixels(Workspace(alone.work_dir).composite(cell_id, band, statistic))
                    )
                    compared += 1
    assert compared == 2 * 2 * 2 * 3
    assert not list(workspace.composites.glob("*/*.tif"))
    july, august = (pixels(workspace.composite("west", "B04", period=label)) for label in ("2019-07", "2019-08"))
    assert not np.array_equal(july, august)


def test_an_empty_period_is_a_row_and_not_a_file(tmp_path: Path, archive: Path) -> None:
    chosen = parameters(tmp_path, archive, bands=["B04"], count=False)
    context, workspace = RunContext(chosen, 1), Workspace(chosen.work_dir)
    workspace.indices.mkdir(parents=True)
    indices.update_composite_index(context, composited(chosen, scenes_of(chosen)))
    rows = {(row["cell_id"], row["period"]): (row["status"], row["path"]) for row in rows_in(workspace)}
    assert list(rows) == [(cell, f"2019-0{month}") for cell in ("east", "west") for month in (6, 7, 8, 9)]
    assert rows["west", "2019-06"] == ("no scene", "")
    assert rows["west", "2019-07"] == ("written", "west/2019-07/cell_west_2019-07_B04_median_clip.tif")
    assert not workspace.cell_folder("west", "2019-06").exists()

    workspace.composite_index.unlink()  # as the records give them
    assert {(row["cell_id"], row["period"]) for row in rows_in(workspace)} == {
        (cell, f"2019-0{month}") for cell in ("east", "west") for month in (7, 8, 9)
    }


def test_each_period_has_mosaics_and_quicklooks_of_its_own(tmp_path: Path, archive: Path) -> None:
    chosen = parameters(tmp_path, archive, bands=["B04"])
    context, workspace = RunContext(chosen, 1), Workspace(chosen.work_dir)
    workspace.indices.mkdir(parents=True)
    indices.update_composite_index(context, composited(chosen, scenes_of(chosen)))
    assert sorted(path.name for path in mosaic_cells(workspace, chosen)) == [
        f"mosaic_2019-0{month}_B04_{kind}.vrt" for month in (7, 8, 9) for kind in ("count", "median")
    ]
    halves = [pixels(workspace.composite(cell.cell_id, "B04", period="2019-08")) for cell in CELLS]
    assert np.array_equal(pixels(mosaic_path(workspace, "B04", "median", "2019-08")), np.hstack(halves))

    assert draw_cell(workspace, "west", ["B04"], "2019-06") is None
    picture = draw_cell(workspace, "west", ["B04"], "2019-08")
    assert picture == workspace.quicklook("west", "2019-08")
    composited(chosen.model_copy(update={"overwrite": True}), [])
    assert not list(workspace.cell_folder("west", "2019-08").iterdir())


def test_a_folder_with_periods_is_verified(tmp_path: Path, archive: Path) -> None:
    chosen = parameters(tmp_path, archive, bands=["B04"], count=False)
    workspace = Workspace(chosen.work_dir)
    composited(chosen, scenes_of(chosen))
    assert verify(workspace) == Verification((), composites=6, files=6, intact=6, by_size=0)
    july, august = (workspace.cell_folder("west", period) for period in ("2019-07", "2019-08"))
    for path in july.iterdir():  # the composite of July in the place of August's
        shutil.copy(path, august / path.name.replace("2019-07", "2019-08"))
    workspace.record("east", "B04", period="2019-09").unlink()
    assert {finding.path: finding.condition for finding in verify(workspace).findings} == {
        "west/2019-08/cell_west_2019-08_B04_median_clip.json": Condition.FOREIGN,
        "west/2019-08/cell_west_2019-08_B04_median_clip.tif": Condition.FOREIGN,
        "east/2019-09/cell_east_2019-09_B04_median_clip.tif": Condition.INCOMPLETE,
    }


def test_a_longer_window_computes_only_periods_with_new_scenes(tmp_path: Path, archive: Path) -> None:
    composited(shorter := parameters(tmp_path, archive, end="2019-07-20"), scenes_of(shorter))
    outcomes = composited(longer := parameters(tmp_path, archive, end="2019-09-05"), scenes_of(longer))
    assert statuses(outcomes)["2019-07"] == ("written", 2)
    outcomes = composited(longest := parameters(tmp_path, archive), scenes_of(longest))
    assert statuses(outcomes) == {
        "2019-06": ("no scene", 0),
        "2019-07": ("kept", 2),
        "2019-08": ("kept", 1),
        "2019-09": ("written", 1),
    }
    record = json.loads(Workspace(longest.work_dir).record("west", "B04", period="2019-07").read_text())
    assert record["inputs"]["period"] == "2019-07"


def test_a_run_without_periods_has_the_same_paths_and_inputs_as_ever(tmp_path: Path, archive: Path) -> None:
    chosen = parameters(tmp_path, archive, every=None, bands=["B04"])
    outcomes = composited(chosen, scenes_of(chosen))
    assert statuses(outcomes) == {"": ("written", 4)}
    workspace = Workspace(chosen.work_dir)
    assert sorted(path.name for path in workspace.cell_folder("west").iterdir()) == [
        f"cell_west_B04_{name}" for name in ("count_clip.tif", "median_clip.json", "median_clip.tif")
    ]
    assert "period" not in json.loads(workspace.record("west", "B04").read_text())["inputs"]


def test_a_decoded_band_stays_until_the_composites_of_its_period_are_done(tmp_path: Path, archive: Path) -> None:
    chosen = parameters(tmp_path, archive, bands=["B04"])
    workspace, scenes = Workspace(chosen.work_dir), scenes_of(chosen)
    composited(chosen, scenes)
    used = DecodedBandsInUse(workspace, chosen.periods)
    for scene in scenes:
        used.add(scene)

    def there() -> list[str]:
        """The days of the decoded bands, in order."""
        return sorted(path.name.split("_")[2][4:8] for path in workspace.decoded.glob("*.u16"))

    assert there() == ["0705", "0731", "0801", "0909"]
    used.finished("west", "B04", "2019-07")
    used.finished("west", "B04", "2019-08")
    assert there() == ["0705", "0731", "0801", "0909"]
    used.finished("east", "B04", "2019-07")
    assert there() == ["0801", "0909"]
    used.finished("east", "B04", "2019-09")
    used.finished("west", "B04", "2019-09")
    assert there() == ["0801"]
