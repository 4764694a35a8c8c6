"""The mask of SCL classes and its dilation; and one more rule, from this module alone, which both engines apply."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from support.independent import RawScene, composite
from support.scenes import noisy_dn, parameters_for, pixels, product_name, run

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.geo.lattice import Lattice
from s2sr_core.geo.raster_grid import RasterGrid
from s2sr_core.parameters import EngineName
from s2sr_core.pixels import masks
from s2sr_core.pixels.masks import MaskRule, SclMask, SclRule
from s2sr_core.run_context import RunContext
from s2sr_sandbox.grid import Grid
from s2sr_sandbox.products import write_product

CLASSES = (0, 1, 2, 3, 7, 8, 9, 10, 11)


@pytest.mark.parametrize(
    ("columns", "rows"), [(1.0, 1.0), (2.5, 2.5), (5.0, 5.0), (3.0, 1.5), (0.4, 0.4), (20.0, 20.0)]
)
def test_dilation_masks_all_within_reach_of_the_class(columns: float, rows: float) -> None:
    """Against the definition: some pixel of the class within the ellipse around the pixel's centre."""
    rng = np.random.default_rng(5)
    scl = np.where(rng.random((17, 23)) < 0.03, 9, 4).astype(np.uint8)
    found = SclMask(CLASSES, {9: (columns, rows)}).masked(scl)
    seeds = np.argwhere(scl == 9)
    for row, column in np.ndindex(scl.shape):
        away = ((seeds[:, 1] - column) / columns) ** 2 + ((seeds[:, 0] - row) / rows) ** 2
        assert found[row, column] == bool((away <= 1 + 1e-9).any())


def test_dilation_widens_its_class_only_and_also_one_that_is_not_masked() -> None:
    scl = np.array([[4, 4, 9, 4, 4, 4, 5, 4, 4]], np.uint8)
    assert SclMask(CLASSES, {9: (1.0, 1.0)}).masked(scl).tolist() == [[0, 1, 1, 1, 0, 0, 0, 0, 0]]
    assert SclMask(CLASSES, {5: (1.0, 1.0)}).masked(scl).tolist() == [[0, 0, 1, 0, 0, 1, 1, 1, 0]]
    assert SclMask(CLASSES, {9: (1.0, 1.0)}).masked_by_class(scl).tolist() == [[0, 0, 1, 0, 0, 0, 0, 0, 0]]


def test_what_lies_beyond_the_granule_is_not_widened_into_it() -> None:
    """GDAL fills the buffer beyond the raster's edge with 0, which is a class (no data) but not a pixel."""
    scl = np.array([[0, 0, 4, 4, 4]], np.uint8)
    inside = np.array([[False, False, True, True, True]])
    assert not SclMask(CLASSES, {0: (2.0, 2.0)}).masked(scl, inside)[0, 2:].any()


def opened_by_definition(of_class: np.ndarray, columns: float, rows: float) -> np.ndarray:
    """The union of all ellipses around pixels of the scene that hold no pixel of another class."""
    result = np.zeros_like(of_class)
    row, column = np.mgrid[: of_class.shape[0], : of_class.shape[1]]
    for centre in np.ndindex(of_class.shape):
        near = ((column - centre[1]) / columns) ** 2 + ((row - centre[0]) / rows) ** 2 <= 1 + 1e-9
        if of_class[near].all():
            result |= near
    return result


@pytest.mark.parametrize(("columns", "rows"), [(1.0, 1.0), (2.5, 2.5), (3.0, 1.5), (0.4, 0.4)])
def test_opening_keeps_what_the_ellipse_fits_into(columns: float, rows: float) -> None:
    rng = np.random.default_rng(5)
    for _ in range(4):
        coarse = np.kron(np.where(rng.random((4, 6)) < 0.5, 9, 4), np.ones((5, 4), int))
        scl = np.where(rng.random(coarse.shape) < 0.06, 13 - coarse, coarse).astype(np.uint8)  # specks of both
        found = SclMask(CLASSES, {}, {9: (columns, rows)}).masked(scl)
        assert np.array_equal(found, opened_by_definition(scl == 9, columns, rows))


