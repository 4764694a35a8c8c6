"""Which products of one observation are used: by what their images show, whatever their footprints say."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from support.scenes import break_tiles, judge, noisy_dn, parameters_for, patchy_scl, pixels, product_name, settled
from support.trees import ring

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.composite import Outcome, composite_cell
from s2sr_core.files import read_record
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.plan import choose_gridcells
from s2sr_core.products.names import ProductName
from s2sr_core.run_context import RunContext
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.metadata import Metadata
from s2sr_sandbox.products import write_product
from s2sr_sandbox.swath import WHOLE, Swath

#: Degrees. Sums of it are exact, so that warping is the identity and composites are medians that numpy computes.
TR = 1 / 4096
ROWS, COLUMNS = 90, 120
GRID = Grid("EPSG:4326", (-600_000 * TR, TR, 0.0, 280_000 * TR, 0.0, -TR), (ROWS, COLUMNS))
CELL = Gridcell("c", shapely.box(-600_000 * TR, (280_000 - ROWS) * TR, (-600_000 + COLUMNS) * TR, 280_000 * TR))
BANDS = ("B04", "B11")
NEW, OLD, USER = (product_name(tile="06WWA", baseline=baseline) for baseline in ("05.09", "02.14", "99.99"))
ALL, NORTH, SOUTH = slice(0, ROWS), slice(0, 50), slice(40, ROWS)

#: The harmonised DN of a product, NaN where it has none.
Layer = np.ndarray


class Archive:
    """An archive of products on one grid, each of its own noise."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder, self._tmp_path, self._rng = tmp_path / "archive", tmp_path, np.random.default_rng(0)

    def add(self, name: ProductName, rows: slice = ALL, *, swath: Swath = WHOLE, below: str = "") -> Layer:
        """A product with data in ``rows``, whose footprint is that of ``swath``; gives the values of B04."""
        offset = -1000 if "04.00" <= name.baseline < "07.00" else 0
        scl, inside = patchy_scl(self._rng, GRID.shape), np.zeros(GRID.shape, bool)
        inside[rows] = True
        arrays = {band: np.where(inside, noisy_dn(self._rng, GRID.shape, offset), 0) for band in BANDS}
        scl = np.where(inside, scl, 0).astype(np.uint8)
        write_product(self.folder / below, name, GRID, arrays, scl, swath=swath, metadata=Metadata(offset=offset))
        dn = arrays["B04"].astype(float)
        return np.where((dn > 0) & np.isin(scl, (4, 5, 6)), np.maximum(dn + offset, 0), np.nan)

    def file(self, name: ProductName, pattern: str, below: str = "") -> Path:
        (path,) = (self.folder / below / name.folder).rglob(pattern)
        return path

    def parameters(self, **changes: Any) -> RunParameters:
        return parameters_for(self._tmp_path, self.folder, [CELL], **({"tr": (TR, TR), "bands": list(BANDS)} | changes))

    def judged(self, **changes: Any) -> dict[str, tuple[str, str]]:
        """Status and reason of each product, by its folder below the archive; ``failed`` is that of the tables."""
        return {
            str(result.candidate.path.relative_to(self.folder)).removesuffix(".SAFE"): (
                "failed" if result.preparation and result.preparation.scene is None else result.candidate.status,
                result.candidate.reason,
            )
            for result in judge(self.parameters(**changes))
            if result.candidate.path is not None
        }

    def composite(self, **changes: Any) -> Outcome:
        """The composite of B04, made as a run does."""
        parameters = self.parameters(**changes)
        lines, context = settled(parameters), RunContext(parameters, rank=1)
        scenes = [scene for line in lines for scene in line.scenes]
        failed = [name for line in lines for name in line.failed()]
        found = {each.title: line.substitutes() for line in lines for each in line.substitutes()}
        cell, bands = choose_gridcells(parameters)[0], parameters.bands if context.is_joint else ["B04"]
        return next(iter(composite_cell(context, cell, bands, scenes, failed, lines=found)))

    def inputs(self) -> list[str]:
        """The products of which the composite of B04 was made."""
        record = read_record(Workspace(self.parameters().work_dir).record("c", "B04"))
        assert record is not None
        return [scene["product"] for scene in record["inputs"]["scenes"]]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


