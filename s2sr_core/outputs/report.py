"""The report of a run: gathered once, shown as a page of HTML in the work folder and as Markdown in Prefect."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from s2sr_core import __version__
from s2sr_core.cells.gridcell_csv import read_gridcells
from s2sr_core.composites.composite_index import Row, rows_in
from s2sr_core.composites.tags import attribution
from s2sr_core.files import shown, write_text
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.geometry import from_wkt
from s2sr_core.outputs import maps
from s2sr_core.outputs.pictures import Picture, pictures_of
from s2sr_core.outputs.quicklook import thumbnail
from s2sr_core.outputs.summary import Summary, counted
from s2sr_core.parameters import RunParameters
from s2sr_core.products.bands import TRUE_COLOUR
from s2sr_core.run_context import RunContext
from s2sr_core.workspace import Workspace

#: Where the files of runs can be opened: a folder, and the address under which a server shows it.
RESULTS_FOLDER, RESULTS_URL = "S2SR_RESULTS_FOLDER", "S2SR_RESULTS_URL"
#: The most of each that the page shows: it stays below some megabytes, however large the run is.
_MOST_THUMBNAILS, _MOST_DATES, _MOST_FAILURES = 24, 400, 100
#: Pixels of a thumbnail's longest side.
_SIDE = 180
_CITATION = f"The S2SR authors: S2SR, version {__version__}. https://github.com/s2sr/s2sr"


@dataclass(frozen=True, slots=True)
class Day:
    """The products of one date of sensing (UTC): how many, how many of them count, percent of cloud, why not."""

    date: str
    products: int
    used: int
    cloud: float | None
    left_out: str


@dataclass(frozen=True, slots=True)
class RunReport:
    """What is to be known of a run.

    Attributes
    ----------
    numbers: what is counted, in words, and how many.
    overview, pictures, thumbnails: cells with footprints; mosaics; single composites, those with fewest values first.
    dates: by date of sensing, at most the last 400.
    failures: rows of the tables of errors, at most 100 of ``failed`` ones.
    changed: names of the parameters that differ from their defaults.
    """

    title: str
    summary: Summary
    finished: str
    numbers: Mapping[str, str]
    overview: Picture | None
    pictures: Sequence[Picture]
    thumbnails: Sequence[Picture]
    composites: int
    dates: Sequence[Day]
    all_dates: int
    failures: Sequence[Mapping[str, str]]
    failed: int
    parameters: Mapping[str, Any]
    changed: frozenset[str]
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    attribution: str
    citation: str
    paths: Sequence[Path]

    def as_markdown(self) -> str:
        """Parameters, versions, bytes, durations and paths, for the page of a flow run."""
        spent = {stage: f"{duration:.1f} s" for stage, duration in self.seconds.items()}
        return "\n\n".join(
            [
                f"**{self.summary.sentence()}**",
                "## Parameters",
                _table("parameter", self.parameters),
                "## Bytes and durations",
                _table("", {"downloaded": f"{self.summary.downloaded / 1e6:.1f} MB"} | spent),
                "## Versions",
                _table("", self.versions),
                f"## Paths on {platform.node()}",
                "\n".join(f"- {_link(path)}" for path in self.paths),
                f"## To cite\n\n{self.attribution}. {self.citation}",
            ]
        )

    def as_html(self) -> str:
        """One page that needs nothing but itself: no script, no other file. What others wrote is escaped."""
        folder = FileSystemLoader(Path(__file__).parent)
        templates = Environment(
            loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        templates.filters["as_text"] = _text
        return shown(templates.get_template("report.html.j2").render(report=self))


def report_of(context: RunContext, summary: Summary, seconds: Mapping[str, float], products: pd.DataFrame) -> RunReport:
    """Gather the report of a run that has ended, from its tables.

    ``seconds`` are those of each stage, by its title; ``products`` is what :func:`products_of` gives.
    """
    workspace, parameters = context.workspace, context.parameters
    composites = _composites(workspace, parameters) if summary.written + summary.kept else []
    failures = failures_of(workspace) if summary.failures else pd.DataFrame()
    dates = _dates(products)
    described = json.loads(parameters.model_dump_json())
    defaults = {name: field.default for name, field in RunParameters.model_fields.items()}
    used = products[products["status"] == "selected"]
    return RunReport(
        title=workspace.work_dir.name,
        summary=summary,
        finished=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        numbers=_numbers(summary),
        overview=_overview(workspace, used),
        pictures=_pictures(workspace, parameters, composites),
        thumbnails=_thumbnails(workspace, parameters, composites),
        composites=len({(row["cell_id"], row["period"]) for row in composites}),
        dates=dates[-_MOST_DATES:],
        all_dates=len(dates),
        failures=[{str(k): str(v) for k, v in row.items()} for row in failures[:_MOST_FAILURES].to_dict("records")],
        failed=len(failures),
        parameters=described,
        changed=frozenset(name for name in described if getattr(parameters, name) != defaults[name]),
        seconds=seconds,
        versions={"s2sr": __version__, "GDAL": gdal.__version__, "Python": platform.python_version()},
        attribution=attribution([datetime.fromisoformat(time) for time in used["sensing_time"] if time]),
        citation=_CITATION,
        paths=[path for path in _paths(workspace) if path.exists()],
    )


def write_report(workspace: Workspace, report: RunReport) -> None:
    """``report.html`` in the work folder."""
    write_text(workspace.report, report.as_html())


def products_of(context: RunContext, *, queried: bool) -> pd.DataFrame:
    """The products of a run as text, by sensing time: of the scene index, and what the query left out.

    ``queried`` says whether there is a query manifest of this run.
    """
    tables, only_queried = [], context.parameters.stage == "query"
    if not only_queried:
        tables.append(pd.read_csv(context.workspace.scene_index, dtype=str))
    if queried:
        found = pd.read_csv(context.workspace.query_manifest, dtype=str)
        looked_at = found["product"].isin([product for table in tables for product in table["product"]])
        tables.append(found[~looked_at & (only_queried | (found["status"] != "selected"))])
    return pd.concat(tables).fillna("").sort_values(["sensing_time", "product"], kind="stable")


def address_of(path: Path) -> str | None:
    """Where ``path`` can be opened, if it is below ``S2SR_RESULTS_FOLDER``, which a server shows."""
    folder, url = os.environ.get(RESULTS_FOLDER), os.environ.get(RESULTS_URL)
    absolute = path.absolute()
    if not (folder and url and absolute.is_relative_to(Path(folder).absolute())):
        return None
    inside = absolute.relative_to(Path(folder).absolute()).as_posix() + "/" * path.is_dir()
    return f"{url.rstrip('/')}/{quote(inside)}"


# ------------------------------------------------------------------------------------------------------------ gathering


def _numbers(summary: Summary) -> dict[str, str]:
    numbers = {
        "gridcells": f"{summary.cells}",
        "products found": f"{summary.products}",
        "selected": f"{summary.selected}",
        "composites": f"{summary.written + summary.kept}",
        "written now": f"{summary.written}",
        "without a scene": f"{summary.no_scene}",
        "failures": f"{summary.failures}",
    }
    if summary.owned:
        numbers["pixels with a value"] = f"{100 * summary.valid_share:.1f} %"
    if summary.downloaded:
        numbers["downloaded"] = f"{summary.downloaded / 1e9:.2f} GB"
    return numbers


def _composites(workspace: Workspace, parameters: RunParameters) -> list[Row]:
    """Rows of the index: composites of the cells, periods and bands of the run."""
    cells = set(pd.read_csv(workspace.selected_gridcells, dtype=str)["cell_id"])
    labels = {period.label for period in parameters.periods}
    return [
        row
        for row in rows_in(workspace)
        if row["path"] and row["cell_id"] in cells and row["band"] in parameters.bands and row["period"] in labels
    ]


def failures_of(workspace: Workspace) -> pd.DataFrame:
    """Both tables of errors as text, what matters first, without columns in which nothing stands."""
    tables = [pd.read_csv(p, dtype=str) for p in (workspace.phase1_errors, workspace.phase2_errors) if p.exists()]
    if not tables:
        return pd.DataFrame()
    table = pd.concat(tables).fillna("")
    columns = ["reason", "step", "cell_id", "period", "band", "product"]
    return table[[name for name in columns if name in table and (table[name] != "").any()]]


def _dates(products: pd.DataFrame) -> list[Day]:
    days = []
    for date, group in products.groupby(products["sensing_time"].str[:10]):
        used = group["status"] == "selected"
        cloud = pd.to_numeric(group["cloud_cover"] if "cloud_cover" in group else pd.Series(dtype=str)).mean()
        others = Counter(group["status"][~used])
        left_out = ", ".join(f"{count} {status}" for status, count in sorted(others.items()))
        days.append(Day(str(date), len(group), int(used.sum()), None if pd.isna(cloud) else float(cloud), left_out))
    return [day for day in days if day.date]


def _overview(workspace: Workspace, used: pd.DataFrame) -> Picture | None:
    cells = [cell.polygon for cell in read_gridcells(workspace.selected_gridcells)]
    texts = used["footprint"].tolist() if "footprint" in used else []
    footprints = [footprint for footprint in from_wkt(texts) if footprint is not None]
    caption = f"{counted(len(cells), 'gridcell')}, and the footprints of {counted(len(footprints), 'product')}"
    return Picture("cells", caption, maps.cells_map(cells, footprints, ""))


def _pictures(workspace: Workspace, parameters: RunParameters, composites: Sequence[Row]) -> list[Picture]:
    cells = sorted({row["cell_id"] for row in composites})

    def rasters(period: str, band: str, statistic: str) -> list[Path]:
        paths = (workspace.composite(cell_id, band, statistic, period) for cell_id in cells)
        return [path for path in paths if path.exists()]

    return pictures_of(parameters, rasters, f"{workspace.work_dir.name}: {counted(len(cells), 'cell')}")


def _thumbnails(workspace: Workspace, parameters: RunParameters, composites: Sequence[Row]) -> list[Picture]:
    """Those composites that have the fewest values first: they are the ones to look at."""
    shares: dict[tuple[str, str], float] = {}
    for row in composites:
        key = row["cell_id"], row["period"]
        shares[key] = min(shares.get(key, 1.0), float(row["valid_share"] or 0.0))
    chosen = sorted(shares, key=lambda key: (shares[key], key))[:_MOST_THUMBNAILS]
    bands = TRUE_COLOUR if set(TRUE_COLOUR) <= set(parameters.bands) else parameters.bands[:1]
    statistic, pictures = parameters.statistic_names[0], []
    for cell_id, period in chosen:
        paths = [workspace.composite(cell_id, band, statistic, period) for band in bands]
        if all(path.exists() for path in paths):
            caption = " ".join(filter(None, (cell_id, period, f"{100 * shares[cell_id, period]:.0f} %")))
            pictures.append(Picture(cell_id, caption, thumbnail(paths, _SIDE)))
    return pictures


def _paths(workspace: Workspace) -> list[Path]:
    return [
        workspace.composites,
        workspace.composite_index,
        workspace.scene_index,
        workspace.query_manifest,
        workspace.run_record,
        workspace.phase1_errors,
        workspace.phase2_errors,
        workspace.logs,
    ]


# ---------------------------------------------------------------------------------------------------------------- words


def _link(path: Path) -> str:
    """The path as code; as a link if a server shows it."""
    address = address_of(path)
    return f"[{_cell(str(path))}]({address})" if address else _cell(str(path))


def _table(title: str, rows: Mapping[str, Any]) -> str:
    lines = [f"| {title} | |", "|---|---|"]
    return "\n".join([*lines, *(f"| {key} | {_cell(value)} |" for key, value in rows.items())])


def _cell(value: Any) -> str:
    """A value as code, so that Markdown does not interpret it."""
    text = " ".join(_text(value).replace("`", "'").replace("|", "\\|").split())
    return f"`{text}`" if text else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