def test_specks_are_not_dilated_and_dilation_covers_them_again() -> None:
    scl = np.full((5, 12), 4, np.uint8)
    scl[1:4, 1:4] = 9  # a plus fits
    scl[2, 6] = scl[2, 10] = 9  # specks, the first within 3 columns of what stays
    mask = SclMask(CLASSES, {9: (3.0, 0.5)}, {9: (1.0, 1.0)})
    assert mask.masked(scl)[2].tolist() == [1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert mask.masked_by_class(scl)[2].tolist() == [0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 1, 0]


def test_a_speck_of_one_class_may_lie_in_the_dilation_of_another() -> None:
    scl = np.array([[4, 8, 9, 9, 9, 9]] * 5, np.uint8)
    assert SclMask(CLASSES, {9: (1.0, 1.0)}, {8: (1.0, 1.0)}).masked(scl)[2].tolist() == [0, 1, 1, 1, 1, 1]


def patch_sizes(masked: np.ndarray) -> np.ndarray:
    """How many pixels the patch of each masked pixel has: the largest label spreads to all 8 neighbours."""
    labels = np.where(masked, np.arange(1, masked.size + 1).reshape(masked.shape), 0)
    while True:
        around = np.lib.stride_tricks.sliding_window_view(np.pad(labels, 1), (3, 3))
        spread = np.where(masked, around.max(axis=(2, 3)), 0)
        if np.array_equal(spread, labels):
            return np.where(masked, np.bincount(labels.ravel())[labels], 0)
        labels = spread


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(0.05, 0.6))
def test_patches_below_the_minimum_size_are_clear(seed: int, fewest: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    scl = np.where(rng.random((14, 19)) < share, rng.choice([3, 8, 9], (14, 19)), 4).astype(np.uint8)
    found = SclMask(CLASSES, {}, {}, fewest).masked(scl)
    assert np.array_equal(found, patch_sizes(scl != 4) >= fewest)


def test_small_patches_may_be_of_several_classes_touch_at_corners_and_keep_what_cannot_be_used() -> None:
    """From the left: two of 8 and a 9 at their corner; a 9 alone; a 0, a 9 and a 99; an 11 at the edge."""
    scl = np.array([[4, 8, 4, 4, 4, 4, 0, 4, 4], [4, 8, 4, 4, 9, 4, 9, 4, 4], [4, 4, 9, 4, 4, 4, 99, 4, 11]], np.uint8)
    clear = np.zeros(9, int).tolist()
    three = SclMask(CLASSES, fewest=3).masked(scl).astype(int).tolist()
    four = SclMask(CLASSES, fewest=4).masked(scl).astype(int).tolist()
    assert three == [[0, 1, 0, 0, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0, 1, 0, 0]]
    assert four == [[0, 0, 0, 0, 0, 0, 1, 0, 0], clear, [0, 0, 0, 0, 0, 0, 1, 0, 0]]


def test_the_minimum_size_comes_after_the_opening_and_before_the_dilation() -> None:
    """The opening leaves 8 pixels of a square with a tail of five: where two pluses fit."""
    scl = np.full((5, 14), 4, np.uint8)
    scl[1:4, 1:4] = 9
    scl[2, 4:9] = 9  # a tail, which the opening cuts off
    eight, nine = (SclMask(CLASSES, {9: (1.0, 0.1)}, {9: (1.0, 1.0)}, fewest) for fewest in (8, 9))
    assert eight.masked(scl)[2].tolist() == [1] * 6 + [0] * 8
    assert not nine.masked(scl).any()
    assert SclMask(CLASSES, {9: (1.0, 0.1)}, {}, 14).masked(scl)[2].tolist() == [1] * 10 + [0] * 4


@given(st.integers(0, 2**32 - 1), st.integers(0, 20), st.integers(0, 20), st.integers(2, 7), st.booleans())
def test_patches_in_a_window_with_its_reach_are_those_of_the_whole_scene(
    seed: int, x: int, y: int, fewest: int, opens: bool
) -> None:
    rng = np.random.default_rng(seed)
    scl = rng.choice([4, 8, 9, 0], (25, 25), p=[0.64, 0.17, 0.17, 0.02]).astype(np.uint8)
    mask = SclMask(CLASSES, {9: (1.5, 2.0)}, {9: (0.5, 1.0)} if opens else {}, fewest)
    whole, reach = mask.masked(scl), mask.reach
    assert reach == 2 * opens + fewest - 1 + 2
    padded = np.pad(scl, reach, constant_values=9)[y : y + 5 + 2 * reach, x : x + 5 + 2 * reach]
    inside = np.pad(np.ones_like(scl, bool), reach)[y : y + 5 + 2 * reach, x : x + 5 + 2 * reach]
    found = mask.masked(padded, inside)[reach : reach + 5, reach : reach + 5]
    assert np.array_equal(found, whole[y : y + 5, x : x + 5])


@given(st.integers(0, 2**32 - 1), st.integers(0, 20), st.integers(0, 20))
def test_a_window_with_its_reach_is_masked_as_the_whole_scene_is(seed: int, x: int, y: int) -> None:
    """As GDAL reads it: beyond the scene the buffer holds 0."""
    rng = np.random.default_rng(seed)
    scl = rng.choice([4, 8, 9], (25, 25), p=[0.2, 0.3, 0.5]).astype(np.uint8)
    mask = SclMask(CLASSES, {9: (1.5, 2.0), 0: (4.0, 4.0)}, {9: (1.0, 1.5), 8: (2.0, 1.0)})
    whole, reach = mask.masked(scl), mask.reach
    assert reach == 2 * 2 + 2
    padded = np.pad(scl, reach)[y : y + 5 + 2 * reach, x : x + 5 + 2 * reach]
    inside = np.pad(np.ones_like(scl, bool), reach)[y : y + 5 + 2 * reach, x : x + 5 + 2 * reach]
    found = mask.masked(padded, inside)[reach : reach + 5, reach : reach + 5]
    assert np.array_equal(found, whole[y : y + 5, x : x + 5])


_radii = st.dictionaries(st.integers(0, 11), st.tuples(st.floats(0.01, 300), st.floats(0.01, 300)))


@given(st.lists(st.integers(0, 11), unique=True), _radii, _radii, st.integers(1, 400))
def test_a_mask_survives_its_way_through_a_vrt(
    classes: list[int], dilation: dict[int, tuple[float, float]], opening: dict[int, tuple[float, float]], fewest: int
) -> None:
    mask = SclMask(tuple(classes), dilation, opening, fewest)
    assert masks.from_arguments({"offset": "-1000", **masks.to_arguments(mask)}) == mask


def test_metres_become_pixels() -> None:
    rule = SclRule(CLASSES, {9: 100.0, 3: 30.0})
    grid = RasterGrid("EPSG:32605", (600_000.0, 20.0, 0.0, 7_620_000.0, 0.0, -10.0), (50, 40))
    assert grid.pixel_metres() == (20.0, 10.0)
    assert rule.on_grid((20.0, 10.0)) == SclMask(CLASSES, {9: (5.0, 10.0), 3: (1.5, 3.0)})
    assert rule.on_grid((20.0, 10.0)).reach == 10
    assert SclRule(CLASSES).on_grid((20.0, 10.0)).reach == 0
    assert SclRule(CLASSES, opening={8: 30.0}).on_grid((20.0, 10.0)) == SclMask(CLASSES, {}, {8: (1.5, 3.0)})


@pytest.mark.parametrize(
    ("metres2", "pixel", "fewest"),
    [
        (0, 20.0, 1),
        (1, 20.0, 1),
        (400, 20.0, 1),
        (401, 20.0, 2),
        (2000, 19.9929, 5),
        (2000, 10.0, 20),
        (40_000, 20, 100),
    ],
)
def test_square_metres_become_pixels(metres2: float, pixel: float, fewest: int) -> None:
    """As many pixels as cover the area; half a pixel more or less in a thousand is the projection's."""
    assert SclRule(CLASSES, min_size=metres2).on_grid((pixel, pixel)).fewest == fewest


def test_a_rule_says_itself_in_words_and_in_its_record() -> None:
    rule = SclRule((3, 9), {9: 100.0}, {3: 40.0}, (0, 2))
    assert rule.in_words() == (
        "SCL 3 (cloud shadow), 9 (cloud, high probability); opened: 3 by 40 m; dilated: 9 by 100 m; "
        "masks of the user's: all but 0, 2"
    )
    assert rule.record() == {
        "rule": "scl",
        "classes": [3, 9],
        "dilation": {"9": 100.0},
        "opening": {"3": 40.0},
        "given_clear": [0, 2],
    }
    assert SclRule((3, 9)).record() == {"rule": "scl", "classes": [3, 9], "dilation": {}}
    sized = SclRule((9,), {9: 60.0}, min_size=2000.0)
    assert sized.in_words() == "SCL 9 (cloud, high probability); patches of at least 2000 m²; dilated: 9 by 60 m"
    assert sized.record() == {"rule": "scl", "classes": [9], "dilation": {"9": 60.0}, "min_size": 2000.0}
    assert SclRule((), {}, {}, (0,)).in_words() == "no class of SCL; masks of the user's: all but 0"


def test_degrees_and_feet_become_metres() -> None:
    degrees = RasterGrid("EPSG:4326", (10.0, 0.001, 0.0, 60.05, 0.0, -0.001), (100, 100))
    assert degrees.pixel_metres() == pytest.approx((111.32 / 2, 111.32))  # the cosine of 60° is a half
    feet = RasterGrid("EPSG:2263", (0.0, 100.0, 0.0, 0.0, 0.0, -100.0), (9, 9))  # US survey feet
    assert feet.pixel_metres() == pytest.approx((30.48, 30.48), rel=1e-5)


# ------------------------------------------------------------------------------------------- one more rule of masks


@dataclass(frozen=True)
class Specks:
    """SCL classes, but for specks: a masked pixel with few masked ones within a square around it counts as clear."""

    classes: tuple[int, ...]
    half_side: int
    fewest: int

    name = "specks"

    @property
    def reach(self) -> int:
        return self.half_side

    def masked(self, scl: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
        masked = self.masked_by_class(scl)
        seen = masked if inside is None else masked & inside
        padded = np.pad(seen, self.half_side).astype(int)
        side = 2 * self.half_side + 1
        windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
        return masked & (windows.sum(axis=(2, 3)) >= self.fewest)

    def masked_by_class(self, scl: np.ndarray) -> np.ndarray:
        return np.isin(scl, self.classes)

    def arguments(self) -> dict[str, str]:
        return {"classes": ",".join(map(str, self.classes)), "square": f"{self.half_side}/{self.fewest}"}

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, str]) -> Self:
        half_side, fewest = map(int, arguments["square"].split("/"))
        return cls(tuple(map(int, arguments["classes"].split(","))), half_side, fewest)


