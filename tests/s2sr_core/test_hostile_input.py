"""Whatever stands in a file, an answer or a command, it ends in a result or in one of the program's own errors."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import strategies as st
from support.hostile import damaged_json, damaged_text, try_all, try_others, words
from support.scenes import parameters_for, pixels, product_name, run, write_scene
from support.trees import BANDS, NEW, image_path, manifest_xml, metadata_xml, write_tree

import make_grid
import s2sr_pipeline
from deployments.clusters.job_record import JobRecord
from s2sr_core.cells.gridcell_csv import read_gridcells, write_gridcells
from s2sr_core.cells.gridcells import Gridcell, select_gridcells
from s2sr_core.command_line import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILURES
from s2sr_core.composites.mosaic import mosaic_cells
from s2sr_core.composites.verify import verify
from s2sr_core.errors import InputError, ProductError, S2SRError
from s2sr_core.outputs import indices
from s2sr_core.parameters import RunParameters
from s2sr_core.planning.campaign import Campaign
from s2sr_core.products.manifest import MANIFEST
from s2sr_core.products.names import ProductName
from s2sr_core.products.safe import band_files, read_product
from s2sr_core.products.tile_metadata import TILE_METADATA, read_tile_grid
from s2sr_core.run_context import RunContext
from s2sr_core.selection.judge import find_products
from s2sr_core.selection.line import Result
from s2sr_core.selection.query_manifest import mark_not_needed, read_query_manifest, write_query_manifest
from s2sr_core.sources.cdse.auth import TokenSource
from s2sr_core.sources.cdse.catalogue import Catalogue, parse_entries
from s2sr_core.sources.cdse.http import Http, RetryPolicy
from s2sr_core.sources.cdse.settings import Credentials
from s2sr_core.sources.source import FoundProduct, RemoteProduct, UnusableEntry
from s2sr_core.workspace import Workspace
from s2sr_sandbox.grid import Grid

CELL = Gridcell("c", shapely.box(-149.606, 68.6275, -149.595, 68.6325))
GRID = Grid.utm(-149.6, 68.63, 60, zone=5)
UUID = "01234567-89ab-cdef-0123-456789abcdef"


@dataclass(frozen=True)
class Folder:
    """A folder in which checks may write, with a run that ended well in ``run/``."""

    path: Path
    parameters: RunParameters
    pixels: np.ndarray
    _number: Iterator[int]

    def new(self) -> Path:
        """An empty folder."""
        made = self.path / f"example{next(self._number)}"
        made.mkdir()
        return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    path = tmp_path_factory.mktemp("hostile")
    write_scene(path / "archive", product_name(), GRID, np.random.default_rng(1))
    parameters = parameters_for(path, path / "archive", [CELL])
    run(parameters)
    context = RunContext(parameters)
    [outcome] = run(parameters).values()
    indices.update_composite_index(context, [outcome])
    indices.write_run_record(context, {}, [])
    return Folder(path, parameters, pixels(outcome.path), itertools.count())


# ------------------------------------------------------------------------------------------------ XML of products

TILE_XML = """<?xml version="1.0"?><n1:Level-2A_Tile_ID xmlns:n1="x"><n1:Geometric_Info><Tile_Geocoding>
<HORIZONTAL_CS_CODE>EPSG:32605</HORIZONTAL_CS_CODE><Size resolution="20"><NROWS>60</NROWS><NCOLS>60</NCOLS></Size>
<Geoposition resolution="20"><ULX>600000</ULX><ULY>7600000</ULY><XDIM>20</XDIM><YDIM>-20</YDIM></Geoposition>
</Tile_Geocoding></n1:Geometric_Info></n1:Level-2A_Tile_ID>"""
METADATA_XML = metadata_xml(offsets=dict.fromkeys(BANDS, -1000)).replace(
    "<n1:General_Info>", f"<n1:General_Info><PRODUCT_URI>{NEW}.SAFE</PRODUCT_URI>"
)
MANIFEST_XML = manifest_xml([(f"./{image_path(NEW, band)}", 9, "MD5", "0" * 32) for band in ("SCL", "B04")])


def check_reason(error: ProductError) -> None:
    assert len(error.reason) < 500


def read_as_product(folder: Folder, file: str, content: bytes) -> None:
    product_path = write_tree(folder.new(), NEW, bands=("SCL", "B04"))
    (product_path / file).write_bytes(content)
    try:
        product = read_product(product_path)
    except ProductError as error:
        check_reason(error)
        return
    files = band_files(product, ("SCL", *BANDS))
    assert {*files.found, *files.errors} == {"SCL", *BANDS}
    for error in files.errors.values():
        check_reason(error)
    assert all(file.path.resolve().is_relative_to(product_path.resolve()) for file in files.found.values())
    assert all(abs(offset.dn) <= 10_000 for offset in product.offsets)


def read_tile(folder: Folder, content: bytes) -> None:
    image = folder.new() / "IMG_DATA" / "R20m" / "image.jp2"
    (image.parents[2] / TILE_METADATA).write_bytes(content)
    with contextlib.suppress(ProductError):
        grid = read_tile_grid(ProductName.parse(NEW), image)
        assert grid is not None


# ------------------------------------------------------------------------------------------------ catalogue

ENTRY = {
    "Id": UUID,
    "Name": f"{NEW}.SAFE",
    "ContentLength": 1000,
    "Online": True,
    "Footprint": "geography'SRID=4326;POLYGON ((-150 68, -149 68, -149 69, -150 69, -150 68))'",
    "GeoFootprint": {"type": "Polygon", "coordinates": [[[-150, 68], [-149, 68], [-149, 69], [-150, 68]]]},
    "Attributes": [{"Name": "cloudCover", "Value": 12.5}],
}


@dataclass(frozen=True)
class Listing:
    """A source that lists what it was given."""

    entry: RemoteProduct | UnusableEntry

    def find(self, *_: object) -> Iterator[Any]:
        entry = self.entry
        yield entry if isinstance(entry, UnusableEntry) else FoundProduct(str(entry.name), lambda: entry)


def list_entry(folder: Folder, entry: Any) -> None:
    [parsed] = parse_entries([json.loads(json.dumps(entry))])
    found = find_products(Listing(parsed), folder.parameters, [CELL])  # type: ignore[arg-type]
    path = folder.new() / "query_manifest.csv"
    write_query_manifest(path, found)
    selected = [candidate for candidate in found if candidate.status == "selected"]
    assert [candidate.product for candidate in read_query_manifest(path)] == [each.product for each in selected]
    indices.write_phase1_errors(path.with_name("errors.csv"), [Result(each, each) for each in found])


PAGE = json.dumps({"@odata.count": 1, "value": [ENTRY], "@odata.nextLink": "http://127.0.0.1:9/odata/v1/Products"})
TOKENS = json.dumps({"access_token": "a", "expires_in": 600, "refresh_token": "r", "refresh_expires_in": 3600})


def http_answer(body: str) -> str:
    """An answer of a server, as it is sent."""
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLocation: http://127.0.0.1/x\r\nRetry-After: 1"
    return f"{head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"


class Answering(socketserver.ThreadingTCPServer):
    """A server that gives the same bytes as the answer to every request."""

    daemon_threads = allow_reuse_address = True
    answer = b""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            length = 0
            while (line := self.rfile.readline()).strip():
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            self.rfile.read(length)
            assert isinstance(self.server, Answering)
            with contextlib.suppress(OSError):
                self.wfile.write(self.server.answer)


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """The address of such a server."""
    with Answering(("127.0.0.1", 0), Answering.Handler) as server:
        server.answer = answer
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


ONCE = RetryPolicy(attempts=1)
DAY = datetime(2019, 7, 1, tzinfo=UTC), datetime(2019, 7, 2, tzinfo=UTC)


def ask_catalogue(_: Folder, answer: bytes) -> None:
    with answering(answer) as url, contextlib.suppress(S2SRError):
        for entry in Catalogue(Http((url,), ONCE), url).search(shapely.box(0, 0, 1, 1), *DAY):
            assert isinstance(entry, RemoteProduct | UnusableEntry)


def log_in(folder: Folder, answer: bytes) -> None:
    password = folder.path / "password"
    password.touch(mode=0o600)
    password.write_text("marker-of-the-password")
    with answering(answer) as url:
        tokens = TokenSource(Http((url,), ONCE), url, Credentials("me", password))
        try:
            assert isinstance(tokens.token(), str)
        except S2SRError as error:
            check_no_password(error)


def check_no_password(error: S2SRError) -> None:
    assert "marker-of-the-password" not in str(error)
    assert len(str(error)) < 1500


# ------------------------------------------------------------------------------------------------ grid CSV

GRID_CSV = (
    "cell_id,xmin,ymin,xmax,ymax,geometry\n"
    'a,0,0,1,1,"POLYGON ((0 0, 0 1, 1 1, 1 0, 0 0))"\n'
    'b,1,0,2,1,"POLYGON ((1 0, 1 1, 2 1, 2 0, 1 0))"\n'
)


def check_sentence(error: InputError) -> None:
    assert len(str(error)) < 1500
    assert "\n" not in str(error)


def read_grid(folder: Folder, content: bytes) -> None:
    path = folder.new() / "cells.csv"
    path.write_bytes(content)
    try:
        cells = read_gridcells(path)
    except InputError as error:
        check_sentence(error)
        return
    write_gridcells(cells, path)
    assert read_gridcells(path) == cells
    select_gridcells(cells, shapely.box(0, 0, 1, 1))


# ------------------------------------------------------------------------------------------------ what a run reads back


def spoil(folder: Folder, name: str, content: bytes) -> RunParameters:
    """A copy of the run in which the file ``name`` has another content."""
    work_dir = folder.new() / "run"
    for path in folder.parameters.work_dir.rglob("*"):
        if path.is_file() and "tmp" not in path.relative_to(folder.parameters.work_dir).parts:
            copy = work_dir / path.relative_to(folder.parameters.work_dir)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.hardlink_to(path)
    target = work_dir / name
    target.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return folder.parameters.model_copy(update={"work_dir": work_dir})


def read_back(folder: Folder, name: str, content: bytes) -> None:
    """Whatever the file says, a run composites, ``--verify`` finds, and tables are written."""
    parameters = spoil(folder, name, content)
    context, workspace = RunContext(parameters), Workspace(parameters.work_dir)
    verify(workspace)
    [outcome] = run(parameters).values()
    assert outcome.status in ("written", "kept"), outcome.reason
    indices.begin_run(workspace)
    indices.update_composite_index(context, [])
    indices.update_composite_index(context, [outcome])
    mosaic_cells(workspace, parameters)
    indices.write_run_record(context, {}, [])
    verify(workspace)
    np.testing.assert_array_equal(pixels(outcome.path), folder.pixels)


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


def read_record_of_composite(folder: Folder, record: Any) -> None:
    read_back(folder, "composites/c/cell_c_B04_median_clip.json", as_bytes(record))


def read_jobs(folder: Folder, record: Any) -> None:
    work_dir = folder.new()
    path = JobRecord(Workspace(work_dir)).path
    path.parent.mkdir()
    path.write_bytes(as_bytes(record))
    JobRecord(Workspace(work_dir)).jobs()


def read_ledger(folder: Folder, record: Any) -> None:
    parameters = folder.parameters.model_copy(update={"work_dir": folder.new()})
    path = parameters.work_dir / "indices" / "blocks" / "c.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(as_bytes(record))
    campaign = Campaign(parameters, 4)
    for entry in campaign.ledger().values():
        campaign.idempotency_key(campaign.next_attempt(entry))


def read_manifest(folder: Folder, content: bytes) -> None:
    path = folder.new() / "query_manifest.csv"
    path.write_bytes(content)
    try:
        candidates = read_query_manifest(path)
    except InputError:
        return
    mark_not_needed(path, [])
    write_query_manifest(path, candidates)
    assert [each.product for each in read_query_manifest(path)] == [each.product for each in candidates]


# ------------------------------------------------------------------------------------------------ command lines


def options_of(parameters: RunParameters) -> list[list[str]]:
    """A command that is right, option by option."""
    return [
        ["--bbox", "-149.7", "68.6", "-149.5", "68.7"],
        ["--grid-csv", str(parameters.grid_csv)],
        ["--start", "2019-06-01"],
        ["--end", "2019-09-01T00:00:00Z"],
        ["--work-dir", str(parameters.work_dir)],
        ["--source", str(parameters.source)],
        ["--bands", "B04"],
        ["--months", "6-8"],
        ["--tiles", "05WPS"],
        ["--min-baseline", "02.00"],
        ["--max-cloud-cover", "90"],
        ["--scl-mask", "0", "1", "3"],
        ["--scl-dilation", "3=60"],
        ["--tr", "0.001", "0.001"],
        ["--workers", "2"],
        ["--cluster", "local"],
        ["--no-tap"],
    ]


GRID_OPTIONS = [
    ["--bbox", "0", "0", "10", "10"],
    ["--out", "grid.csv"],
    ["--cell-size", "10"],
    ["--within", "land.csv"],
]
argument = st.one_of(words, st.floats().map(repr), st.integers().map(str), st.sampled_from(["1e-7", "-1e-3", "-"]))


def is_argument(word: str) -> bool:
    """Whether a system can hand it over; ``/`` and ``~``, which would be searched for hours, are left out."""
    try:
        os.fsencode(word)
    except UnicodeEncodeError:
        return False
    return "\0" not in word and len(word) < 100_000 and bool(word.strip("/")) and not word.startswith("~")


@st.composite
def damaged_words(draw: st.DrawFn, options: list[list[str]], most: int) -> list[str]:
    """Options with something else in up to ``most`` places."""
    options = [list(option) for option in options]
    for _ in range(draw(st.integers(1, most))):
        option, other = draw(st.sampled_from(options)), draw(argument)
        match draw(st.integers(0, 7)):
            case 0:
                option[:] = [other]
            case 1:
                option.append(other)
            case 2:
                option[:] = [f"{option[0]}={other}"]
            case _:
                option[draw(st.integers(min(1, len(option) - 1), len(option) - 1))] = other
    return [word for option in options for word in option if is_argument(word)]


def call(main: Callable[[], int], prog: str, argv: list[str]) -> None:
    """Run a command line; what it refuses is one sentence."""
    before, output, errors = sys.argv, io.StringIO(), io.StringIO()
    sys.argv = [prog, *argv]
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            code = main()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else -1
    finally:
        sys.argv = before
    assert code in (EXIT_DONE, EXIT_FAILURES, EXIT_BAD_INPUT), code
    said = errors.getvalue()
    assert "Traceback" not in said
    if code == EXIT_BAD_INPUT:
        assert said.startswith(f"{prog}: ")
        assert said.count("\n") == 1
        assert len(said) < 3000


def command_line(folder: Folder, argv: list[str]) -> None:
    call(s2sr_pipeline.main, "s2sr-pipeline", [*argv, "--plan"])


def explain(folder: Folder, point: tuple[str, str]) -> None:
    argv = [word for word in point if is_argument(word)]
    call(s2sr_pipeline.main, "s2sr-pipeline", ["--work-dir", str(folder.parameters.work_dir), "--explain", *argv])


def grid_command(folder: Folder, argv: list[str]) -> None:
    with contextlib.chdir(folder.new()):
        call(make_grid.main, "s2sr-make-grid", argv)


# ------------------------------------------------------------------------------------------------ all of them


@dataclass(frozen=True)
class Case:
    """What is read, from which examples, and how many of them take a second or so."""

    check: Callable[[Folder, Any], None]
    strategy: Callable[[Folder], st.SearchStrategy[Any]]
    examples: int


def composite_record(folder: Folder) -> Any:
    path = folder.parameters.work_dir / "composites/c/cell_c_B04_median_clip.json"
    return json.loads(path.read_text(encoding="utf-8"))


def table(folder: Folder, name: str) -> str:
    return (folder.parameters.work_dir / "indices" / name).read_text(encoding="utf-8")


def manifest_of_query(folder: Folder) -> str:
    found = find_products(Listing(parse_entries([ENTRY])[0]), folder.parameters, [CELL])  # type: ignore[arg-type]
    path = folder.new() / "query_manifest.csv"
    write_query_manifest(path, found)
    return path.read_text(encoding="utf-8")


JOBS = [{"cluster": "slurm", "job_id": "12"}, {"cluster": "pbs", "job_id": "1.host"}]
LEDGER_ENTRY = {
    "block": "c",
    "key": "k",
    "state": "running",
    "attempt": 1,
    "flow_run_id": UUID,
    "message": "",
    "changed": "",
}
COMMA = r"[,\n\"() ]+"
JSON_OR_HEADER = r"[,:{}\[\]\"\r\n ]+"
CASES = {
    "MTD_MSIL2A.xml": Case(
        lambda folder, content: read_as_product(folder, "MTD_MSIL2A.xml", content),
        lambda _: damaged_text(METADATA_XML),
        150,
    ),
    "manifest.safe": Case(
        lambda folder, content: read_as_product(folder, MANIFEST, content), lambda _: damaged_text(MANIFEST_XML), 150
    ),
    "MTD_TL.xml": Case(read_tile, lambda _: damaged_text(TILE_XML), 200),
    "catalogue": Case(list_entry, lambda _: damaged_json(ENTRY), 200),
    "answer of the catalogue": Case(ask_catalogue, lambda _: damaged_text(http_answer(PAGE), JSON_OR_HEADER), 60),
    "answer to a login": Case(log_in, lambda _: damaged_text(http_answer(TOKENS), JSON_OR_HEADER), 60),
    "grid CSV": Case(read_grid, lambda _: damaged_text(GRID_CSV, COMMA), 200),
    "record of a composite": Case(read_record_of_composite, lambda folder: damaged_json(composite_record(folder)), 25),
    "run.json": Case(
        lambda folder, record: read_back(folder, "indices/run.json", as_bytes(record)),
        lambda folder: damaged_json(json.loads(table(folder, "run.json"))),
        25,
    ),
    "composite_index.csv": Case(
        lambda folder, content: read_back(folder, "indices/composite_index.csv", content),
        lambda folder: damaged_text(table(folder, "composite_index.csv"), COMMA),
        25,
    ),
    "query_manifest.csv": Case(read_manifest, lambda folder: damaged_text(manifest_of_query(folder), COMMA), 100),
    "jobs.json": Case(read_jobs, lambda _: damaged_json(JOBS), 150),
    "block of a campaign": Case(read_ledger, lambda _: damaged_json(LEDGER_ENTRY), 100),
    "command line": Case(command_line, lambda folder: damaged_words(options_of(folder.parameters), 2), 150),
    "--explain": Case(explain, lambda _: st.tuples(argument, argument), 30),
    "grid's command line": Case(grid_command, lambda _: damaged_words(GRID_OPTIONS, 1), 100),
}


@pytest.mark.parametrize("name", CASES)
def test_hostile_input_ends_in_a_result_or_in_an_error_of_the_program(folder: Folder, name: str) -> None:
    case = CASES[name]
    try_all(case.strategy(folder), lambda value: case.check(folder, value), examples=case.examples)


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_more_hostile_input(folder: Folder, name: str) -> None:
    case = CASES[name]
    try_others(case.strategy(folder), lambda value: case.check(folder, value), examples=50 * case.examples)
