"""The tables of a run: scene index, errors of both phases, composite index, and the record of the run itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from s2sr_core import __version__
from s2sr_core.composites.composite import Outcome
from s2sr_core.composites.composite_index import (
    COLUMNS,
    Row,
    checked_rows,
    key_of_row,
    listed_rows,
    recorded_rows,
    row_of,
)
from s2sr_core.composites.records import inputs_in
from s2sr_core.files import read_record, shown, write_record, written_atomically
from s2sr_core.geo import geometry
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.geo.lattice import WGS84
from s2sr_core.outputs.summary import Summary
from s2sr_core.parameters import RunParameters
from s2sr_core.products.safe import Product
from s2sr_core.run_context import RunContext
from s2sr_core.scenes.scene import Preparation, Scene
from s2sr_core.selection.candidates import Candidate
from s2sr_core.selection.line import Result
from s2sr_core.workspace import Workspace

_ERROR_COLUMNS = ("band", "step", "reason")


def write_scene_index(path: Path, results: Sequence[Result], bands: Sequence[str]) -> None:
    """One row for each product found, in the order of ``results``."""
    rows = [_scene_row(result.candidate, result.preparation, bands) for result in results]
    columns = [*_NAME_COLUMNS, *(f"offset_{band}" for band in bands), "offset_source", *_SCENE_COLUMNS]
    _write_table(path, rows, columns)


_NAME_COLUMNS = (
    "product",
    "status",
    "reason",
    "mission",
    "tile",
    "sensing_time",
    "relative_orbit",
    "baseline",
    "cloud_cover",
)
_SCENE_COLUMNS = ("notes", "valid_share", "cells", "crs", "band_files", "path", "footprint")


def _scene_row(candidate: Candidate[Product], preparation: Preparation | None, bands: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "product": candidate.title,
        "status": candidate.status,
        "reason": candidate.reason,
        "path": candidate.path,
    }
    if (name := candidate.name) is not None:
        row |= {
            "mission": name.mission,
            "tile": name.tile,
            "sensing_time": f"{name.sensing_time:%Y-%m-%dT%H:%M:%SZ}",
            "relative_orbit": name.relative_orbit,
            "baseline": name.baseline,
        }
    if (product := candidate.product) is not None:
        offsets = [product.offset(band) for band in bands]
        sources = {offset.source for offset in offsets}
        row |= {f"offset_{offset.band}": offset.dn for offset in offsets}
        row |= {
            "offset_source": sources.pop()
            if len(sources) == 1
            else " ".join(f"{offset.band}={offset.source}" for offset in offsets),
            "cloud_cover": product.cloud_cover,
            "notes": "; ".join(product.notes),
            "path": product.path,
            "footprint": "" if product.footprint is None else product.footprint.wkt,
        }
    if preparation is not None and candidate.status == "selected":
        if preparation.errors:
            errors = [f"{error.band} {error.reason}" if error.band else error.reason for error in preparation.errors]
            row["reason"] = "; ".join([*errors, *filter(None, [candidate.reason])])
        if (scene := preparation.scene) is None:
            row["status"] = "failed"
        else:
            row |= _prepared_columns(scene)
    return row


def _prepared_columns(scene: Scene) -> dict[str, Any]:
    files = [scene.scl, *(band.file for band in scene.bands if not scene.is_not_needed)]
    columns = {
        "valid_share": round(scene.valid_share, 6),
        "cells": " ".join(scene.cells),
        "crs": _crs_name(scene.grid.crs),
        "band_files": ";".join(f"{file.band}={file.path.relative_to(scene.product.path)}" for file in files),
    }
    if notes := [*scene.product.notes, *scene.notes, *(file.note for file in files if file.note)]:
        columns["notes"] = "; ".join(notes)
    if not scene.cells:
        columns |= {"status": "no cell", "reason": "its images touch no selected gridcell"}
    elif scene.is_not_needed:
        columns |= {"status": "not needed", "reason": scene.not_needed_because}
    return columns


def _crs_name(crs: str) -> str:
    reference = geometry.spatial_reference(crs)
    authority, code = reference.GetAuthorityName(None), reference.GetAuthorityCode(None)
    return f"{authority}:{code}" if authority and code else crs


def write_phase1_errors(path: Path, results: Sequence[Result]) -> None:
    """Every error of phase 1: product, band, step, reason."""
    candidates = [result.candidate for result in results if result.candidate.status == "failed"]
    rows: list[dict[str, Any]] = [
        {"product": candidate.title, "step": candidate.step, "reason": candidate.reason} for candidate in candidates
    ]
    preparations = [result.preparation for result in results if result.preparation is not None]
    rows += [
        {"product": error.product, "band": error.band, "step": error.step, "reason": error.reason}
        for preparation in preparations
        for error in preparation.errors
    ]
    _write_errors(path, rows, ("product", *_ERROR_COLUMNS))


def write_phase2_errors(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Every composite that failed: cell, period, band, step, reason."""
    rows = [
        {
            "cell_id": outcome.cell_id,
            "period": outcome.period,
            "band": outcome.band,
            "step": outcome.step,
            "reason": outcome.reason,
        }
        for outcome in outcomes
        if outcome.status == "failed"
    ]
    _write_errors(path, rows, ("cell_id", "period", *_ERROR_COLUMNS))