def median(layers: Sequence[Layer]) -> np.ndarray:
    stack = np.stack(layers)
    covered = ~np.isnan(stack).all(axis=0)
    values = np.full(GRID.shape, -9999.0)
    values[covered] = np.nanmedian(stack[:, covered], axis=0)
    return values


def statuses(judged: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {name: status for name, (status, _) in judged.items()}


# ------------------------------------------------------------------------------------------------------- repetitions


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_both_parts_of_a_pair_count_if_both_footprints_are_the_whole_tile(archive: Archive, engine: str) -> None:
    late, early = OLD, replace(OLD, discriminator=OLD.sensing_time)
    layers = [archive.add(early, NORTH), archive.add(late, SOUTH)]
    assert archive.judged() == {str(early): ("selected", ""), str(late): ("selected", "")}
    found = pixels(archive.composite(engine=engine).path)
    assert np.array_equal(found, median(layers))
    assert np.isfinite(layers[0]).any(axis=1)[:40].any()  # the part that the later one does not show


def test_products_that_show_the_same_are_repetitions_if_footprints_are_disjoint(archive: Archive) -> None:
    archive.add(OLD, swath=Swath(along=(0.0, 0.4)))
    layer = archive.add(NEW, swath=Swath(along=(0.6, 1.0)))
    assert archive.judged() == {
        str(NEW): ("selected", ""),
        str(OLD): ("duplicate", f"{NEW} is preferred and covers it"),
    }
    assert np.array_equal(pixels(archive.composite().path), median([layer]))


def test_a_product_counts_for_what_it_shows_though_its_footprint_is_smaller(archive: Archive) -> None:
    layers = [archive.add(NEW, NORTH), archive.add(OLD, swath=Swath(along=(0.0, 0.3)))]
    assert statuses(archive.judged()) == {str(NEW): "selected", str(OLD): "selected"}
    assert np.array_equal(pixels(archive.composite().path), median(layers))


@pytest.mark.parametrize(("rows", "status"), [(8, "duplicate"), (11, "selected")])
def test_a_strip_of_240_m_is_within_the_tolerance(archive: Archive, rows: int, status: str) -> None:
    """A row is 27.2 m high."""
    archive.add(NEW, slice(rows, ROWS))
    archive.add(OLD)
    assert statuses(archive.judged()) == {str(NEW): "selected", str(OLD): status}


def test_of_a_pair_and_a_whole_that_is_older_the_pair_counts(archive: Archive) -> None:
    late = product_name(tile="06WWA", baseline="05.09", mission="S2B")
    layers = [archive.add(NEW, NORTH), archive.add(late, SOUTH)]
    archive.add(OLD)
    judged = archive.judged()
    assert judged[str(OLD)] == ("duplicate", f"{late} and {NEW} are preferred and cover it")
    assert np.array_equal(pixels(archive.composite().path), median(layers))


def test_keep_duplicates_uses_all_but_copies(archive: Archive) -> None:
    layers = [archive.add(NEW), archive.add(OLD)]
    shutil.copytree(archive.folder / OLD.folder, archive.folder / "copy" / OLD.folder)
    assert statuses(archive.judged(keep_duplicates=True)) == {
        str(NEW): "selected",
        str(OLD): "selected",
        f"copy/{OLD}": "duplicate",
    }
    assert np.array_equal(pixels(archive.composite(keep_duplicates=True).path), median(layers))


# ------------------------------------------------------------------------------------------------------- replacements

Damage = Callable[[Archive], None]


def truncate(pattern: str) -> Damage:
    def damage(archive: Archive) -> None:
        path = archive.file(NEW, pattern)
        path.write_bytes(path.read_bytes()[:-100])

    return damage


def change(pattern: str, old: bytes, new: bytes) -> Damage:
    def damage(archive: Archive) -> None:
        path = archive.file(NEW, pattern)
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new, 1))

    return damage


def flip(pattern: str) -> Damage:
    def damage(archive: Archive) -> None:
        path = archive.file(NEW, pattern)
        content = bytearray(path.read_bytes())
        content[-40] ^= 1
        path.write_bytes(content)

    return damage


