from __future__ import annotations

import pytest
from osgeo import gdal

from s2sr_core.geo.memory_files import memory_folder


def fail_in_a_folder(folders: list[str]) -> None:
    with memory_folder() as folder:
        folders.append(folder)
        gdal.FileFromMemBuffer(f"{folder}/b", b"some")
        raise ValueError("of the block")


def test_files_are_gone_after_the_block_also_after_a_failure() -> None:
    with memory_folder() as first, memory_folder() as second:
        assert first != second
        gdal.FileFromMemBuffer(f"{first}/a", b"some")
        assert bytes(gdal.VSIGetMemFileBuffer_unsafe(f"{first}/a")) == b"some"
    folders = [first, second]
    with pytest.raises(ValueError, match="of the block"):
        fail_in_a_folder(folders)
    assert [gdal.VSIStatL(f"{each}{name}") for each in folders for name in ("", "/a", "/b")] == [None] * 9
