from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from support.scenes import parameters_for, prepare, product_name, write_scene

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError, Step
from s2sr_core.selection.candidates import Candidate
from s2sr_core.selection.query_manifest import mark_not_needed, read_query_manifest, write_query_manifest
from s2sr_core.sources.source import RemoteProduct
from s2sr_sandbox.grid import Grid

#: A ring whose coordinates have no short decimal form.
OUTLINE = shapely.Polygon([(-150 + 1 / 3, 68.1), (-149, 68.1), (-149, 69 - 1 / 7)])


def candidate(number: int, status: str = "selected", **changes: object) -> Candidate[RemoteProduct]:
    name = product_name(number)
    fields = {"size": 800, "cloud_cover": 12.5, "online": True, "footprint": OUTLINE} | changes
    product = RemoteProduct(id=f"id-{number}", name=name, **fields)  # type: ignore[arg-type]
    return Candidate(str(name), product, status, name=name)  # type: ignore[arg-type]


def test_what_counts_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """To the last bit of the footprint; without what does not count."""
    path = tmp_path / "manifest.csv"
    silent = candidate(1, size=0, cloud_cover=None, footprint=None)
    others = [candidate(2, "filtered"), candidate(3, "offline", online=False)]
    unusable: Candidate[RemoteProduct] = Candidate("dust", None, "failed", "is not a product", Step.QUERY)
    write_query_manifest(path, [candidate(0), silent, *others, unusable])
    assert read_query_manifest(path) == [candidate(0), silent]
    table = pd.read_csv(path, keep_default_na=False)
    assert table["status"].tolist() == ["selected", "selected", "filtered", "offline", "failed"]
    assert table["product"].tolist()[-1] == "dust"
    assert table["sensing_time"].tolist()[:2] == ["2019-07-01T21:45:29Z", "2019-07-06T21:45:29Z"]


def test_columns_are_found_by_name_in_rows_of_any_length(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    write_query_manifest(path, [candidate(0), candidate(1)])
    table = pd.read_csv(path, dtype=str, keep_default_na=False).drop(columns=["s3_path", "footprint"])
    header, *rows = table[table.columns[::-1]].to_csv(index=False, lineterminator="\n").splitlines()
    path.write_text("\n".join([f"{header},note", f"{rows[0]},kept,more", "", rows[1], ""]))
    assert read_query_manifest(path) == [candidate(0, footprint=None), candidate(1, footprint=None)]


@pytest.mark.parametrize("status", ["not needed", "spared"])
def test_a_product_whose_bands_were_not_needed_counts_again(tmp_path: Path, status: str) -> None:
    """Also in the word that earlier versions wrote."""
    path = tmp_path / "manifest.csv"
    write_query_manifest(path, [candidate(0)])
    path.write_text(path.read_text().replace("selected", status))
    assert [each.title for each in read_query_manifest(path)] == [str(product_name(0))]


def test_scenes_that_are_not_needed_are_marked_and_no_others(tmp_path: Path) -> None:
    """One was marked by an earlier run, and is needed now; one was left out by the query, and stays so."""
    cell = Gridcell("a", shapely.box(-149.61, 68.625, -149.59, 68.635))
    write_scene(tmp_path / "archive", product_name(0), Grid.utm(-149.6, 68.63, 64), np.random.default_rng(0))
    [preparation] = prepare(parameters_for(tmp_path, tmp_path / "archive", [cell]))
    scene = preparation.scene
    assert scene is not None
    path = tmp_path / "manifest.csv"
    write_query_manifest(path, [candidate(0), candidate(1, "not needed"), candidate(2, "filtered")])
    mark_not_needed(path, [scene])
    table = pd.read_csv(path, keep_default_na=False)
    assert table["status"].tolist() == ["not needed", "selected", "filtered"]
    assert table["reason"].tolist() == ["SCL leaves none of its pixels unmasked in the selected gridcells", "", ""]
    assert table["bytes_saved"].astype(str).tolist() == ["0", "", ""]  # its band is there all the same


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("product,", "products,"), "cannot read"),
        ((str(product_name(0)), "dust"), "is not named like a Sentinel-2 Level-2A product"),
        (("800", "many"), "invalid literal for int"),
        (("POLYGON ((", "POLYGON (("[:-1]), "cannot read"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_bad_input(tmp_path: Path, change: tuple[str, str], sentence: str) -> None:
    path = tmp_path / "manifest.csv"
    write_query_manifest(path, [candidate(0)])
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(InputError, match=r"^stage = 'download': cannot read .*; run --stage query again\.$") as caught:
        read_query_manifest(path)
    assert sentence in str(caught.value)


def test_a_product_listed_twice_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    write_query_manifest(path, [candidate(0), candidate(0)])
    with pytest.raises(InputError, match="it lists a product twice"):
        read_query_manifest(path)


def test_no_manifest_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"finds no .*manifest\.csv; run --stage query first\.$"):
        read_query_manifest(tmp_path / "manifest.csv")
