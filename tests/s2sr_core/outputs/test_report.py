from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest
import shapely
import yaml
from support.browsing import browser
from support.rasters import write_raster

from s2sr_core.cells.gridcell_csv import write_gridcells
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.outputs.report import RunReport, products_of, report_of, write_report
from s2sr_core.outputs.summary import Summary
from s2sr_core.parameters import RunParameters
from s2sr_core.run_context import RunContext

ROOT = Path(__file__).resolve().parents[3]
#: What a product's metadata or a grid could hold.
HOSTILE = "<script>document.title='taken'</script><img src=http://192.0.2.1/x onerror=alert(1)>"


def table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def made(folder: Path, *, cells: int = 2, dates: int = 3, failures: int = 1, work_dir: str = "toolik") -> RunReport:
    """The report of a run whose tables and rasters are written by hand; cell 1 has one value less than cell 0 …"""
    context = RunContext(
        RunParameters(
            bbox=(0, 80, 90, 90),
            grid_csv=folder / "cells.csv",
            source=folder,
            start="2019-01-01",
            end="2030-01-01",
            work_dir=folder / work_dir,
            bands=["B04"],
            tr=(0.25, 0.25),
            tap=True,
        )
    )
    workspace, ids = context.workspace, [f"c{number}" for number in range(cells)]
    workspace.indices.mkdir(parents=True)
    grid = [Gridcell(cell_id, shapely.box(n, 89, n + 1, 90)) for n, cell_id in enumerate(ids)]
    write_gridcells(grid, workspace.selected_gridcells)
    columns = (
        "cell_id",
        "period",
        "band",
        "status",
        "scenes",
        "pixels",
        "valid_pixels",
        "valid_share",
        "path",
        "reason",
    )
    rows = []
    for number, cell_id in enumerate(ids):
        path = workspace.composite(cell_id, "B04")
        write_raster(path, 4 * number, 0, [[number + column for column in range(4)]] * 4, -9999)
        share = 1 - number / cells
        rows.append((cell_id, "", "B04", "written", 3, 16, 16, share, path.relative_to(workspace.composites), ""))
    table(workspace.composite_index, [dict(zip(columns, row, strict=True)) for row in rows])
    products = [
        {
            "product": f"product {number}",
            "status": "selected" if number % 3 else "filtered",
            "sensing_time": f"{2019 + number // 360}-{number // 30 % 12 + 1:02d}-{number % 28 + 1:02d}T21:58:23Z",
            "cloud_cover": 10 * (number % 10),
            "footprint": "POLYGON ((0 88, 3 88, 3 90, 0 90, 0 88))",
        }
        for number in range(dates)
    ]
    table(workspace.scene_index, products)
    if failures:
        error = {"product": HOSTILE, "band": "", "step": "open", "reason": HOSTILE}
        table(workspace.phase1_errors, [error] * failures)
    summary = Summary(cells, dates, dates, failures, written=cells, owned=16 * cells, valid=15 * cells)
    return report_of(context, summary, {"composites": 1.25}, products_of(context, queried=False))


class Page(HTMLParser):
    """What a browser would find in a page: its elements, their addresses, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        assert not [name for name, _ in attrs if name.startswith("on")], attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_says_what_the_run_did_and_needs_nothing_but_itself(tmp_path: Path) -> None:
    report = made(tmp_path)
    page = Page(report.as_html())
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert page.tags.count("img") == 4, "cells, the mosaic, and two composites"
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert report.summary.sentence() in page.text
    assert HOSTILE in page.text, "as text"
    assert "93.8 %" in page.text
    assert "Contains modified Copernicus Sentinel data [2019]" in page.text
    assert [picture.caption for picture in report.thumbnails] == ["c1 50 %", "c0 100 %"], "the fewest values first"
    assert [(day.date, day.used, day.left_out) for day in report.dates] == [
        ("2019-01-01", 0, "1 filtered"),
        ("2019-01-02", 1, ""),
        ("2019-01-03", 1, ""),
    ]
    assert {"tap", "tr", "bands", "source"} <= report.changed
    assert not {"engine", "count"} & report.changed


def test_the_markdown_of_prefect_is_of_the_same_run(tmp_path: Path) -> None:
    report = made(tmp_path)
    text = report.as_markdown()
    assert f"**{report.summary.sentence()}**" in text
    assert "| composites | `1.2 s` |" in text
    assert report.attribution in text
    assert f"- `{tmp_path}/toolik/indices/phase1_errors.csv`" in text


def test_a_large_run_has_a_page_of_a_bounded_size(tmp_path: Path) -> None:
    report = made(tmp_path, cells=40, dates=900, failures=300)
    assert (len(report.thumbnails), report.composites) == (24, 40)
    assert report.thumbnails[0].key == "c39"
    assert len(report.dates) == 400 < report.all_dates
    assert (len(report.failures), report.failed) == (100, 300)
    page = Page(report.as_html()).text
    assert "24 of 40 composites" in page
    assert f"The last 400 of {report.all_dates} dates" in page
    assert "The first 100 of 300" in page


def test_a_run_without_products_or_composites_has_a_page(tmp_path: Path) -> None:
    """As the query stage, or a run of which nothing came."""
    report = made(tmp_path, failures=0)
    workspace = RunContext(RunParameters(**{**report.parameters, "source": tmp_path})).workspace
    workspace.scene_index.write_text("product,status,reason,sensing_time\n")
    context = RunContext(RunParameters(**report.parameters))
    empty = report_of(context, Summary(2, 0, 0, 0), {}, products_of(context, queried=False))
    page = Page(empty.as_html())
    assert "Failures" not in page.text
    assert (empty.pictures, empty.thumbnails, empty.dates) == ([], [], [])


def test_the_citation_is_that_of_the_project(tmp_path: Path) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    report = made(tmp_path)
    for part in (citation["version"], citation["repository-code"], citation["authors"][0]["name"]):
        assert part in report.citation


@pytest.mark.slow
def test_a_browser_shows_it_and_what_is_hostile_stays_text(tmp_path: Path) -> None:
    report = made(tmp_path, work_dir="<b>toolik<")
    workspace = RunContext(RunParameters(**report.parameters)).workspace
    write_report(workspace, report)
    assert [path.name for path in workspace.work_dir.glob("*report*")] == ["report.html"], "nothing half-written"
    with browser() as chromium:
        chromium.open(workspace.report.as_uri())
        chromium.text("How to cite")
        assert chromium.driver.title == "<b>toolik<: report of a run"
        state = chromium.driver.execute_script(
            "return JSON.stringify([document.scripts.length, performance.getEntriesByType('resource')"
            ".filter(e => !e.name.startsWith('data:')).length, [...document.images].map(i => i.naturalWidth > 0), "
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth])"
        )
        assert json.loads(state) == [0, 0, [True] * 4, True]
        assert [entry for entry in chromium.driver.get_log("browser") if entry["level"] == "SEVERE"] == []
