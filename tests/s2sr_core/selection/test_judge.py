from __future__ import annotations

import itertools
import math
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shapely
import shapely.affinity
from hypothesis import given
from hypothesis import strategies as st
from support.trees import OLD, image_path, metadata_xml, ring, write_tree

from s2sr_core.cells.gridcells import Gridcell, make_gridcells
from s2sr_core.errors import InputError
from s2sr_core.parameters import RunParameters
from s2sr_core.products.names import ProductName
from s2sr_core.selection.candidates import Candidate
from s2sr_core.selection.judge import find_products
from s2sr_core.selection.near_cells import CellsNear
from s2sr_core.selection.repetitions import preference
from s2sr_core.sources import source_of

#: Half a degree of latitude by one of longitude, inside the footprint of the trees.
CELL = Gridcell("cell", shapely.box(-149.75, 68.6, -149.5, 68.8))
OUTLINE = (-150.0, 68.5, -149.0, 69.0)

#: Why a product of a user's own Sen2Cor without its metadata is not used.
OWN_SEN2COR = (
    "baseline 99.99 is not of the operational series, so it does not imply the offset of B02, "
    "and MTD_MSIL2A.xml does not give one"
)

Select = Callable[..., dict[str, tuple[str, str]]]


def select_products(
    parameters: RunParameters, cells: list[Gridcell], progress: Callable[[], None] = lambda: None
) -> list[Candidate[Any]]:
    return find_products(source_of(parameters), parameters, cells, progress)


@pytest.fixture
def select(tmp_path: Path) -> Select:
    """Select below ``tmp_path/archive``: status and reason by title, which must be one product each."""

    def run(cells: list[Gridcell] | None = None, **changes: Any) -> dict[str, tuple[str, str]]:
        candidates = select_products(parameters(tmp_path, **changes), cells or [CELL])
        titles = [candidate.title for candidate in candidates]
        assert titles == sorted(set(titles))
        return {candidate.title: (candidate.status, candidate.reason) for candidate in candidates}

    return run


def parameters(tmp_path: Path, **changes: Any) -> RunParameters:
    defaults: dict[str, Any] = {
        "bbox": (-180, -90, 180, 90),
        "grid_csv": "none.csv",
        "start": "2015-01-01",
        "end": "2030-01-01",
        "source": tmp_path / "archive",
        "work_dir": tmp_path / "run",
    }
    return RunParameters(**(defaults | changes))


def named(
    sensing: str = "20190701T214529",
    *,
    baseline: str = "0212",
    tile: str = "05WPM",
    made: str = "20190702T001122",
    mission: str = "S2A",
) -> str:
    return f"{mission}_MSIL2A_{sensing}_N{baseline}_R072_T{tile}_{made}"


