from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal

from s2sr_core.errors import InputError
from s2sr_core.products.baselines import implied_offset
from s2sr_core.products.names import ProductName
from s2sr_sandbox.__main__ import main
from s2sr_sandbox.archive import acquisitions, make_archive, summer_dates
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.landscape import Landscape
from s2sr_sandbox.orbit import absolute_orbit, relative_orbit, sensing_time

GRID = Grid.utm(-149.6, 68.63, (80, 110))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_archive(tmp_path_factory.mktemp("archive"), GRID, seed=3, bands=["B04", "B12"])


def _bytes(products: list[Path]) -> dict[str, bytes]:
    folder = products[0].parent
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _pixels(product: Path, band: str) -> np.ndarray:
    (path,) = product.glob(f"GRANULE/*/IMG_DATA/R20m/*_{band}_20m.jp2")
    return np.asarray(gdal.Open(str(path)).ReadAsArray())


def test_products_are_those_of_a_season(archive: list[Path]) -> None:
    names = [ProductName.parse(product.name) for product in archive]
    assert len(set(names)) == 9
    assert {name.tile for name in names} == {"06WUB"}
    assert Counter(implied_offset(name.baseline) for name in names) == {0: 3, -1000: 6}
    assert sorted(Counter(name.sensing_time for name in names).values()) == [1, 1, 1, 2, 2, 2]
    assert {name.sensing_time.month for name in names} <= {6, 7, 8}
    assert sorted(archive[0].parent.iterdir()) == sorted(archive)


def test_reprocessed_duplicate_and_twins_hold_the_same_observation(archive: list[Path]) -> None:
    _, original, again, _, _, _, twin, other, _ = archive
    np.testing.assert_array_equal(_pixels(again, "B04"), _pixels(original, "B04") + 1000)
    dark = _pixels(twin, "B12")
    assert ((dark > 0) & (dark < 1000)).any()
    np.testing.assert_array_equal(dark, _pixels(other, "B12"))


def test_swath_edge_and_split_pair_hold_parts(archive: list[Path]) -> None:
    _, _, _, edge, north, south, _, _, _ = archive
    assert 0.2 < (_pixels(edge, "B04") == 0).mean() < 0.8
    np.testing.assert_array_equal(_pixels(north, "B04") == 0, _pixels(south, "B04") != 0)
    assert {path.name for path in north.glob("GRANULE/*")} != {path.name for path in south.glob("GRANULE/*")}


def test_the_median_over_dates_is_the_truth_within_what_haze_and_angles_make(archive: list[Path]) -> None:
    """Computed by numpy from the pixels of eight products (the reprocessed one is left out) and their SCL."""
    truth = 10_000 * Landscape(3).reflectance("B04", *GRID.centres())
    seen = []
    for product in (each for number, each in enumerate(archive) if number != 2):
        offset = implied_offset(ProductName.parse(product.name).baseline)
        dn = _pixels(product, "B04").astype(float)
        clear = np.isin(_pixels(product, "SCL"), (4, 5, 6)) & (dn > 0)
        seen.append(np.where(clear, np.maximum(dn + offset, 0), np.nan))
    enough = np.isfinite(seen).sum(axis=0) >= 3
    off = np.abs(np.nanmedian(np.stack(seen)[:, enough], axis=0) - truth[enough])
    assert enough.mean() > 0.8
    assert off.max() < 10_000 * 0.01  # haze of the second thickest date in B04, and 4 % of bright ground
    assert np.median(off) < 40
    assert np.nanmedian(np.abs(seen[1] - truth)) > 10  # a hazy date is off


def test_neighbouring_orbits_see_the_place_in_turn(archive: list[Path]) -> None:
    names = [ProductName.parse(product.name) for product in archive]
    assert len({name.relative_orbit for name in names}) == 3
    assert {name.relative_orbit for name in names[:1]} == {relative_orbit(-149.6)}
    by_time = {name.sensing_time: name.relative_orbit for name in names}
    assert len(by_time) == 6


def test_same_seed_same_bytes(archive: list[Path], tmp_path: Path) -> None:
    assert _bytes(make_archive(tmp_path, GRID, seed=3, bands=["B04", "B12"])) == _bytes(archive)


def test_another_seed_is_another_landscape(archive: list[Path], tmp_path: Path) -> None:
    first = make_archive(tmp_path, GRID, seed=2, bands=["B04", "B12"])[0]
    assert first.name == archive[0].name
    assert (_pixels(first, "B04") != _pixels(archive[0], "B04")).mean() > 0.9


def test_dates_lie_on_both_sides_of_baseline_04() -> None:
    for count in (1, 2, 6, 7, 26):
        dates = summer_dates(count)
        assert len(set(dates)) == count
        assert sum(day.year == 2019 for day in dates) == (count + 1) // 2
    for count in (0, 27):
        with pytest.raises(InputError, match="dates"):
            summer_dates(count)


def test_days_can_be_given() -> None:
    (made,) = acquisitions(-149.6, "06WUB", [date(2021, 7, 1)])
    assert str(made.name).startswith("S2B_MSIL2A_20210701T215824_N0301_R072_T06WUB_")


@pytest.mark.parametrize(
    ("name", "orbit"),
    [
        ("S2A_MSIL2A_20190212T192651_N0212_R013_T07HFE_20201007T160857", 19029),
        ("S2A_MSIL2A_20230625T234621_N0509_R073_T01WCS_20230626T022157", 41826),
        ("S2B_MSIL2A_20220413T150759_N0400_R025_T33XWJ_20220414T082126", 26649),
    ],
)
def test_absolute_orbit_of_real_products(name: str, orbit: int) -> None:
    assert absolute_orbit(ProductName.parse(name)) == orbit


def test_orbits_differ_around_the_globe() -> None:
    orbits = [relative_orbit(lon) for lon in np.arange(-180, 180, 360 / 143)]
    assert sorted(orbits) == list(range(1, 144))
    assert relative_orbit(-175.0) == 73


def test_satellites_pass_at_noon() -> None:
    assert sensing_time(0.0, date(2022, 7, 1)) == datetime(2022, 7, 1, 12, 0, 0, tzinfo=UTC)
    assert sensing_time(-150.0, date(2022, 7, 1)) == datetime(2022, 7, 1, 22, 0, 0, tzinfo=UTC)


def test_command_line_ends_with_folder_count_and_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "archive"
    assert main(["--out", str(out), "--size", "64", "--dates", "2", "--bands", "B03", "B12"]) == 0
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert capsys.readouterr().out.splitlines()[-1] == f"{out}: 3 products, {size} bytes"


def test_command_line_covers_a_box(tmp_path: Path) -> None:
    main(["--out", str(tmp_path), "--bbox", "179.98", "68.98", "-179.98", "69.0", "--dates", "1", "--bands", "B03"])
    (product,) = tmp_path.iterdir()
    rows, cols = _pixels(product, "B03").shape
    assert (rows, cols) == pytest.approx((2230 / 20 + 4, 1600 / 20 + 4), abs=6)


@pytest.mark.parametrize("bad", ["--bbox 0 60 9 61", "--centre 10 95", "--size 0", "--dates 0", "--seed -1"])
def test_bad_input_is_told_on_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: str) -> None:
    assert main(["--out", str(tmp_path), *bad.split()]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