def undecodable(pattern: str) -> Damage:
    def damage(archive: Archive) -> None:
        archive.file(NEW, "manifest.safe").unlink()
        break_tiles(archive.file(NEW, pattern), 0)

    return damage


def remove(pattern: str) -> Damage:
    return lambda archive: archive.file(NEW, pattern).unlink()


DAMAGES = {
    "no SCL": (remove("*_SCL_20m.jp2"), "_SCL_20m.jp2 is missing"),
    "SCL truncated": (truncate("*_SCL_20m.jp2"), "truncated or changed"),
    "SCL with other bytes": (flip("*_SCL_20m.jp2"), "its bytes have changed"),
    "a band truncated": (truncate("*_B04_20m.jp2"), "truncated or changed"),
    "a band with other bytes": (flip("*_B11_20m.jp2"), "its bytes have changed"),
    "a band that cannot be decoded, without a manifest": (undecodable("*_B04_20m.jp2"), "cannot be decoded"),
    "SCL that cannot be decoded, without a manifest": (undecodable("*_SCL_20m.jp2"), "failed"),
    "a manifest that is none": (change("manifest.safe", b"<", b""), "manifest.safe"),
    "another product's metadata": (change("MTD_MSIL2A.xml", str(NEW).encode(), str(OLD).encode()), "another product"),
    "metadata that are none": (change("MTD_MSIL2A.xml", b"<", b""), "MTD_MSIL2A.xml"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_product_that_cannot_be_used_is_replaced_by_the_next(archive: Archive, damage: str) -> None:
    """And again in the next run; once the preferred one is repaired, it is used."""
    newer, older = archive.add(NEW), archive.add(OLD)
    assert statuses(archive.judged()) == {str(NEW): "selected", str(OLD): "duplicate"}
    shutil.copytree(archive.folder / NEW.folder, archive.folder.parent / "whole")
    do, reason = DAMAGES[damage]
    do(archive)
    results = {result.candidate.title: result for result in judge(archive.parameters())}
    lost, used = results[str(NEW)], results[str(OLD)]
    assert lost.is_replaced
    errors = lost.preparation.errors if lost.preparation else ()
    assert reason in "".join([lost.candidate.reason, *map(str, errors)])
    assert (used.candidate.status, used.candidate.reason) == (
        "selected",
        f"is used instead of {NEW}, which cannot be used",
    )
    outcome = archive.composite()
    assert outcome.status == "written"
    assert np.array_equal(pixels(outcome.path), median([older]))
    assert archive.composite().status == "kept"
    assert archive.inputs() == [str(OLD)]

    shutil.rmtree(archive.folder / NEW.folder)
    shutil.copytree(archive.folder.parent / "whole", archive.folder / NEW.folder)
    outcome = archive.composite()
    assert outcome.status == "written"
    assert np.array_equal(pixels(outcome.path), median([newer]))
    assert archive.inputs() == [str(NEW)]
    do(archive)
    assert archive.composite().status == "written"  # not: kept, because a scene of it cannot be used
    assert archive.inputs() == [str(OLD)]


def test_the_line_is_followed_to_its_end(archive: Archive) -> None:
    """Another copy, then the older baseline, then the user's own product."""
    archive.add(NEW)
    shutil.copytree(archive.folder / NEW.folder, archive.folder / "copy" / NEW.folder)
    archive.add(OLD)
    layer = archive.add(USER)
    assert statuses(archive.judged()) == {
        str(NEW): "selected",
        f"copy/{NEW}": "duplicate",
        str(OLD): "duplicate",
        str(USER): "duplicate",
    }
    flip("*_SCL_20m.jp2")(archive)
    judged = archive.judged()
    assert judged[f"copy/{NEW}"] == (
        "selected",
        f"is used instead of the copy at {archive.folder / NEW.folder}, which cannot be used",
    )
    assert statuses(judged) == {
        str(NEW): "failed",
        f"copy/{NEW}": "selected",
        str(OLD): "duplicate",
        str(USER): "duplicate",
    }
    archive.file(NEW, "*_B04_20m.jp2", "copy").write_bytes(b"")
    archive.file(OLD, "*_SCL_20m.jp2").unlink()
    judged = archive.judged()
    assert statuses(judged) == {
        str(NEW): "failed",
        f"copy/{NEW}": "failed",
        str(OLD): "failed",
        str(USER): "selected",
    }
    assert np.array_equal(pixels(archive.composite().path), median([layer]))


def test_a_product_without_a_band_is_used_if_no_other_shows_the_same(archive: Archive) -> None:
    """The more complete one of two; an older one that shows a half replaces neither."""
    newer = archive.add(NEW)
    archive.add(OLD)
    half = archive.add(USER, NORTH)
    for name, bands in ((NEW, ("B11",)), (OLD, ("B04", "B11"))):
        for band in bands:
            archive.file(name, f"*_{band}_20m.jp2").unlink()
    assert statuses(archive.judged()) == {str(NEW): "selected", str(OLD): "no bands", str(USER): "selected"}
    assert np.array_equal(pixels(archive.composite().path), median([newer, half]))


def test_a_damaged_image_that_nothing_replaces_is_left_to_the_cells_that_do_not_need_what_is_damaged(
    archive: Archive,
) -> None:
    """As if there were no other product; the cell here needs all of it."""
    layer = archive.add(OLD, NORTH)
    archive.add(NEW)
    undecodable("*_B04_20m.jp2")(archive)
    assert set(statuses(archive.judged()).values()) == {"selected"}
    outcome = archive.composite()
    assert [(error.product, error.step) for error in outcome.left_out] == [(str(NEW), "decode")]
    assert np.array_equal(pixels(outcome.path), median([layer]))


LATE: dict[str, Any] = {"check_files": "never"}  # what nothing is compared with shows only while it is decoded


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_an_image_that_turns_out_undecodable_in_phase_2_is_replaced_by_the_next(archive: Archive, engine: str) -> None:
    """And again in the next run; once it is repaired, it is used."""
    newer, older = archive.add(NEW), archive.add(OLD)
    image = archive.file(NEW, "*_B04_20m.jp2")
    good, late = image.read_bytes(), LATE | {"engine": engine}
    undecodable("*_B04_20m.jp2")(archive)
    for status in ("written", "kept"):
        outcome = archive.composite(**late)
        assert (outcome.status, outcome.scenes, outcome.replaced) == (status, 1, (str(NEW),))
        assert [(error.product, error.band, error.step) for error in outcome.left_out] == [(str(NEW), "B04", "decode")]
        assert [(each.product, each.instead_of) for each in outcome.substitutes] == [(str(OLD), (str(NEW),))]
        assert f"made with {OLD} instead" in outcome.reason
        assert np.array_equal(pixels(outcome.path), median([older]))
        assert archive.inputs() == [str(OLD)]
    record = read_record(Workspace(archive.parameters().work_dir).record("c", "B04")) or {}
    assert record["substitutes"] == {str(OLD): [str(NEW)]}
    image.write_bytes(good)
    outcome = archive.composite(**late)
    assert (outcome.status, outcome.left_out, outcome.substitutes) == ("written", (), ())
    assert np.array_equal(pixels(outcome.path), median([newer]))


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_the_line_is_followed_to_its_end_in_phase_2(archive: Archive, engine: str) -> None:
    """A copy of the same name, an older product, and one that shows a half: it replaces neither."""
    late = LATE | {"engine": engine}
    newer = archive.add(NEW)
    shutil.copytree(archive.folder / NEW.folder, archive.folder / "copy" / NEW.folder)
    older, half = archive.add(OLD), archive.add(USER, NORTH)
    undecodable("*_B04_20m.jp2")(archive)
    outcome = archive.composite(**late)
    assert np.array_equal(pixels(outcome.path), median([newer]))
    assert [each.path.parent.name for each in outcome.substitutes] == ["copy"]
    assert archive.composite(**late).status == "kept"
    break_tiles(archive.file(NEW, "*_B04_20m.jp2", "copy"), 0)
    outcome = archive.composite(**late, overwrite=True)
    assert (outcome.status, outcome.replaced) == ("written", (str(NEW),))
    assert np.array_equal(pixels(outcome.path), median([older]))
    break_tiles(archive.file(OLD, "*_B04_20m.jp2"), 0)
    outcome = archive.composite(**late, overwrite=True)
    assert (outcome.status, outcome.replaced) == ("written", ())
    assert np.array_equal(pixels(outcome.path), median([half]))
    assert {error.product for error in outcome.left_out} == {str(NEW), str(OLD)}
    assert [each.instead_of for each in outcome.substitutes] == [(str(OLD), str(NEW))]


def test_both_parts_and_the_substitute_of_one_of_them_are_used(archive: Archive) -> None:
    other = product_name(tile="06WWA", baseline="05.09", mission="S2B")
    archive.add(NEW, NORTH)
    south, whole = archive.add(other, SOUTH), archive.add(OLD)
    assert statuses(archive.judged()) == {str(NEW): "selected", str(other): "selected", str(OLD): "duplicate"}
    undecodable("*_B04_20m.jp2")(archive)
    outcome = archive.composite(**LATE)
    assert np.array_equal(pixels(outcome.path), median([south, whole]))


def test_joint_statistics_use_the_substitute_in_all_bands(archive: Archive) -> None:
    archive.add(NEW)
    archive.add(OLD)
    late = LATE | {"statistic": ["medoid"]}
    undecodable("*_B11_20m.jp2")(archive)
    outcome = archive.composite(**late)
    assert [each.product for each in outcome.substitutes] == [str(OLD)]
    found = pixels(outcome.path)
    assert archive.composite(**late).status == "kept"
    shutil.rmtree(archive.folder / NEW.folder)
    assert np.array_equal(pixels(archive.composite(**late, overwrite=True).path), found)
    assert (found != -9999).any()


def test_an_earlier_composite_stays_if_what_is_left_shows_less(archive: Archive) -> None:
    """One part of a pair, both of which claim the whole tile, cannot be used any more."""
    other = product_name(tile="06WWA", baseline="05.09", mission="S2B")
    archive.add(NEW, NORTH)
    archive.add(other, SOUTH)
    before = pixels(archive.composite().path)
    truncate("*_SCL_20m.jp2")(archive)
    outcome = archive.composite()
    assert (outcome.status, outcome.step) == ("failed", "scenes")
    assert np.array_equal(pixels(outcome.path), before)
    assert [result.is_replaced for result in judge(archive.parameters())] == [False, False]


# ------------------------------------------------------------------------------------------------------------- places


def footprint(archive: Archive, name: ProductName, text: str) -> None:
    """Let the product say that it is elsewhere."""
    for pattern, expression in (
        ("manifest.safe", rb"(<gml:coordinates[^>]*>)[^<]*"),
        ("MTD_MSIL2A.xml", rb"(<EXT_POS_LIST[^>]*>)[^<]*"),
    ):
        path = archive.file(name, pattern)
        content, count = re.subn(expression, rb"\g<1>" + text.encode(), path.read_bytes())
        assert count == 1
        path.write_bytes(content)


@pytest.mark.parametrize("away", [ring(10, 60, 11, 61), ring(-149.2, 67.6, -148.2, 67.9)])
def test_a_wrong_footprint_loses_nothing_that_the_images_show(archive: Archive, away: str) -> None:
    layers = [archive.add(NEW), archive.add(product_name(1, tile="06WWA"))]
    footprint(archive, NEW, away)
    assert set(statuses(archive.judged()).values()) == {"selected"}
    assert np.array_equal(pixels(archive.composite().path), median(layers))


def test_a_product_with_data_far_from_the_cells_touches_none(archive: Archive) -> None:
    """As a granule on the edge of a swath: its images meet the cell, its data and its footprint do not."""
    archive.add(NEW, slice(0, 1))
    footprint(archive, NEW, ring(-149.2, 67.6, -148.2, 67.9))
    south = Gridcell("c", shapely.box(*CELL.bounds[:2], CELL.bounds[2], (280_000 - 40) * TR))
    parameters = parameters_for(archive.folder.parent, archive.folder, [south], tr=(TR, TR))
    scenes = {result.candidate.title: result.preparation for result in judge(parameters)}
    preparation = scenes[str(NEW)]
    assert preparation is not None
    assert preparation.scene is not None
    assert preparation.scene.cells == ()
