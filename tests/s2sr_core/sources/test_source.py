"""Which source a run has, and that another one needs no change of the program."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import shapely
from support.independent import RawScene, composite
from support.scenes import parameters_for, pixels, product_name, run, write_scene
from support.shelf import Shelf
from support.trees import OLD, write_tree

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError, Step
from s2sr_core.geo.lattice import Window
from s2sr_core.parameters import RunParameters, Stage
from s2sr_core.products.checked_files import CheckedFiles
from s2sr_core.products.names import ProductName
from s2sr_core.scenes.occupancy import Occupancy
from s2sr_core.selection.candidates import selected_products
from s2sr_core.selection.downloads import download
from s2sr_core.selection.judge import find_products
from s2sr_core.sources import source_of
from s2sr_core.sources.archive import Archive, Downloaded
from s2sr_core.sources.cdse.source import Cdse
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid

CELL = Gridcell("a", shapely.box(-149.6055, 68.6255, -149.5985, 68.6295))
GRID = Grid.utm(-149.6, 68.63, 64, zone=5)


def online(tmp_path: Path, stage: Stage) -> RunParameters:
    return parameters_for(tmp_path, tmp_path, [CELL]).model_copy(update={"source": None, "stage": stage})


def test_the_parameters_tell_the_source(tmp_path: Path) -> None:
    assert source_of(parameters_for(tmp_path, tmp_path, [CELL])) == Archive(tmp_path)
    imagery = tmp_path / "run" / "imagery_raw"
    assert source_of(online(tmp_path, "composite")) == Downloaded(imagery)
    stages: tuple[Stage, ...] = ("all", "query", "download")
    for stage in stages:
        checked = CheckedFiles(Workspace(tmp_path / "run"))
        assert source_of(online(tmp_path, stage)) == Cdse(imagery, connections=4, checked=checked, mode="auto")


def test_sources_travel(tmp_path: Path) -> None:
    for source in (Archive(tmp_path), Downloaded(tmp_path), Cdse(tmp_path, 2)):
        assert pickle.loads(pickle.dumps(source)) == source


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (Archive(Path("/nowhere")), "source = '/nowhere': holds no .SAFE product; give the folder that holds them."),
        (Downloaded(Path("/n")), "stage = 'composite': finds no product in /n; download some first."),
    ],
)
def test_a_folder_without_products_is_bad_input(tmp_path: Path, source: Archive, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        find_products(source, online(tmp_path, "all"), [CELL])
    assert str(caught.value) == sentence


def test_an_archive_opens_what_it_described(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "archive", OLD)
    source = Archive(tmp_path / "archive")
    (product,) = selected_products(find_products(source, online(tmp_path, "all"), [CELL]))
    assert source.open(product) is product
    assert product.path == path


def test_cdse_asks_for_an_account_unless_it_only_queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CDSE_USERNAME", "S2SR_CATALOGUE_URL"):
        monkeypatch.delenv(variable, raising=False)
    source = Cdse(tmp_path, 2)
    source.check("query")
    with pytest.raises(InputError, match=r"^CDSE_USERNAME = '': is not set"):
        source.check("all")
    monkeypatch.setenv("S2SR_CATALOGUE_URL", "ftp://example.org")
    with pytest.raises(InputError, match=r"^S2SR_CATALOGUE_URL = "):
        source.check("query")


@pytest.fixture
def scenes(tmp_path: Path) -> dict[ProductName, RawScene]:
    rng, names = np.random.default_rng(3), [product_name(number) for number in range(3)]
    return {name: write_scene(tmp_path / "archive", name, GRID, rng)["B04"] for name in names}


def test_products_from_a_dictionary_become_the_same_composites(
    tmp_path: Path, scenes: dict[ProductName, RawScene]
) -> None:
    """To the bit as from a folder of the same products, and but for rounding as numpy computes them."""
    parameters = online(tmp_path, "all")
    shelf = Shelf({name: {"B04": scene} for name, scene in scenes.items()}, GRID, tmp_path / "run" / "imagery_raw")
    found = find_products(shelf, parameters, [CELL])
    assert [(candidate.title, candidate.status, candidate.step) for candidate in found] == [
        *((str(name), "selected", None) for name in sorted(scenes)),
        ("dust", "failed", Step.QUERY),
    ]
    downloads = [download(shelf, product, parameters.bands) for product in selected_products(found)]
    assert all(each.size > 0 and each.candidate.status == "selected" for each in downloads)
    assert download(shelf, selected_products(found)[0], parameters.bands).size == 0

    fetched = run(parameters.model_copy(update={"source": shelf.folder, "work_dir": tmp_path / "fetched"}))
    plain = run(parameters.model_copy(update={"source": tmp_path / "archive", "work_dir": tmp_path / "plain"}))
    made = pixels(fetched["a", "B04"].path)
    assert fetched["a", "B04"].scenes == 3
    assert np.array_equal(made, pixels(plain["a", "B04"].path))
    window = parameters.lattice.owned(CELL.bounds)
    corners = (window.x0, window.y0, window.x1, window.y1)
    expected, _ = composite(CELL.polygon, list(scenes.values()), corners, parameters.pixel_size)
    assert np.array_equal(made != -9999, expected != -9999)
    assert (made == expected).mean() > 0.99


def test_a_product_that_cannot_be_fetched_is_a_result_with_its_reason(tmp_path: Path) -> None:
    name = product_name()
    shelf = Shelf({name: {}}, GRID, tmp_path / "imagery_raw")
    (product,) = selected_products(find_products(shelf, online(tmp_path, "all"), [CELL]))
    failed = download(shelf, product, ["B04"])
    assert failed.size == 0
    assert (failed.candidate.status, failed.candidate.step) == ("failed", Step.DOWNLOAD)
    assert failed.candidate.reason == "it fell off the shelf"
    assert failed.candidate.path == shelf.folder / name.folder


def test_a_source_is_told_which_pixels_count_if_that_is_known(tmp_path: Path) -> None:
    """A file that a network filesystem does not show yet leads to whole images."""
    asked: list[object] = []

    class Asked(Shelf):
        def fetch(self, product: object, bands: object, windows: object = None) -> int:
            asked.append(windows)
            return 0

    shelf, occupancy = Asked({product_name(): {}}, GRID, tmp_path), tmp_path / "occupancy.npz"
    (product,) = selected_products(find_products(shelf, online(tmp_path, "all"), [CELL]))
    for path in (None, occupancy):
        failed = download(shelf, product, ["B04"], path).candidate
        assert (failed.status, failed.step) == ("failed", Step.READ)  # nothing of it is on the shelf
        assert failed.reason.startswith("cannot be read: ")
    Occupancy.of(np.ones((64, 64), bool), Window(0, 0, 64, 64), (640, 640)).write(occupancy)
    download(shelf, product, ["B04"], occupancy)
    assert asked == [None, None, (Window(0, 0, 64, 64),)]
