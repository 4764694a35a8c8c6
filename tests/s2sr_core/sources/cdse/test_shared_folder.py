"""Several runs that download into one folder at the same time."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import shapely
from support.scenes import parameters_for, product_name
from support.waiting import DEADLINE

from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.errors import InputError, ProductError
from s2sr_core.parameters import RunParameters
from s2sr_core.selection.judge import find_products
from s2sr_core.sources import source_of
from s2sr_core.sources.cdse.shared_folder import completing
from s2sr_core.validation import checked
from s2sr_sandbox.server import Fault

HOLDER = """
import sys
from pathlib import Path
from s2sr_core.products.names import ProductName
from s2sr_core.sources.cdse.shared_folder import completing
with completing(Path(sys.argv[1]), ProductName.parse(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


def fetched(client: Any, bands: list[str], number: int = 0) -> int:
    total: int = client.downloader().download(client.product(number), bands)
    return total


def files_of(client: Any) -> list[Path]:
    return sorted(path for path in (client.folder / "imagery_raw").rglob("*") if path.is_file())


def test_each_file_comes_once_whoever_asks_for_it(connect: Any) -> None:
    """Eight at once want one product, half of them with a band more."""
    client = connect()
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(lambda n: fetched(client, ["B03", "B04"][: 1 + n % 2]), range(8)))
    asked = Counter(request.path.rpartition("Nodes(")[2] for request in client.sandbox.byte_requests())
    assert len(asked) == 5  # manifest, metadata, SCL and two bands
    assert set(asked.values()) == {1}
    assert sum(sizes) == sum(path.stat().st_size for path in files_of(client))
    assert len(files_of(client)) == 5  # neither locks nor parts are left


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_all_is_whole_and_the_connections_of_a_process_are_limited(
    connect: Any, archive: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr("fcntl.flock", refuse)
    client = connect(connections=2)

    def one(number: int) -> int:
        total: int = client.downloader(connections=2).download(client.product(number % 2), ["B04"])
        return total

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(6)))
    assert client.sandbox.connections_high_water <= 2
    assert not [request for request in client.sandbox.byte_requests() if request.status == 429]
    there = files_of(client)
    assert len(there) == 8
    for path in there:
        assert path.read_bytes() == (archive / path.relative_to(client.folder / "imagery_raw")).read_bytes()


def test_scl_alone_is_no_failure_of_an_archive(connect: Any, tmp_path: Path) -> None:
    client = connect()
    fetched(client, [], 0)
    fetched(client, ["B04"], 1)
    cells = [Gridcell("a", shapely.box(-149.61, 68.626, -149.60, 68.634))]
    chosen = parameters_for(tmp_path, client.folder / "imagery_raw", cells)
    found = find_products(source_of(chosen), chosen, cells)
    by_title = {candidate.title: candidate for candidate in found}
    alone, whole = (by_title[str(client.product(number).name)] for number in (0, 1))
    assert (alone.status, whole.status, len(found)) == ("no bands", "selected", 2)
    assert alone.reason == "SCL alone is there: the run that downloaded it did not need its bands"


def test_a_folder_of_downloads_is_no_folder_of_the_run(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    fields = dict(parameters_for(tmp_path, archive, [Gridcell("a", shapely.box(0, 0, 1, 1))])) | {"source": None}
    assert checked(RunParameters, fields).imagery_folder == tmp_path / "run" / "imagery_raw"
    fields["imagery"] = tmp_path / "shared"
    assert checked(RunParameters, fields).imagery_folder == tmp_path / "shared"
    for folder in (tmp_path / "run", tmp_path / "run" / "tmp", tmp_path / "run" / "tmp" / "deep"):
        with pytest.raises(InputError, match=r"^imagery = .*: is or lies in a folder that the run writes itself; give"):
            checked(RunParameters, fields | {"imagery": folder})
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^imagery = .*: cannot be written \(Not a directory\); give a folder"):
        checked(RunParameters, fields | {"imagery": tmp_path / "file" / "in it"}).check_inputs()


def test_the_lock_of_a_killed_run_is_free(tmp_path: Path) -> None:
    name = product_name()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), str(name)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(_hold, tmp_path)
            assert not waiting.done()
            other.kill()
            assert waiting.result(DEADLINE) == "held"
    assert not list((tmp_path / ".locks").iterdir())


def _hold(folder: Path) -> str:
    with completing(folder, product_name()):
        return "held"


def test_nothing_is_left_of_a_product_that_cannot_be_had(connect: Any) -> None:
    client = connect()
    client.sandbox.faults.add(Fault.error("", 404, "", "not found", host="download"))
    with pytest.raises(ProductError):
        fetched(client, ["B04"])
    assert [path.name for path in (client.folder / "imagery_raw").iterdir()] == [".locks"]
