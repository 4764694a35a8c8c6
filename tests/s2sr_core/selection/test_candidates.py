from __future__ import annotations

from pathlib import Path

from s2sr_core.selection.candidates import Candidate, size_of


def test_the_size_of_products_that_count_is_that_of_all_their_files(tmp_path: Path) -> None:
    product = tmp_path / "product"
    (product / "GRANULE").mkdir(parents=True)
    (product / "metadata.xml").write_bytes(bytes(10))
    (product / "GRANULE" / "image.jp2").write_bytes(bytes(200))
    here = Candidate("here", None, "selected", path=product)
    away = Candidate("away", None, "selected")
    assert size_of([]) == 0
    assert size_of([here, Candidate("other", None, "filtered", path=product)]) == 210
    assert size_of([here, here], at_most=300) == 300
    assert size_of([away], at_most=300) == 300
