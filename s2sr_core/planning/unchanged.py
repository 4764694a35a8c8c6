"""Is there anything to do? Not if all that decides about composites, and the composites, are as the last run left them.

A run that finds out so saves a look at every product and composite.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import s2sr_core
from s2sr_core import __version__
from s2sr_core.cells.gridcells import Gridcell
from s2sr_core.composites.records import code_digest
from s2sr_core.files import read_record
from s2sr_core.geo.gdal_runtime import gdal
from s2sr_core.outputs.summary import Summary
from s2sr_core.run_context import RunContext
from s2sr_core.selection.candidates import Candidate
from s2sr_core.sources.source import Source

#: Parameters that select cells and products, which are known when this is asked, or that say how and where to work. All
#: others decide what composites are made of the products that count, and what is made with them.
_NOT_DECISIVE = frozenset(
    {
        *("bbox", "grid_csv", "start", "end", "months", "tiles", "min_baseline", "max_cloud_cover", "keep_duplicates"),
        *("source", "access", "download", "imagery"),
        *("work_dir", "download_connections", "engine", "overwrite", "keep_tmp"),
        *("workers", "cluster", "scheduler", "site"),
    }
)


def fingerprint(
    context: RunContext, cells: Sequence[Gridcell], found: Sequence[Candidate[Any]], manifest: bytes
) -> str | None:
    """A digest of all that the composites of a run depend on, and of the composites themselves.

    Files count by name, size, time and inode. ``manifest`` is the text of the query manifest with the products that are
    not needed; empty if there is none. None if the run must look at everything: products are missing or failed, or
    it was asked to.
    """
    parameters = context.parameters
    known = _fingerprint_before_query(context, cells, manifest)
    if known is None or any(candidate.status == "failed" for candidate in found):
        return None
    folders = {
        candidate.path or parameters.imagery_folder / f"{candidate.title}.SAFE": candidate.status
        for candidate in found
        if candidate.status in ("selected", "duplicate", "twin")  # SCL may show that a repetition is none
    }
    if not all(folder.is_dir() for folder, status in folders.items() if status == "selected"):
        return None
    try:
        content = {
            "found": sorted((candidate.title, candidate.status, candidate.reason) for candidate in found),
            "products": {str(folder): list(_files(folder)) for folder in sorted(folders)},
        }
    except OSError:
        return None
    return f"{known}{_digest(content)}"


def fingerprint_of_run(
    context: RunContext, cells: Sequence[Gridcell], found: Sequence[Candidate[Any]], manifest: bytes, summary: Summary
) -> str | None:
    """That of a run that is over, for its record.

    None if the next run may do better, though no file has changed: what could not be used, replaced or not, is tried
    again.
    """
    if summary.failures or summary.replaced_products:
        return None
    return fingerprint(context, cells, found, manifest)


def manifest_of(context: RunContext, source: Source[Any]) -> bytes:
    """The query manifest as it is now; empty if there is none, or if ``source`` needs none."""
    try:
        return context.workspace.query_manifest.read_bytes() if source.fetches else b""
    except OSError:
        return b""


def may_be_unchanged(context: RunContext, cells: Sequence[Gridcell], manifest: bytes) -> bool:
    """Whether the products that the source has now decide if there is anything to do; all else is as it was."""
    known = _fingerprint_before_query(context, cells, manifest)
    last = (read_record(context.workspace.run_record) or {}).get("fingerprint")
    return known is not None and isinstance(last, str) and last.startswith(known)


def _fingerprint_before_query(context: RunContext, cells: Sequence[Gridcell], manifest: bytes) -> str | None:
    """The part of the fingerprint for which the source need not be asked."""
    parameters, workspace = context.parameters, context.workspace
    if parameters.overwrite or parameters.keep_tmp or parameters.check_files == "always":
        return None
    if parameters.stage not in ("all", "composite"):
        return None
    try:
        return _digest(
            {
                "software": [__version__, code_digest(Path(s2sr_core.__file__).parent), gdal.__version__],
                "parameters": json.loads(parameters.model_dump_json(exclude=set(_NOT_DECISIVE))),
                "cells": [(cell.cell_id, cell.wkt) for cell in cells],
                # With ``every``, labels say to which period a sensing time belongs, and not how far the window cuts it.
                "periods": [period.label for period in parameters.periods],
                "manifest": hashlib.sha256(manifest).hexdigest(),
                "masks": [] if parameters.mask_dir is None else list(_files(parameters.mask_dir)),
                "catalogue": [path.exists() for path in (workspace.collection, workspace.tile_index)],
                "composites": {cell.cell_id: list(_files(workspace.cell_folder(cell.cell_id))) for cell in cells},
            }
        )
    except OSError:
        return None


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _files(folder: Path) -> Iterator[tuple[str, int, int, int]]:
    """Name, size (bytes), time (ns) and inode of each file below ``folder``, sorted; none if it does not exist.

    Raises
    ------
    OSError
        If a file cannot be looked at, or a folder is a link, which would have to be followed.
    """
    # Of tens of thousands of files, and more than once: as text, which takes a quarter of the time of paths.
    for place, folders, names in os.walk(folder):
        folders.sort()
        if any(os.path.islink(f"{place}/{name}") for name in folders):  # noqa: PTH114
            raise OSError(errno.ELOOP, "is a link", place)
        below = place[len(str(folder)) + 1 :]
        for name in sorted(names):
            status = os.stat(f"{place}/{name}")  # noqa: PTH116
            relative = f"{below}/{name}" if below else name
            yield relative, status.st_size, status.st_mtime_ns, status.st_ino


def unchanged(context: RunContext, now: str | None) -> Summary | None:
    """The summary of a run that does nothing, if the last run left everything as it is ``now``; else None."""
    workspace = context.workspace
    last = read_record(workspace.run_record) or {}
    recorded = last.get("summary")
    if now is None or last.get("fingerprint") != now or not isinstance(recorded, dict):
        return None
    if not (workspace.scene_index.exists() and workspace.composite_index.exists()):
        return None
    counts: dict[str, Any] = {field.name: recorded.get(field.name) for field in fields(Summary)}
    if not all(isinstance(count, int) for count in counts.values()):
        return None
    summary = Summary(**counts)
    return replace(summary, written=0, kept=summary.written + summary.kept, downloaded=0)