def statuses(selected: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {title: status for title, (status, _) in selected.items()}


# ------------------------------------------------------------------------------------------------ what the name says


@pytest.mark.parametrize(
    ("start", "end", "status"),
    [
        ("2019-07-01T21:45:29Z", "2019-07-01T21:45:30Z", "selected"),
        ("2019-07-01T21:45:30Z", "2019-07-02", "filtered"),
        ("2019-06-01", "2019-07-01T21:45:29Z", "filtered"),
        ("2019-07-01", "2019-07-02", "selected"),
        ("2019-07-02", "2019-07-03", "filtered"),
        ("2019-07-01T23:45:29+02:00", "2019-07-01T23:45:30+02:00", "selected"),
    ],
)
def test_the_start_is_in_the_window_and_the_end_is_not(
    tmp_path: Path, select: Select, start: str, end: str, status: str
) -> None:
    """Sensed at 21:45:29 UTC."""
    write_tree(tmp_path / "archive", OLD)
    found = select(start=start, end=end)[OLD]
    assert found[0] == status
    assert found[1] == ("" if status == "selected" else "sensing time outside start … end")


def test_months_hold_in_every_year(tmp_path: Path, select: Select) -> None:
    names = [named(f"{year}{month:02d}15T214529") for year in (2019, 2020) for month in range(1, 13)]
    for name in names:
        write_tree(tmp_path / "archive", name, bands=())
    found = select(months="11-2")
    assert {name[15:17] for name, (status, _) in found.items() if status == "selected"} == {"11", "12", "01", "02"}
    assert sum(status == "selected" for status, _ in found.values()) == 8
    assert found[named("20190615T214529")] == ("filtered", "month 6 not asked for")


def test_only_the_tiles_asked_for_count(tmp_path: Path, select: Select) -> None:
    for tile in ("05WPM", "05WPN", "06WVC"):
        write_tree(tmp_path / "archive", named(tile=tile), bands=())
    assert statuses(select(tiles=["T05WPN", "06wvc"])) == {
        named(tile="05WPM"): "filtered",
        named(tile="05WPN"): "selected",
        named(tile="06WVC"): "selected",
    }
    assert select(tiles=["05WPN"])[named(tile="05WPM")][1] == "tile 05WPM not asked for"


def test_older_baselines_are_left_out_and_user_made_ones_which_tell_nothing(tmp_path: Path, select: Select) -> None:
    names = {
        baseline: named(baseline=baseline, tile=f"05WP{letter}")
        for baseline, letter in zip(("0212", "0301", "0500", "0513", "0001", "9999", "0700"), "MNPQRST", strict=True)
    }
    for name in names.values():
        write_tree(tmp_path / "archive", name, bands=())
    found = select(min_baseline="05.00")
    assert {baseline: found[name][0] for baseline, name in names.items()} == {
        "0212": "filtered",
        "0301": "filtered",
        "0500": "selected",
        "0513": "selected",
        "0001": "filtered",
        "9999": "filtered",
        "0700": "filtered",
    }
    assert found[names["9999"]][1] == (
        "baseline 99.99 is not of the operational series, so it cannot be compared with 05.00"
    )
    assert {status for status, _ in select().values()} == {"selected"}
    assert found[names["0301"]][1] == "baseline 03.01 < 05.00"


def test_what_the_name_rules_out_is_not_read(tmp_path: Path, select: Select) -> None:
    """Its metadata would be an error."""
    write_tree(tmp_path / "archive", OLD, metadata="no XML")
    assert select(end="2019-01-01")[OLD][0] == "filtered"
    assert select()[OLD][0] == "failed"


# ------------------------------------------------------------------------------------------------------------ clouds


@pytest.mark.parametrize(("cloud", "status"), [("29.9", "selected"), ("30.0", "selected"), ("30.1", "filtered")])
def test_a_product_as_cloudy_as_allowed_counts(tmp_path: Path, select: Select, cloud: str, status: str) -> None:
    write_tree(tmp_path / "archive", OLD, cloud=cloud)
    assert select(max_cloud_cover=30)[OLD] == (status, "" if status == "selected" else "cloud cover 30.1 % > 30 %")


@pytest.mark.parametrize("cloud", ["100", None])
def test_without_a_limit_no_cloud_matters_and_an_unknown_cover_is_no_reason(
    tmp_path: Path, select: Select, cloud: str | None
) -> None:
    write_tree(tmp_path / "archive", OLD, cloud=cloud)
    assert select()[OLD][0] == "selected"
    if cloud is None:
        assert select(max_cloud_cover=0)[OLD][0] == "selected"


# ------------------------------------------------------------------------------------------------------- repetitions


def test_of_a_reprocessed_product_the_older_baseline_is_dropped(tmp_path: Path, select: Select) -> None:
    """Discriminators years apart; the footprint moved by 40 m."""
    new = named(baseline="0500", made="20230512T101112")
    write_tree(tmp_path / "archive", OLD)
    write_tree(tmp_path / "archive", new, footprint=ring(-149.999, 68.5, -148.999, 69.0))
    assert select() == {OLD: ("duplicate", f"{new} is preferred and covers it"), new: ("selected", "")}


def test_an_older_baseline_is_dropped_even_if_processed_later(tmp_path: Path, select: Select) -> None:
    late = named(made="20240101T000000")
    new = named(baseline="0500", made="20230512T101112")
    for name in (late, new):
        write_tree(tmp_path / "archive", name)
    assert statuses(select()) == {late: "duplicate", new: "selected"}


def test_both_parts_of_a_split_pair_stay(tmp_path: Path, select: Select) -> None:
    """Two downlink stations, one baseline, discriminators hours apart, footprints that overlap a little."""
    south, north = named(made="20190702T100652"), named(made="20190702T130912")
    write_tree(tmp_path / "archive", south, footprint=ring(-150, 68.5, -149, 68.75))
    write_tree(tmp_path / "archive", north, footprint=ring(-150, 68.74, -149, 69.0))
    assert statuses(select()) == {south: "selected", north: "selected"}


def test_of_twins_the_newest_stays(tmp_path: Path, select: Select) -> None:
    """The same footprint, one second apart."""
    first, second = named(made="20190702T022157"), named(made="20190702T022158")
    for name in (first, second):
        write_tree(tmp_path / "archive", name)
    assert select() == {first: ("twin", f"{second} is preferred and covers it"), second: ("selected", "")}


def test_of_three_twins_one_stays(tmp_path: Path, select: Select) -> None:
    names = [named(made=f"20190702T02215{second}") for second in (7, 8, 9)]
    for name in names:
        write_tree(tmp_path / "archive", name)
    assert list(statuses(select()).values()) == ["twin", "twin", "selected"]


@pytest.mark.parametrize("baseline", ["0001", "9999", "9990", "0700"])
def test_user_made_products_rank_last(tmp_path: Path, select: Select, baseline: str) -> None:
    own = named(baseline=baseline, made="20250101T000000")
    for name in (own, OLD):
        write_tree(tmp_path / "archive", name)
    assert select() == {own: ("duplicate", f"{OLD} is preferred and covers it"), OLD: ("selected", "")}


def test_a_smaller_newer_product_does_not_drop_a_larger_older_one(tmp_path: Path, select: Select) -> None:
    """Its part beyond the newer one would be lost."""
    new = named(baseline="0500")
    write_tree(tmp_path / "archive", new, footprint=ring(-150, 68.5, -149.1, 69.0))
    write_tree(tmp_path / "archive", OLD)
    assert statuses(select()) == {new: "selected", OLD: "selected"}


def test_a_whole_is_dropped_where_a_newer_pair_covers_it_together(tmp_path: Path, select: Select) -> None:
    south, north = (named(baseline="0500", made=made) for made in ("20230512T101112", "20230512T131112"))
    write_tree(tmp_path / "archive", south, footprint=ring(-150, 68.5, -149, 68.76))
    write_tree(tmp_path / "archive", north, footprint=ring(-150, 68.74, -149, 69.0))
    write_tree(tmp_path / "archive", OLD)
    assert select()[OLD] == ("duplicate", f"{north} and {south} are preferred and cover it")
    assert [status for status, _ in select().values()].count("selected") == 2


def test_the_reason_names_only_products_that_cover_something_of_it(tmp_path: Path, select: Select) -> None:
    """The newest of all holds the other half of the tile."""
    south, north = named(baseline="0500"), named(baseline="0510")
    write_tree(tmp_path / "archive", north, footprint=ring(-150, 68.8, -149, 69))
    write_tree(tmp_path / "archive", south, footprint=ring(-150, 68.5, -149, 68.75))
    write_tree(tmp_path / "archive", OLD, footprint=ring(-150, 68.5, -149, 68.75))
    assert select()[OLD] == ("duplicate", f"{south} is preferred and covers it")


def test_other_tiles_and_other_times_are_no_repetitions(tmp_path: Path, select: Select) -> None:
    names = [named(), named(tile="05WPN"), named("20190701T214530"), named("20190711T214529")]
    for name in names:
        write_tree(tmp_path / "archive", name)
    assert set(statuses(select()).values()) == {"selected"}
    assert len(select()) == 4


def test_a_product_without_a_footprint_neither_covers_nor_is_covered(tmp_path: Path, select: Select) -> None:
    new = named(baseline="0500")
    write_tree(tmp_path / "archive", new, footprint=None)
    write_tree(tmp_path / "archive", OLD)
    assert statuses(select()) == {new: "selected", OLD: "selected"}
    older = named(baseline="0205")
    write_tree(tmp_path / "archive", older, footprint=None)
    assert statuses(select())[older] == "selected"


def test_a_filtered_or_broken_product_drops_no_other(tmp_path: Path, select: Select) -> None:
    cloudy, broken = named(baseline="0510"), named(baseline="0511")
    write_tree(tmp_path / "archive", cloudy, cloud=80)
    write_tree(tmp_path / "archive", broken, metadata="no XML")
    write_tree(tmp_path / "archive", OLD, cloud=20)
    assert statuses(select(max_cloud_cover=50)) == {cloudy: "filtered", broken: "failed", OLD: "selected"}


def test_keep_duplicates_keeps_them_all(tmp_path: Path, select: Select) -> None:
    for name in (named(), named(baseline="0500"), named(made="20190702T001123")):
        write_tree(tmp_path / "archive", name)
    assert set(statuses(select(keep_duplicates=True)).values()) == {"selected"}


def test_preference_is_baseline_then_discriminator_with_user_made_last() -> None:
    ordered = [
        named(baseline="9999", made="20150101T000000"),
        named(baseline="0700", made="20240101T000000"),
        named(baseline="0001", made="20250101T000000"),
        named(baseline="0205", made="20260101T000000"),
        named(baseline="0301", made="20210101T000000"),
        named(baseline="0301", made="20210101T000001"),
        named(baseline="0510", made="20200101T000000"),
    ]
    shuffled = list(map(ProductName.parse, ordered))
    random.Random(3).shuffle(shuffled)
    assert list(map(str, sorted(shuffled, key=preference))) == ordered


#: Parts of a tile by rows of 0.1°: a footprint, or none.
parts = st.one_of(
    st.none(), st.tuples(st.integers(0, 4), st.integers(1, 5)).map(lambda span: (span[0], min(span[0] + span[1], 5)))
)


@given(
    st.lists(
        st.tuples(st.sampled_from(["0212", "0500", "9999"]), st.integers(0, 3), parts),
        min_size=1,
        max_size=6,
        unique_by=lambda product: product[:2],
    ),
    st.randoms(use_true_random=False),
)
def test_repetitions_lose_nothing_and_leave_no_more_than_needed(
    tmp_path_factory: pytest.TempPathFactory, products: list[tuple[str, int, Any]], rng: random.Random
) -> None:
    """Against a count of rows: going from the preferred on, a product is dropped just where every row of it is held
    already; so the rows of all are the rows of the kept ones."""
    folder = tmp_path_factory.mktemp("archive")
    rng.shuffle(products)
    rows: dict[str, set[int]] = {}
    for number, (baseline, second, span) in enumerate(products):
        name = named(baseline=baseline, made=f"20190702T00112{second}")
        rows[name] = set(range(*span)) if span else set()
        text = None if span is None else ring(-150, 68.5 + span[0] / 10, -149, 68.5 + span[1] / 10)
        write_tree(folder / "archive" / str(number), name, footprint=text, bands=())
    order = sorted(rows, key=lambda name: (name[28:32] != "9999", name[28:32], name[-6:]), reverse=True)
    held: set[int] = set()
    expected = set()
    for name in order:
        if not rows[name] or not rows[name] <= held:
            expected.add(name)
            held |= rows[name]
    whole = Gridcell("all", shapely.box(*OUTLINE))
    candidates = select_products(parameters(folder), [whole])
    assert {candidate.title for candidate in candidates if candidate.status == "selected"} == expected


# ----------------------------------------------------------------------------------------- copies, links, bad products


def test_the_same_product_in_two_folders_counts_once(tmp_path: Path) -> None:
    """Also with keep_duplicates: it is one product."""
    first = write_tree(tmp_path / "archive" / "a")
    write_tree(tmp_path / "archive" / "b")
    for keep in (False, True):
        one, other = select_products(parameters(tmp_path, keep_duplicates=keep), [CELL])
        assert {one.status, other.status} == {"selected", "duplicate"}
        copy = one if one.status == "duplicate" else other
        assert copy.title == OLD
        assert copy.name == ProductName.parse(OLD)
        assert copy.reason == f"the same product lies at {first}"


def copies_of(tmp_path: Path, **changes: Any) -> dict[str, tuple[str, str]]:
    """Status and reason of each copy of one product, by the folder below the archive in which it lies."""
    candidates = select_products(parameters(tmp_path, **changes), [CELL])
    assert {candidate.title for candidate in candidates} == {OLD}
    for candidate in candidates:  # those that can be described may take the place of the one that counts
        is_unusable = candidate.status == "failed" or "this copy cannot be used" in candidate.reason
        assert (candidate.product is None) == is_unusable
    archive = tmp_path / "archive"
    return {
        str(candidate.path.relative_to(archive).parent): (candidate.status, candidate.reason)
        for candidate in candidates
        if candidate.path is not None
    }


def interrupt(product: Path) -> None:
    """What an interrupted copy leaves: all folders, and no file but the first."""
    for path in product.rglob("*"):
        if path.is_file() and path.name != "MTD_MSIL2A.xml":
            path.unlink()


def truncate(product: Path) -> None:
    (product / image_path(OLD, "B04")).write_bytes(b"pix")


def empty(product: Path) -> None:
    """Files of no bytes, and no manifest that would say how many there should be."""
    (product / "manifest.safe").unlink()
    for path in product.rglob("*.jp2"):
        path.write_bytes(b"")


def resource_forks(product: Path) -> None:
    """What macOS adds to a zip next to each file."""
    for path in list(product.rglob("*")):
        if path.is_file():
            path.rename(path.with_name(f"._{path.name}"))


@pytest.mark.parametrize(
    ("folder", "damage", "reason"),
    [
        ("a", None, ""),
        ("a", interrupt, "; this copy lacks SCL B04"),
        ("a", truncate, "; this copy lacks B04"),
        ("a", empty, "; this copy lacks SCL B04"),
        ("__MACOSX", resource_forks, "; this copy lacks SCL B04"),
    ],
)
def test_the_most_complete_copy_counts_wherever_it_lies(
    tmp_path: Path, folder: str, damage: Callable[[Path], None] | None, reason: str
) -> None:
    """The damaged copy comes first by path, and then again after the good one."""
    archive = tmp_path / "archive"
    good = "a" if damage is None else "m"
    for place in (folder, "m", "z"):
        product = write_tree(archive / place)
        if damage is not None and place != "m":
            damage(product)
    assert copies_of(tmp_path, bands=["B04"]) == {
        place: ("selected", "")
        if place == good
        else ("duplicate", f"the same product lies at {archive / good / OLD}.SAFE{reason}")
        for place in (folder, "m", "z")
    }


def test_a_catalogue_of_metadata_alone_does_not_hide_the_images(tmp_path: Path) -> None:
    write_tree(tmp_path / "archive" / "catalogue", bands=())
    write_tree(tmp_path / "archive" / "images", metadata=None)
    statuses_of_copies = {place: status for place, (status, _) in copies_of(tmp_path).items()}
    assert statuses_of_copies == {"catalogue": "duplicate", "images": "selected"}


def test_only_the_bands_asked_for_make_a_copy_complete(tmp_path: Path) -> None:
    write_tree(tmp_path / "archive" / "a", bands=("B04", "SCL"))
    write_tree(tmp_path / "archive" / "b")
    assert copies_of(tmp_path, bands=["B04"])["a"] == ("selected", "")
    assert copies_of(tmp_path, bands=["B03", "B04"])["b"] == ("selected", "")
    assert copies_of(tmp_path, bands=["B03", "B04"])["a"][1].endswith(".SAFE; this copy lacks B03")


def test_a_whole_copy_counts_where_the_first_is_broken(tmp_path: Path) -> None:
    write_tree(tmp_path / "archive" / "a", metadata="no XML")
    good = write_tree(tmp_path / "archive" / "b")
    write_tree(tmp_path / "archive" / "c")
    found = copies_of(tmp_path)
    assert {place: status for place, (status, _) in found.items()} == {
        "a": "duplicate",
        "b": "selected",
        "c": "duplicate",
    }
    assert found["a"][1].startswith(
        f"the same product lies at {good}; this copy cannot be used: MTD_MSIL2A.xml cannot be read: "
    )


def test_copies_of_which_none_can_be_used_fail_each_for_its_reason(tmp_path: Path) -> None:
    write_tree(tmp_path / "archive" / "a", metadata="no XML")
    write_tree(tmp_path / "archive" / "b", manifest="no XML")
    reasons = {place: reason.partition(" ")[0] for place, (status, reason) in copies_of(tmp_path).items()}
    assert reasons == {"a": "MTD_MSIL2A.xml", "b": "manifest.safe"}
    assert {status for status, _ in copies_of(tmp_path).values()} == {"failed"}


# ------------------------------------------------------------------------------------- archives as people keep them


@pytest.mark.parametrize(
    "folder",
    [
        f"{OLD}.safe",
        f"{OLD}.Safe",
        OLD,
        f"{OLD}.SAFE/{OLD}.SAFE",
        f"{OLD}/{OLD}.SAFE",
        f"{OLD}.SAFE/{OLD}",
        f"{OLD}/{OLD}",
    ],
)
def test_products_are_found_under_the_names_that_folders_get(tmp_path: Path, folder: str) -> None:
    archive = tmp_path / "archive"
    made = write_tree(tmp_path / "made")
    (archive / folder).parent.mkdir(parents=True)
    made.rename(archive / folder)
    for source in (archive, archive / Path(folder).parts[0]):
        [candidate] = select_products(parameters(tmp_path, source=source), [CELL])
        assert (candidate.title, candidate.status, candidate.reason) == (OLD, "selected", "")
        assert candidate.product is not None
        assert candidate.product.path == archive / folder


def test_a_folder_with_the_name_of_a_product_may_hold_others(tmp_path: Path, select: Select) -> None:
    """Somebody unzipped several products into it; none of them is missed."""
    other = named(tile="05WPN")
    for name in (OLD, other):
        write_tree(tmp_path / "archive" / OLD, name)
    assert statuses(select()) == {OLD: "selected", other: "selected"}


ZIP = "is a zip file, which is not read in place; unzip it into a folder"
TAR = "is packed into one file, which is not read in place; unpack it into a folder"
PART = "is a part of a packed product; unpack the whole of it into a folder"


def pack(product: Path, target: Path) -> None:
    """The product with its folder, as CDSE packs it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as file:
        for path in product.rglob("*"):
            file.write(path, path.relative_to(product.parent))


@pytest.mark.parametrize("suffix", [".zip", ".SAFE.zip", ".SAFE", ".safe.ZIP"])
def test_a_zipped_product_is_one_row_with_the_remedy_unless_it_is_unpacked_too(tmp_path: Path, suffix: str) -> None:
    product = write_tree(tmp_path / "made")
    pack(product, tmp_path / "archive" / "a" / f"{OLD}{suffix}")
    assert copies_of(tmp_path) == {"a": ("failed", ZIP)}
    product.rename(tmp_path / "archive" / f"{OLD}.SAFE") if suffix != ".SAFE" else write_tree(tmp_path / "archive")
    unpacked = tmp_path / "archive" / f"{OLD}.SAFE"
    assert copies_of(tmp_path) == {
        ".": ("selected", ""),
        "a": ("duplicate", f"the same product lies at {unpacked}; this copy cannot be used: {ZIP}"),
    }


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        *(
            (f"{OLD}{suffix}", TAR)
            for suffix in (".tar", ".SAFE.tar.gz", ".tgz", ".SAFE.lz4", ".tar.zst", ".rar", ".gz")
        ),
        *((f"{OLD}{suffix}", PART) for suffix in (".zip.part", ".SAFE.zip.crdownload", ".7z.001", ".z01")),
        *((f"{OLD}{suffix}", PART) for suffix in (".SAFE.part", ".part1.rar", ".zip.aria2", ".partial", ".r00")),
        (f"{OLD}.SAFE", "is a file, not a folder"),
    ],
)
def test_a_product_in_one_file_is_one_row_with_the_reason(
    tmp_path: Path, select: Select, file: str, reason: str
) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / file).write_bytes(b"anything")
    (tmp_path / "archive" / "notes.zip").write_bytes(b"anything")
    assert select() == {OLD: ("failed", reason)}
    assert select(end="2019-01-01") == {OLD: ("filtered", "sensing time outside start … end")}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (OLD.replace("MSIL2A", "MSIL1C") + ".SAFE", "is Level-1C; only Level-2A has SCL"),
        (OLD.replace("MSIL2A", "MSIL1C"), "is Level-1C; only Level-2A has SCL"),
        (OLD.replace("MSIL2A", "MSIL1C") + ".zip", "is Level-1C; only Level-2A has SCL"),
        (
            "S1A_IW_GRDH_1SDV_20190701T214529_20190701T214554_027925_032727_9C5D.SAFE",
            "is not a Sentinel-2 Level-2A product",
        ),
        (
            "S2A_OPER_PRD_MSIL1C_PDMC_20160401T000000_R072_V20160401T000000_20160401T000000.SAFE",
            "is not a Sentinel-2 Level-2A product",
        ),
        (f"{OLD}.zarr", "has the suffix .zarr; only .SAFE products are used"),
    ],
)
def test_products_of_another_kind_are_left_out_and_are_not_failures(
    tmp_path: Path, select: Select, name: str, reason: str
) -> None:
    other = named(tile="05WPN")
    write_tree(tmp_path / "archive", other)
    if name.endswith(".zip"):
        (tmp_path / "archive" / name).write_bytes(b"anything")
    else:
        (tmp_path / "archive" / name / "GRANULE").mkdir(parents=True)
    title = name.removesuffix(".SAFE").removesuffix(".zip")
    assert select() == {other: ("selected", ""), title: ("filtered", reason)}


def test_a_product_reached_by_two_links_counts_once(tmp_path: Path) -> None:
    write_tree(tmp_path / "elsewhere")
    (tmp_path / "archive").mkdir()
    for link in ("a", "b"):
        (tmp_path / "archive" / link).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "archive" / "loop").symlink_to(tmp_path / "archive")
    [candidate] = select_products(parameters(tmp_path), [CELL])
    assert candidate.status == "selected"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("garbage", "is not named like a Sentinel-2 Level-2A product"),
        (OLD.replace("N0212", "N212"), "is not named like a Sentinel-2 Level-2A product"),
        (f"{OLD}_copy", "is not named like a Sentinel-2 Level-2A product"),
        (OLD.replace("T05WPM", "T61WPM"), "T61WPM is not an MGRS tile"),
        (OLD.replace("N0212", "N9999"), OWN_SEN2COR),
    ],
)
def test_a_bad_product_is_recorded_and_the_others_go_on(tmp_path: Path, select: Select, name: str, reason: str) -> None:
    write_tree(tmp_path / "archive", OLD)
    (tmp_path / "archive" / f"{name}.SAFE").mkdir()
    assert select() == {OLD: ("selected", ""), name: ("failed", reason)}


@pytest.mark.parametrize(
    ("name", "title", "status"),
    [
        (f"{OLD} (1)", f"{OLD} (1)", "failed"),
        (f"{OLD}_backup", f"{OLD}_backup", "failed"),
        (f"{OLD} (1).zip", f"{OLD} (1)", "failed"),
        (f"copy of {OLD}", f"copy of {OLD}", "failed"),
        (f"copy of {OLD}.zip", f"copy of {OLD}", "failed"),
        (f"{OLD.lower()}.safe", OLD.lower(), "failed"),
        (f"{OLD.lower()}.zip", OLD.lower(), "failed"),
        ("scene 1", "scene 1", "failed"),
        (f"{OLD}.SAFE.bak", f"{OLD}.SAFE.bak", "filtered"),
    ],
)
def test_copies_under_other_names_are_rows(tmp_path: Path, select: Select, name: str, title: str, status: str) -> None:
    """Nothing says that they are what their name begins with; but they are not passed over in silence."""
    product = write_tree(tmp_path / "made")
    (tmp_path / "archive").mkdir()
    if name.endswith(".zip"):
        pack(product, tmp_path / "archive" / name)
    else:
        product.rename(tmp_path / "archive" / name)
    found = select()
    assert statuses(found) == {title: status}
    assert found[title][1]
    (tmp_path / "archive" / f"{OLD}_notes").mkdir()
    (tmp_path / "archive" / f"{OLD}-ql.jpg").touch()
    (tmp_path / "archive" / "MTD_MSIL2A.xml").touch()  # of nothing that lies there
    assert statuses(select()) == {title: status} | ({OLD: "filtered"} if title == "scene 1" else {})


def test_what_is_neither_a_file_nor_a_folder_is_a_row(tmp_path: Path, select: Select) -> None:
    other, archive = named(tile="05WPN"), tmp_path / "archive"
    archive.mkdir()
    os.mkfifo(archive / f"{OLD}.zip")
    (archive / f"{other}.SAFE.lz4").symlink_to(tmp_path / "nowhere")
    assert select() == {OLD: ("failed", "is not a folder"), other: ("failed", "is not a folder")}


@pytest.mark.parametrize(
    "name", [f"{OLD}_B04.jp2", f"{OLD}.foo", f"{OLD}.SAFE.foo.bar", f"quicklook of {OLD}.png", "dir"]
)
def test_what_is_only_named_after_a_product_is_a_row_and_no_failure(tmp_path: Path, select: Select, name: str) -> None:
    """One for each product, unless the product itself is there."""
    other, archive = named(tile="05WPN"), tmp_path / "archive"
    write_tree(archive, other)
    if name == "dir":
        name = f"{OLD}_images"
        (archive / name).mkdir()
        (archive / name / "T05WPM_B04.jp2").touch()
    else:
        (archive / name).touch()
    (archive / f"{OLD}~ more").mkdir()
    reason = f"is not there as a product; {name} is only named after it"
    assert select() == {other: ("selected", ""), OLD: ("filtered", reason)}
    write_tree(archive, OLD)
    assert select() == {other: ("selected", ""), OLD: ("selected", "")}


@pytest.mark.parametrize("encoding", ["klingon", "shift_jis"])
def test_xml_in_no_known_encoding_fails_one_product_not_the_run(tmp_path: Path, select: Select, encoding: str) -> None:
    write_tree(tmp_path / "archive", OLD, metadata=f'<?xml version="1.0" encoding="{encoding}"?><a/>')
    write_tree(tmp_path / "archive", named(tile="05WPN"))
    assert list(statuses(select()).values()) == ["failed", "selected"]


def test_a_failed_product_tells_at_which_step(tmp_path: Path) -> None:
    write_tree(tmp_path / "archive", OLD, manifest="no XML")
    (tmp_path / "archive" / "garbage.SAFE").mkdir()
    steps = {candidate.title: candidate.step for candidate in select_products(parameters(tmp_path), [CELL])}
    assert steps == {OLD: "metadata", "garbage": "name"}


def test_a_source_without_products_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "archive" / "empty").mkdir(parents=True)
    with pytest.raises(InputError) as caught:
        select_products(parameters(tmp_path), [CELL])
    assert caught.value.field == "source"
    assert caught.value.problem == "holds no .SAFE product"
    assert caught.value.remedy == "give the folder that holds them"


def test_the_order_on_disk_does_not_matter(tmp_path: Path) -> None:
    names = [
        named(tile=tile, baseline=baseline)
        for tile, baseline in itertools.product(("05WPM", "05WPN"), ("0212", "0500"))
    ]
    results = []
    for number, order in enumerate((names, names[::-1])):
        for place, name in enumerate(order):
            write_tree(tmp_path / str(number) / "archive" / str(place), name)
        candidates = select_products(parameters(tmp_path / str(number)), [CELL])
        results.append([(candidate.title, candidate.status, candidate.reason) for candidate in candidates])
    assert results[0] == results[1]
    assert [status for _, status, _ in results[0]] == ["duplicate", "duplicate", "selected", "selected"]


def test_progress_is_told_once_a_product(tmp_path: Path) -> None:
    for number in range(3):
        write_tree(tmp_path / "archive" / str(number), named(tile="05WP" + "MNP"[number]), bands=())
    (tmp_path / "archive" / "garbage.SAFE").mkdir()
    calls: list[None] = []
    assert len(select_products(parameters(tmp_path), [CELL], lambda: calls.append(None))) == len(calls) == 4


# ------------------------------------------------------------------------------------------------------------- cells


def test_a_product_far_from_every_cell_is_left_out(tmp_path: Path, select: Select) -> None:
    write_tree(tmp_path / "archive", OLD)
    far = Gridcell("far", shapely.box(10, 60, 11, 61))
    assert select([far])[OLD] == ("no cell", "neither its tile nor its footprint touches a selected gridcell")
    assert select([far, CELL])[OLD][0] == "selected"


def test_a_product_without_a_footprint_is_tried_on_every_cell(tmp_path: Path, select: Select) -> None:
    write_tree(tmp_path / "archive", OLD, footprint=None)
    assert select([Gridcell("far", shapely.box(10, 60, 11, 61))])[OLD][0] == "selected"


def test_a_footprint_without_area_is_as_good_as_none(tmp_path: Path, select: Select) -> None:
    write_tree(tmp_path / "archive", OLD, footprint="68 -150 68 -150 68 -150 68 -150")
    assert select()[OLD][0] == "selected"


def test_a_cell_a_little_off_a_roughly_drawn_footprint_is_tried(tmp_path: Path, select: Select) -> None:
    """0.1° of latitude is 11 km; at 69° N that is 0.279° of longitude. Beyond, it is not."""
    write_tree(tmp_path / "archive", OLD)
    xmin, ymin, xmax, ymax = OUTLINE
    near = [
        (xmin, ymax + 0.09, xmax, ymax + 1),
        (xmin, ymin - 1, xmax, ymin - 0.09),
        (xmax + 0.278, ymin, xmax + 1, ymax),
        (xmin - 1, ymin, xmin - 0.278, ymax),
    ]
    far = [(xmin, ymax + 0.3, xmax, ymax + 1), (xmax + 0.3, ymin, xmax + 1, ymax)]
    for box in near:
        assert select([Gridcell("c", shapely.box(*box))])[OLD][0] == "selected", box
    for box in far:
        assert select([Gridcell("c", shapely.box(*box))])[OLD][0] == "no cell", box


@pytest.mark.parametrize("side", [1, -1])
def test_nearness_goes_on_across_the_antimeridian(side: int) -> None:
    """A footprint drawn to 179.95° on one side; cells begin at ±180 on both."""
    box = sorted([179.0 * side, 179.95 * side])
    outline = shapely.box(box[0], 68.0, box[1], 69.0)
    cells = make_gridcells((179.75, 68.0, -179.75, 68.25), 0.25)
    assert {cell.bounds[0] for cell in CellsNear(cells).footprint(outline)} == {179.75, -180.0}


@given(st.floats(-180, 179), st.floats(-84, 83), st.floats(0.01, 1), st.floats(0.01, 1))
def test_every_cell_that_meets_a_footprint_is_near_it(lon: float, lat: float, width: float, height: float) -> None:
    cells = CELLS_OF_THE_GLOBE
    outline = shapely.box(lon, lat, lon + width, lat + height)
    near = {cell.cell_id for cell in CellsNear(cells).footprint(outline)}
    assert {cell.cell_id for cell in cells if cell.polygon.intersects(outline)} <= near
    assert len(near) < len(cells) / 2


CELLS_OF_THE_GLOBE = make_gridcells((-180, -90, 180, 90), 10.0)


def test_no_cell_at_all_is_near_nothing() -> None:
    assert CellsNear([]).footprint(shapely.box(0, 0, 1, 1)) == []
    assert CellsNear([]).footprint(None) == []


def test_cells_come_in_their_order_each_once() -> None:
    cells = make_gridcells((0, 0, 3, 3), 1.0)
    both_halves = shapely.MultiPolygon([shapely.box(0.1, 0.1, 2.9, 1.4), shapely.box(0.1, 1.6, 2.9, 2.9)])
    assert CellsNear(cells).footprint(both_halves) == cells


def test_metadata_alone_decides_what_metadata_can(tmp_path: Path, select: Select) -> None:
    """No image is opened, none needs to be there."""
    write_tree(tmp_path / "archive", OLD, bands=(), metadata=metadata_xml(cloud=1))
    assert select()[OLD][0] == "selected"


def test_many_footprints_at_once_find_what_each_finds_alone() -> None:
    """Against bounds compared pair by pair; one footprint is unknown, one in two parts, some cross ±180."""
    cells = make_gridcells((170, 66, -170, 68), 0.5)
    random_box = random.Random(4)
    corners = [(random_box.uniform(168, 180), random_box.uniform(65, 68.5)) for _ in range(40)]
    boxes = [shapely.box(x, y, min(x + 1.5, 180.0), y + 0.7) for x, y in corners]
    parted = shapely.MultiPolygon([shapely.box(171, 66.2, 171.4, 66.4), shapely.box(-172, 67, -171.5, 67.2)])
    outlines = [None, *boxes, parted]
    near = CellsNear(cells)
    found = near.footprints(outlines)
    assert found[0] == cells
    for outline, some in zip(outlines[1:], found[1:], strict=True):
        expected = set()
        for part in shapely.get_parts(outline):
            west, south, east, north = part.bounds
            reach = 0.1 / math.cos(math.radians(max(abs(south), abs(north))))
            for cell in cells:
                left, bottom, right, top = cell.bounds
                for turn in (-360.0, 0.0, 360.0):
                    is_near = left + turn <= east + reach and right + turn >= west - reach
                    if is_near and bottom <= north + reach and top >= south - reach:
                        expected.add(cell.cell_id)
        assert {cell.cell_id for cell in some} == expected
    assert [near.footprint(outline) for outline in outlines] == found
    assert near.footprints([*outlines, *reversed(outlines)]) == [*found, *reversed(found)]
    assert near.any(outlines) == [bool(some) for some in found]
    assert not all(found)
    assert near.footprints([]) == []