@dataclass(frozen=True)
class SpecksRule:
    metres: float
    fewest: int

    def on_grid(self, pixel_metres: tuple[float, float]) -> Specks:
        return Specks((0, 8, 9), int(self.metres / max(pixel_metres)), self.fewest)

    def record(self) -> dict[str, Any]:
        return {"rule": "specks", "metres": self.metres, "fewest": self.fewest}

    def in_words(self) -> str:
        return "specks"


class WithoutSpecks(RunContext):
    """A run that keeps what specks of clouds would mask: 3 × 3 pixels of 20 m, at least 4 of them masked."""

    @property
    def mask(self) -> MaskRule:
        return SpecksRule(25.0, 4)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "_MASKS", dict(masks._MASKS))
    masks.register("specks", Specks)


def masked_pixel_by_pixel(scl: np.ndarray) -> np.ndarray:
    masked = np.isin(scl, (0, 8, 9))
    found = np.zeros(scl.shape, bool)
    for row, column in np.argwhere(masked):
        around = masked[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
        found[row, column] = around.sum() >= 4
    return found


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_a_rule_from_this_module_alone_masks_composites(tmp_path: Path, engine: EngineName) -> None:
    """Against numpy and PROJ, which are given the same mask as an SCL of two classes."""
    rng, raw = np.random.default_rng(4), []
    grid = Grid.utm(-149.6, 68.63, 140, zone=5)
    for number in range(3):
        scl = rng.choice([4, 5, 8, 9], grid.shape, p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8)
        scl[50:90, 30:80] = 9
        dn = noisy_dn(rng, grid.shape)
        write_product(tmp_path / "archive", product_name(number), grid, {"B04": dn}, scl)
        equivalent = np.where(masked_pixel_by_pixel(scl), 9, 4)
        assert 0.1 < ((equivalent == 4) & np.isin(scl, (8, 9))).mean() < 0.5  # specks
        raw.append(RawScene(dn, equivalent, grid.crs, grid.geotransform, 0))
    cell = Gridcell("c", shapely.box(-149.65, 68.617, -149.58, 68.643))  # beyond the scenes in the west
    parameters = parameters_for(tmp_path, tmp_path / "archive", [cell], engine=engine, count=True)
    context = WithoutSpecks(parameters, rank=1)
    outcome = run(parameters, context)["c", "B04"]
    tr = parameters.pixel_size
    window = Lattice(*tr).owned(cell.bounds)
    expected, count = composite(cell.polygon, raw, (window.x0, window.y0, window.x1, window.y1), tr)
    found = pixels(outcome.path)
    valid = expected != -9999
    assert 0.2 < valid.mean() < 0.9
    assert np.array_equal(found != -9999, valid)
    assert np.array_equal(pixels(context.workspace.count("c", "B04")), count)
    assert np.abs(found[valid] - expected[valid]).max() <= 1
    assert (found[valid] == expected[valid]).mean() > 0.999  # a half rounds either way by the last bit of a weight


def test_it_is_part_of_vrts_and_of_the_record(tmp_path: Path) -> None:
    grid = Grid.utm(-149.6, 68.63, 60, zone=5)
    scl = np.full(grid.shape, 4, np.uint8)
    write_product(tmp_path / "archive", product_name(0), grid, {"B04": np.full(grid.shape, 500, np.uint16)}, scl)
    cell = Gridcell("c", shapely.box(-149.605, 68.625, -149.595, 68.635))
    parameters = parameters_for(tmp_path, tmp_path / "archive", [cell])
    context = WithoutSpecks(parameters, rank=1)
    assert run(parameters, context)["c", "B04"].status == "written"
    assert run(parameters, context)["c", "B04"].status == "kept"
    record = json.loads(context.workspace.record("c", "B04").read_text())
    assert record["inputs"]["mask"] == {"rule": "specks", "metres": 25.0, "fewest": 4}
    (vrt,) = context.workspace.vrts(1).glob("*_masked.vrt")
    assert 'mask="specks" classes="0,8,9" square="1/4"' in vrt.read_text()
    assert "<BufferRadius>1<" in vrt.read_text()
    assert run(parameters)["c", "B04"].status == "written"  # the rule of the parameters is another


def test_two_masks_cannot_share_a_name() -> None:
    with pytest.raises(ValueError, match="already is a mask 'scl'"):
        masks.register("scl", Specks)