def _write_errors(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Without an error there is no file; one of an earlier run is removed."""
    if rows:
        _write_table(path, rows, columns)
    else:
        path.unlink(missing_ok=True)


def update_composite_index(context: RunContext, outcomes: Sequence[Outcome]) -> list[Row]:
    """Write the index of all composites in the folder that are on the run's lattice: this run's and earlier ones'.

    Returns the rows of composites that remain of another lattice; the index leaves them out.
    """
    workspace, lattice = context.workspace, run_lattice(context.parameters)
    rows = {key_of_row(row): row for row in (row_of(workspace, outcome) for outcome in outcomes)}
    last = read_record(workspace.run_record) or {}
    same_lattice = _with_crs(last.get("lattice")) == lattice
    listed = listed_rows(workspace)
    remaining = recorded_rows(workspace) if listed is None else []
    for row in listed or []:
        key = key_of_row(row)
        if key in rows:
            continue
        if not row["path"] or (same_lattice and (workspace.composites / row["path"]).exists()):
            rows[key] = row
        else:
            remaining.append(row)
    others_before = last.get("other_lattice")
    remaining += checked_rows(workspace, others_before if isinstance(others_before, list) else [])
    others = []
    for row in remaining:
        key = key_of_row(row)
        record = read_record((workspace.composites / row["path"]).with_suffix(".json")) if row["path"] else None
        if key in rows or record is None:
            continue
        own = (inputs_in(record) or {}).get("lattice")
        if not isinstance(own, dict):
            continue
        if _with_crs({"crs": own.get("crs"), "tap": own.get("tap"), "tr": [own.get("dx"), own.get("dy")]}) == lattice:
            rows[key] = row
        else:
            others.append(row)
    _write_table(workspace.composite_index, [rows[key] for key in sorted(rows)], COLUMNS)
    return others


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    printable = [
        {key: shown(str(value)) if isinstance(value, str | Path) else value for key, value in row.items()}
        for row in rows
    ]
    table = pd.DataFrame(printable, columns=list(columns), dtype=object)
    with written_atomically(path) as temporary:
        table.to_csv(temporary, index=False)


# ------------------------------------------------------------------------------------------------ record of the run


def run_lattice(parameters: RunParameters) -> dict[str, Any]:
    """The lattice of a run as its record holds it; without ``tap`` each cell has its own anchor."""
    return {"crs": parameters.crs, "tap": parameters.tap, "tr": list(parameters.pixel_size)}


def _with_crs(lattice: object) -> object:
    """A lattice of a record; earlier versions knew one CRS, and named none."""
    return {**lattice, "crs": lattice.get("crs") or WGS84} if isinstance(lattice, dict) else lattice


def begin_run(workspace: Workspace) -> None:
    """Remove the lattice from the run's record, because composites are about to change.

    If this run is killed, the next one reads the record of each composite instead.
    """
    record = read_record(workspace.run_record)
    if record is not None:
        write_record(workspace.run_record, {**record, "lattice": None})


def write_manifests(
    context: RunContext, outcomes: Sequence[Outcome], summary: Summary, fingerprint: str | None = None
) -> Summary:
    """``indices/composite_index.csv``, ``logs/phase2_errors.csv`` and the run's record, written last.

    Returns ``summary`` with what was found of another lattice.
    """
    workspace = context.workspace
    write_phase2_errors(workspace.phase2_errors, outcomes)
    others = update_composite_index(context, outcomes)
    summary = summary.with_other_lattice(len(others))
    write_run_record(context, summary.as_record(), others, fingerprint)
    return summary


def write_run_record(
    context: RunContext, summary: Mapping[str, Any], other_lattice: Sequence[Row], fingerprint: str | None = None
) -> None:
    """Parameters, lattice, versions and outcome of the run, and the composites of another lattice that remain.

    By ``fingerprint`` the next run finds out whether anything has changed.
    """
    write_record(
        context.workspace.run_record,
        {
            "software": f"s2sr {__version__}",
            "gdal": gdal.__version__,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "lattice": run_lattice(context.parameters),
            "parameters": json.loads(context.parameters.model_dump_json()),
            "summary": dict(summary),
            "other_lattice": list(other_lattice),
            "fingerprint": fingerprint,
        },
    )
